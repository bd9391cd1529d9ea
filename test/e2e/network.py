"""Network namespaces on a bridge, for tests that need networks of their own (root only)."""
import ctypes
import os
import shutil
import subprocess
import threading

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def run(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def can_make_spaces():
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    name = f"nbt{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return False
    try:
        with_link = subprocess.run(["ip", "-n", name, "link", "add", "x0", "type", "veth", "peer", "name", "x1"], check=False,
                                   capture_output=True)
        return with_link.returncode == 0
    finally:
        run("ip", "netns", "del", name)


class Bridge:
    """Spaces NAME that see each other: 10.77.0.N, and fe80:: addresses."""

    def __init__(self):
        self.prefix, self.names = f"nb{os.getpid()}", []
        self.bridge = self.space("br")
        self.ip("br", "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        self.ip("br", "link", "set", "bridge", "up")

    def space(self, name):
        space = f"{self.prefix}{name}"
        run("ip", "netns", "add", space)
        self.names.append(space)
        run("ip", "-n", space, "link", "set", "lo", "up")
        return space

    def ip(self, name, *words):
        return run("ip", "-n", f"{self.prefix}{name}", *words)

    def add(self, name, four=True, six=True):
        space, number = self.space(name), len(self.names)
        run("ip", "link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", f"to{name}", "netns", self.bridge)
        for what in ("all", "default", "eth0"):
            with_six = 0 if six else 1
            run("ip", "netns", "exec", space, "sysctl", "-qw", f"net.ipv6.conf.{what}.disable_ipv6={with_six}",
                f"net.ipv6.conf.{what}.accept_dad=0")
        self.ip("br", "link", "set", f"to{name}", "master", "bridge", "up")
        if four:
            self.ip(name, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
        self.ip(name, "link", "set", "eth0", "up")
        return space

    def address(self, name):
        return f"10.77.0.{self.names.index(self.prefix + name) + 1}"

    def slow(self, name, mbit):
        """What goes to it takes its time."""
        run("tc", "-n", self.bridge, "qdisc", "add", "dev", f"to{name}", "root", "tbf", "rate", f"{mbit}mbit", "burst", "64kb",
            "latency", "200ms")

    # What is cut is cut in silence: packets are lost, no connection hears of it.
    def cut(self, name, off=True):
        """Its cable."""
        self.ip("br", "link", "set", f"to{name}", "down" if off else "up")

    def part(self, *names, off=True):
        """They do not reach each other any more, but all others."""
        for name in names:
            self.ip("br", "link", "set", "dev", f"to{name}", "type", "bridge_slave", "isolated", "on" if off else "off")

    def reset(self, name, address, queued=4096):
        """Resets its connections to an address in which so many bytes wait. Returns how many those are."""
        n = 0
        for line in self.run_in(name, "ss", "-tnH", "state", "established", "dst", address).splitlines():
            words = line.split()
            if int(words[1]) >= queued:
                self.run_in(name, "ss", "-K", "src", words[2], "dst", words[3])
                n += 1
        return n

    def run_in(self, name, *words):
        return run(*self.command(name, *words))

    def command(self, name, *words):
        return ["ip", "netns", "exec", f"{self.prefix}{name}", *words]

    def close(self):
        for space in self.names:
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
        self.names = []


def inside(space, call):
    """Calls it in a thread that lives in that space; returns its result."""
    results = []

    def work():
        try:
            with open(f"/var/run/netns/{space}", "rb") as f:
                if libc.setns(f.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append((call(), None))
        except BaseException as e:  # told to the caller below
            results.append((None, e))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    value, error = results[0]
    if error:
        raise error
    return value

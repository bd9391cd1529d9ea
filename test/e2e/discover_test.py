#!/usr/bin/python3
"""usage: discover_test.py NEBULUS [--full] [TEST...]

Discovery with real daemons and a real avahi-daemon, in network namespaces on a bridge: who sees whom and how soon, names that are
taken, several on one host, IPv6 alone, and that a member which has moved is found again. Skipped (77) without root or avahi.
--full also waits for a killed node to be missed; mdns_test does that with a fake clock.
"""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import Daemon, check, end_process, run_tests, start_process, started, wait_until
from network import Bridge, can_make_spaces, inside

NEBULUS = sys.argv[1]
TOOLS = ("avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon", "sysctl")
SOON, KILLED = 3.0, 25.0  # seconds: what is promised
API, CLUSTER = 20420, 20421
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""


class Node(Daemon):
    """A daemon in a space of the bridge, known to the others as `name`."""

    def __init__(self, net, space, name, number=0, **settings):
        self.net, self.space, self.name = net, net.prefix + space, name
        self.home = os.path.join(net.folder, f"{space}{number}")
        settings = {"discovery": "on", "cluster": f"0.0.0.0:{CLUSTER + 10 * number}", **settings}
        self.given = {"name": name, "port": API + 10 * number, **settings}
        self.begin()

    def begin(self):
        super().__init__("ip", self.home, words=["netns", "exec", self.space, NEBULUS], **self.given)

    def request(self, *arguments, **options):
        return inside(self.space, lambda: super(Node, self).request(*arguments, **options))

    def command(self, *words):
        return ["ip", "netns", "exec", self.space, NEBULUS, *words]

    @property
    def env(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}
        return {**env, "NEBULUS_HOME": self.home, "NEBULUS_API": f"127.0.0.1:{self.port}"}

    def cli(self, *words, code=0):
        done = subprocess.run(self.command(*words), env=self.env, capture_output=True, text=True, check=False, timeout=60)
        check(done.returncode == code, f"{words}: {done.returncode}: {done.stderr}")
        return done.stdout

    def nodes(self):
        return self.get("/nebulus/v1/nodes").json

    def sees(self, instance, state="found"):
        found = [one for one in self.nodes()["discovered"] if one["instance"] == instance and one["state"] == state]
        return found[0] if found else None

    def wait_sees(self, instance, state="found", patience=None):
        return wait_until(f"{self.name} in {self.space} sees {instance} as {state}", lambda: self.sees(instance, state),
                          **({"patience": patience} if patience else {}))

    def instance(self):
        told = self.status()["discovery"]
        return told["instance"] if told.get("claimed") else None


class Network(Bridge):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="nbd-")  # short: the bus has its socket in it
        self.env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.folder}/bus"}

    def log(self, name):
        return open(os.path.join(self.folder, name), "ab")  # closed when the process has it

    def start_avahi(self, space):
        for name, text in (("bus.conf", BUS % f"{self.folder}/bus"),
                           ("avahi.conf", "[server]\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-workstation=no\n")):
            with open(os.path.join(self.folder, name), "w", encoding="ascii") as f:
                f.write(text)
        script = (f"mount -t tmpfs none /run && mkdir /run/avahi-daemon && chown avahi:avahi /run/avahi-daemon && "
                  f"exec avahi-daemon -f {self.folder}/avahi.conf --no-drop-root --no-chroot --no-rlimits")
        with self.log("avahi.log") as log:
            start_process(["dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork"], log)
            wait_until("the bus is there", lambda: os.path.exists(f"{self.folder}/bus"))
            start_process(self.command(space, "unshare", "-m", "sh", "-c", script), log, self.env)
        wait_until("avahi-daemon answers", lambda: self.browse("_none._tcp") is not None)

    def browse(self, service="_nebulus._tcp"):
        """What avahi-browse resolves: {(name, family): [host, address, port, text]}"""
        done = subprocess.run(["avahi-browse", "-rptk", service], env=self.env, capture_output=True, text=True, check=False,
                              timeout=30)
        rows = [line.split(";", 9) for line in done.stdout.splitlines() if line.startswith("=;")]
        unescape = lambda text: re.sub(r"\\(\d{3})", lambda m: chr(int(m[1])), text)
        return {(unescape(r[3]), r[2]): r[6:] for r in rows} if done.returncode == 0 else None

    def publish(self, name, *text):
        with self.log("publish.log") as log:
            return start_process(["avahi-publish", "-s", name, "_nebulus._tcp", str(CLUSTER), *text], log, self.env)

    def close(self):
        for process in list(started):
            end_process(process, signal.SIGKILL)
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def network(*spaces, **families):
    net = Network()
    try:
        for space in spaces:
            net.add(space, **families.get(space, {}))
        yield net
    except BaseException:
        for where, _, names in os.walk(net.folder):
            for name in names:
                if name.endswith(".log"):
                    with open(os.path.join(where, name), encoding="utf-8", errors="replace") as f:
                        print(f"---- {where}/{name}\n{f.read()[-2000:]}", file=sys.stderr)
        raise
    finally:
        net.close()


def test_with_avahi():
    with network("a", "b", "c") as net:
        net.start_avahi("c")
        a = Node(net, "a", "prime")
        wait_until("it has its name", a.instance)
        b = Node(net, "b", "edge")
        a.wait_sees("edge", patience=SOON)
        b.wait_sees("prime", patience=SOON)
        beside = Node(net, "c", "beside")  # on avahi's own host
        beside.wait_sees("prime", patience=SOON)
        a.wait_sees("beside", patience=SOON)
        print(a.cli("nodes", code=5))

        def resolved():
            seen = net.browse()
            return {("prime", "IPv4"), ("edge", "IPv6"), ("beside", "IPv4")} <= set(seen) and seen
        seen = wait_until("avahi-browse resolves all of them", resolved)
        host, address, port, text = seen["prime", "IPv4"]
        check(address == "10.77.0.2" and port == "0" and re.fullmatch(r"nebulus-[0-9a-f]{16}\.local", host), seen)
        check('"name=prime"' in text and '"txtvers=1"' in text and '"version=' in text, seen)

        hostile = net.publish("Guest \x1b[1m", "name=\x1b]0;owned\x07", "cluster=" + "ab" * 16, "version=9.9", "junk")
        guest = wait_until("the published service is seen", lambda: next(
            (one for one in a.nodes()["discovered"] if one["instance"].startswith("Guest")), None), patience=SOON)
        check(guest["name"] == r"\x1B]0;owned\x07" and guest["instance"] == r"Guest \x1B[1m", guest)
        check(guest["cluster"] == "ab" * 16 and guest["version"] == "9.9" and guest["port"] == CLUSTER, guest)
        wait_until("it is located", lambda: "10.77.0.4:20421" in a.sees(guest["instance"])["addresses"], patience=SOON)
        table = a.cli("nodes", code=5)
        check("\x1b" not in table and r"\x1B]0;owned" in table and "no cluster" in table, table)
        end_process(hostile)
        a.wait_sees(guest["instance"], "gone", patience=SOON)
        b.stop()
        a.wait_sees("edge", "gone", patience=SOON)
        wait_until("avahi misses it, too", lambda: ("edge", "IPv4") not in net.browse(), patience=2 * SOON)
        if "--full" in sys.argv:
            begin = time.monotonic()
            os.killpg(beside.process.pid, signal.SIGKILL)
            a.wait_sees("beside", "gone", patience=KILLED)
            print(f"a killed node was missed after {time.monotonic() - begin:.1f} s")
        else:
            beside.stop()
        a.stop()


def test_names_hosts_and_families():
    """Three of one name, two of them on one host; another sees them over IPv6 alone."""
    with network("a", "b", "s", s={"four": False}) as net:
        many = [Node(net, "a", "node"), Node(net, "a", "node", 1, cluster="off"), Node(net, "b", "node")]
        six = Node(net, "s", "six", cluster=f"[::]:{CLUSTER}")
        names = wait_until("all have names of their own",
                           lambda: all(n.instance() for n in many) and {n.instance() for n in many})
        check(names == {"node", "node (2)", "node (3)"}, names)
        for name in names:
            found = wait_until("it is located over IPv6", lambda name=name: [
                a for a in (six.sees(name) or {"addresses": []})["addresses"] if a.startswith("[fe80::")])
            check(all(a.endswith("%eth0]") for a in found), found)
        for n in many:
            wait_until("it sees all the others", lambda n=n: all(n.sees(name) for name in names - {n.instance()}))
            check(n.wait_sees("six")["addresses"][0].startswith("[fe80::"), n.nodes())
        for n in (*many, six):
            n.stop()


@contextlib.contextmanager
def invitation(net, node, *words):
    """The token of an invitation that somebody uses."""
    with open(os.path.join(net.folder, "token"), "w+", encoding="ascii") as out:
        invite = start_process(node.command("invite", *words), out, node.env)
        yield wait_until("a token is printed", lambda: re.search(r"^neb1-\S+$", open(out.name, encoding="ascii").read(), re.M))[0]
        check(invite.wait(60) == 0, "the invitation failed")
        started.remove(invite)


def test_inviter_that_moved():
    """No address of the token leads to the inviter: it is found by the cluster's fingerprint, among those who only say so."""
    with network("a", "b", "c") as net:
        a, b = Node(net, "a", "prime"), Node(net, "b", "edge")
        a.cli("cluster", "init", "home", "--no-passphrase")
        root = a.nodes()["cluster"]["root"]
        net.start_avahi("c")
        net.publish("A liar", "cluster=" + root[:32], "name=liar", "txtvers=1")
        wait_until("the liar is heard", lambda: [n for n in b.nodes()["discovered"] if n["cluster"] == root[:32]
                                                 and n["name"] == "liar" and n["addresses"]])
        with invitation(net, a, "--address", f"10.77.0.2:{CLUSTER + 1}") as token:
            told = b.cli("join", token, "--json")
        check(json.loads(told)["cluster"] == "home", told)
        wait_until("they see each other", lambda: all(
            n["state"] in ("up", "self") for node in (a, b) for n in node.nodes()["nodes"]))
        check({n["name"] for n in b.nodes()["nodes"]} == {"prime", "edge"}, b.nodes())
        a.cli("node", "set", "edge", "--role", "edge")
        wait_until("its role is told to the network", lambda: a.sees("edge")["role"] == "edge")
        a.stop()
        b.stop()


def test_member_that_moved():
    """After both have moved each address of the roster is wrong; discovery finds the new ones, and the keys decide."""
    with network("a", "b") as net:
        a, b = Node(net, "a", "prime"), Node(net, "b", "edge")
        a.cli("cluster", "init", "home", "--no-passphrase")
        with invitation(net, a) as token:
            b.cli("join", token)
        up = lambda: any(n["name"] == "edge" and n["state"] == "up" for n in a.nodes()["nodes"])
        wait_until("they are paired", up)
        found = wait_until("it is discovered as a member", lambda: (a.sees("edge") or {}).get("member") and a.sees("edge"))
        check(f"10.77.0.3:{CLUSTER}" in found["addresses"] and found["cluster"], found)
        root = a.nodes()["cluster"]["root"]
        check(root.startswith(found["cluster"]) and found["id"] != "", found)
        check("DISCOVERED" not in a.cli("nodes"), "members are shown twice")
        for space, address in (("a", "10.77.0.66/24"), ("b", "10.77.0.77/24")):
            net.ip(space, "link", "set", "eth0", "down")
            net.ip(space, "address", "flush", "dev", "eth0")
            net.ip(space, "address", "add", address, "dev", "eth0")
        wait_until("it is missed", lambda: not up())
        for space in "ab":
            net.ip(space, "link", "set", "eth0", "up")
        wait_until("it is found again", up)
        addresses = {n["address"] for node in (a, b) for n in node.nodes()["nodes"]}
        check(addresses & {f"10.77.0.66:{CLUSTER}", f"10.77.0.77:{CLUSTER}"}, addresses)
        links = lambda: a.log().count("peer edge is up")
        before = links()
        net.ip("b", "address", "del", "10.77.0.77/24", "dev", "eth0")  # a new lease, while the cable stays
        net.ip("b", "address", "add", "10.77.0.88/24", "dev", "eth0")
        four = lambda: [at for at in (a.sees("edge") or {"addresses": []})["addresses"] if not at.startswith("[")]
        wait_until("the new address replaces the old one", lambda: four() == [f"10.77.0.88:{CLUSTER}"])
        wait_until("the link is made anew", lambda: links() > before and up())
        if "--full" in sys.argv:  # a machine that stands still for longer than records live, and wakes
            b.process.send_signal(signal.SIGSTOP)
            a.wait_sees("edge", "gone")
            b.process.send_signal(signal.SIGCONT)
            wait_until("they find each other again", lambda: up() and a.sees("edge") and b.sees("prime"))
        a.stop()
        b.stop()


def main():
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing or not can_make_spaces():
        print(f"SKIP: {', '.join(missing) + ' not installed' if missing else 'network namespaces need root'}")
        sys.exit(77)
    run_tests([test_with_avahi, test_names_hosts_and_families, test_inviter_that_moved, test_member_that_moved],
              [word for word in sys.argv[2:] if word != "--full"])


if __name__ == "__main__":
    main()

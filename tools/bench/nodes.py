"""What benchmarks of two nodes share: daemons in network namespaces with a shaped link between them, and timed requests."""
import contextlib
import ctypes
import http.client
import json
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

CLONE_NEWNET = 0x40000000
started, spaces = [], []


def run(*command, **options):
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def clean_up():
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in started:
        process.wait()
    started.clear()
    for space in spaces:
        subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
    spaces.clear()


def run_main(main):
    """Runs a benchmark; whatever happens, nothing of it is left."""
    try:
        main()
    finally:
        clean_up()
        sys.stdout.flush()


def receive_on_core(space, link, core):
    """What comes in over a link is processed by its node's own core (RPS): a veth pair would have the sender's do it."""
    run("ip", "netns", "exec", space, "sh", "-c", f"echo {1 << core:x} > /sys/class/net/{link}/queues/rx-0/rps_cpus")


def make_spaces(rate):
    """Two network namespaces with a link of `rate` Gbit/s between them; returns their addresses."""
    a, b = f"nbp{os.getpid()}", f"nbe{os.getpid()}"
    for space in (a, b):
        run("ip", "netns", "add", space)
        spaces.append(space)
    run("ip", "link", "add", "nbp", "netns", a, "type", "veth", "peer", "name", "nbe", "netns", b)
    for i, (space, link, address) in enumerate(((a, "nbp", "10.98.0.1"), (b, "nbe", "10.98.0.2"))):
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", link)
        run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "-n", space, "link", "set", link, "up")
        receive_on_core(space, link, i % os.cpu_count())
        if rate:
            # 2 ms, but no less than two of the largest packets, so that they pass whole, as a network card takes them (TSO).
            burst = max(160_000, int(rate * 1e9 / 8 / 500))
            run("tc", "-n", space, "qdisc", "add", "dev", link, "root", "tbf", "rate", f"{int(rate * 1e6)}kbit",
                "burst", str(burst), "latency", "20ms")
    return "10.98.0.1", "10.98.0.2"


def enter(space):
    """Moves this thread into a network namespace, where the API of its node is."""
    with open(f"/var/run/netns/{space}", encoding="ascii") as f:
        if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Node:
    """A daemon; `settings` are flags of `nebulus serve`."""

    def __init__(self, program, home, name, core, space, address, port, model, *settings):
        os.makedirs(home, mode=0o700)
        self.name, self.program, self.space, self.cluster = name, program, space, f"{address}:{port}"
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": home}
        self.at = ["ip", "netns", "exec", space] if space else []
        read, write = os.pipe()
        with open(os.path.join(home, "log"), "wb") as log:
            started.append(subprocess.Popen(
                [*self.at, "taskset", "-c", str(core), program, "serve", "--name", name, "--api", "127.0.0.1:0", "--cluster",
                 self.cluster, "--model", model, "--threads", "1", "--ctx", "10240", "--kv-cells", "12288",
                 "--keep", "0", "--profile", "off", *settings, "--ready-fd", str(write)],
                pass_fds=[write], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        os.close(write)
        with os.fdopen(read) as f:
            self.port = int(f.readline())
        self.env["NEBULUS_API"] = f"127.0.0.1:{self.port}"

    def said(self, words):
        """Whether its log holds these words."""
        with open(os.path.join(self.env["NEBULUS_HOME"], "log"), encoding="utf-8", errors="replace") as f:
            return words in f.read()

    def cli(self, *words, **options):
        return run(*self.at, self.program, *words, env=self.env, **options)


def wait_until(what, is_so, seconds=60):
    for _ in range(seconds * 10):
        if is_so():
            return
        time.sleep(0.1)
    raise SystemExit(f"in vain: {what}")


def get(port, path, method="GET", body=None):
    """What the API answers, as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, {"content-type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status}: {answer}")
    return answer


def post(port, path, body):
    return get(port, path, "POST", json.dumps(body))


def pair(a, b, model):
    a.cli("cluster", "init", "bench", "--no-passphrase")
    invite = subprocess.Popen([*a.at, a.program, "invite", "--address", a.cluster], env=a.env, text=True,
                              stdout=subprocess.PIPE)
    b.cli("join", "-", input=invite.stdout.readline())
    invite.wait()
    for node in (a, b):
        node.cli("load", model)
    wait_until("the nodes see each other",
               lambda: all(one["state"] in ("up", "self") for one in json.loads(a.cli("nodes", "--json"))["nodes"]))


class Sample:
    """One request: when each event with text came, in seconds since it was sent, and its trace."""

    def __init__(self, port, model, prompt, tokens, headers):
        body = json.dumps({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                           "stream": True})
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        if response.status != 200:
            raise SystemExit(f"a request failed: {response.status}: {response.read().decode(errors='replace')}")
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.times, self.text, answer = [], "", ""
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SystemExit(f"a request failed: {event['error']}")
            answer = event.get("id", answer)
            text = "".join(choice.get("text") or "" for choice in event.get("choices", []))
            if text:
                self.times.append(time.perf_counter() - begin)
                self.text += text
        self.total = time.perf_counter() - begin
        connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/nebulus/v1/traces/{answer}")
        self.trace = json.loads(connection.getresponse().read())
        connection.close()

    @property
    def ttft(self):
        return self.times[0]

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    def when(self, event, place, value=0):
        """Seconds until an event of at least that value, or None."""
        for one in self.trace["events"]:
            if one["event"] == event and one["place"] == place and one["value"] >= value:
                return one["ms"] / 1000
        return None


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def median_interval(values):
    """The 95 % confidence interval of the median, from order statistics: no assumption about how the values are spread. Fewer
    than six values cannot say that much; theirs is all of them."""
    values = sorted(values)
    n, drop, outside = len(values), 0, 0.0
    while drop < n:
        outside += 2 * math.comb(n, drop) / 2 ** n
        if outside > 0.05:
            break
        drop += 1
    at = max(0, drop - 1)
    return values[at], values[n - 1 - at]


def can_shape():
    if os.geteuid() or not shutil.which("tc") or not shutil.which("ip"):
        return False
    space = f"nbc{os.getpid()}"
    works = lambda *words: subprocess.run(words, check=False, capture_output=True).returncode == 0
    try:
        return works("ip", "netns", "add", space) and works("ip", "-n", space, "link", "set", "lo", "up")
    finally:
        works("ip", "netns", "del", space)


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{cpu}, {os.cpu_count()} cores, one per node; load average {os.getloadavg()[0]:.2f} at start"


def make_model(build, name, *shape):
    """A random model of that shape, made once per build; returns its path."""
    path = os.path.join(build, "models", f"{name}.gguf")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(path):
        run(os.path.join(build, "tools/mkmodel/mkmodel"), "random", path, *shape)
    return path


@contextlib.contextmanager
def two_nodes(program, model, rate, *settings):
    """A paired "prime" and "edge" behind a link of `rate` Gbit/s; settings: the flags of each. The caller is then where the
    first one's API is."""
    home = tempfile.mkdtemp(prefix="nebulus-bench-")
    try:
        addresses = make_spaces(rate)
        nodes = [Node(program, f"{home}/{name}", name, i % os.cpu_count(), spaces[i], addresses[i], 7421, model, *settings[i])
                 for i, name in enumerate(("prime", "edge"))]
        enter(spaces[0])
        pair(*nodes, name_of(model))
        yield nodes
    finally:
        clean_up()
        shutil.rmtree(home, ignore_errors=True)


def name_of(model):
    return os.path.basename(model).removesuffix(".gguf")


def free_ports(n):
    """Ports of 127.0.0.1 that nobody has."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def loopback_nodes(program, model, *settings):
    """The same pair without root: on loopback, as fast as it is; settings: flags of both."""
    home = tempfile.mkdtemp(prefix="nebulus-bench-")
    try:
        nodes = [Node(program, f"{home}/{name}", name, i % os.cpu_count(), None, "127.0.0.1", port, model, *settings)
                 for i, (name, port) in enumerate(zip(("prime", "edge"), free_ports(2)))]
        pair(*nodes, name_of(model))
        yield nodes
    finally:
        clean_up()
        shutil.rmtree(home, ignore_errors=True)

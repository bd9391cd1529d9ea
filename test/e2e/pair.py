"""Real nodes on loopback that are paired, and what the tests of hand-overs do with them."""
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import Daemon, Stream, check, end_process, free_port, started, wait_until
from network import inside

NEBULUS, MODELS = sys.argv[1:3]
RECALL, RANDOM, STATE = (os.path.join(MODELS, name) for name in ("recall.gguf", "handoff.gguf", "handoff_state.gguf"))
CHUNK = 64
SETTINGS = {"ctx": 2048, "kv_cells": 8192, "parallel": 6, "threads": 1, "chunk": CHUNK, "plan": "off",
            "keep": 0}  # what is computed from kept rows may differ in the last bit, which random models show


class Node(Daemon):
    """On loopback, or in a network namespace with an address of its own."""

    def __init__(self, home, name, model, space=None, address="127.0.0.1", **settings):
        self.name, self.home, self.space, self.cluster_port = name, home, space, free_port()
        self.given = {**SETTINGS, **settings}
        self.at = f"{address}:{self.cluster_port}"
        self.program = [*(("ip", "netns", "exec", space) if space else ()), NEBULUS]
        super().__init__(self.program[0], home, model, words=self.program[1:], name=name, cluster=self.at, **self.given)

    def inside(self, call):
        return inside(self.space, call) if self.space else call()

    def request(self, *arguments, **options):
        return self.inside(lambda: super(Node, self).request(*arguments, **options))

    def cli(self, *words, **options):
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": self.home,
               "NEBULUS_API": f"127.0.0.1:{self.port}"}
        done = subprocess.run([*self.program, *words], env=env, capture_output=True, text=True, check=False, timeout=120,
                              **options)
        check(done.returncode == 0, f"{words}: {done.returncode}: {done.stderr}")
        return done.stdout

    def ask(self, prompt, prefill=None, decode=None, handover=None, wire=None, **members):
        """A stream of a completion; where it is computed is up to the caller."""
        headers = {"x-nebulus-prefill": prefill, "x-nebulus-decode": decode, "x-nebulus-handover": handover,
                   "x-nebulus-wire": wire}
        headers = {k: v for k, v in headers.items() if v}
        return self.inside(lambda: Stream("127.0.0.1", self.port, "/v1/completions",
                                          {"prompt": prompt, "temperature": 0, **members}, headers))

    def trace(self, answer="latest"):
        return self.get(f"/nebulus/v1/traces/{answer}").json

    def sees(self, name):
        return any(one["name"] == name and one["state"] == "up" for one in self.get("/nebulus/v1/nodes").json["nodes"])


def join(a, b):
    """b joins a's cluster."""
    env = {**os.environ, "NEBULUS_HOME": a.home, "NEBULUS_API": f"127.0.0.1:{a.port}"}
    invite = subprocess.Popen([*a.program, "invite", "--address", a.at], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    started.append(invite)
    b.cli("join", "-", input=invite.stdout.readline())
    check(invite.wait(60) == 0, "the invitation failed")
    started.remove(invite)
    wait_until("the nodes see each other", lambda: a.sees(b.name) and b.sees(a.name))


def two_nodes(model=RANDOM, other=None, **settings):
    return some_nodes(model, other or model, **settings)


@contextlib.contextmanager
def some_nodes(*models, each=({}, {}, {}), net=None, **settings):
    """Two or three nodes with these models, None = no model, and settings of each, which all see each other. With a net, each
    has a space there."""
    home = tempfile.mkdtemp(prefix="pair-", dir=os.getcwd())
    nodes = []
    try:
        for name, file, own in zip(("prime", "edge", "third"), models, each):
            where = {"space": net.add(name), "address": net.address(name)} if net else {}
            nodes.append(Node(os.path.join(home, name), name, file, **where, **settings, **own))
        nodes[0].cli("cluster", "init", "test", "--no-passphrase")
        for node in nodes[1:]:
            join(nodes[0], node)
        wait_until("all see each other", lambda: all(a.sees(b.name) for a in nodes for b in nodes if a is not b))
        yield nodes
    except BaseException:
        for node in nodes:
            print(f"---- {node.name}\n{node.log()[-3000:]}", file=sys.stderr)
            with contextlib.suppress(Exception):
                print(json.dumps(node.trace()), file=sys.stderr)
        raise
    finally:
        for node in nodes:
            if node.process in started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.process.pid, signal.SIGCONT)
                end_process(node.process, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def prompt_of(length, seed=1):
    rng = random.Random(length * 1000 + seed)
    return [rng.randrange(300, 3900) for _ in range(length)]


def events(trace, name, place):
    return [one for one in trace["events"] if one["event"] == name and one["place"] == place]


def has_moved(node, prompt):
    """Whether the newest job of a gateway was handed over, with the rows of the whole prompt."""
    trace = node.trace()
    rows = [one["value"] for one in events(trace, "installed", 1)]
    return bool(rows and rows[-1] >= prompt and events(trace, "token", 1))


def check_moved(node, prompt):
    check(has_moved(node, prompt), f"it was not handed over: {json.dumps(node.trace())}")


def passage(n=1400, skip=0):
    with open(__file__, encoding="ascii") as f:
        return f.read()[skip:skip + n]


def quotation(text, at):
    """A prompt after which the recall model writes text[at:]. It does so in any company: the random models' tokens are so
    much alike that sums which are rounded in another order soon let another one win."""
    return text + "\n" + text[at - 40:at]


# ---- what goes wrong
LONG = {"max_tokens": 90, "ignore_eos": True}


# The longest time without a token, in seconds, on a machine that is busy with other tests: what is noticed at once, and what
# is after 2 s of silence.
AT_ONCE, SILENT = 5, 8


def read_on(stream, since, limit, what):
    """Reads to the end, and looks at how long the client waited for a token."""
    longest, had = 0, len(stream.text)
    for _ in stream:
        if len(stream.text) > had:
            now, had = time.monotonic(), len(stream.text)
            longest, since = max(longest, now - since), now
    longest = max(longest, time.monotonic() - since)
    stream.close()
    print(f"       {what}: at most {longest:.2f} s without a token", flush=True)
    check(longest < limit, f"{what}: {longest:.1f} s without a token")


def disturb(a, b, gateway, harm, moment, length=400, limit=AT_ONCE):
    """A long answer over two nodes, harmed at some moment; it must be the undisturbed one."""
    prompt = prompt_of(length)
    sampling = {} if moment == "first" else {"temperature": 0.9, "seed": 3}
    alone = gateway.ask(prompt, **LONG, **sampling).read().text
    stream = gateway.ask(prompt, "prime", "edge", **LONG, **sampling)
    if moment != "prefill":
        stream.first_text()
    if moment == "decode":
        for _ in range(20):
            next(iter(stream))
    begin = time.monotonic()
    undo = harm(a, b)
    read_on(stream, begin, limit, moment)
    check(stream.error is None and stream.done, f"{moment}: {stream.error}")
    check(stream.text == alone, f"{moment} {sampling}: {stream.text!r} is not {alone!r}")
    if undo:
        undo()


def kill(node):
    end_process(node.process, signal.SIGKILL)


def kill_worker(node):
    os.kill(node.model()["pid"], signal.SIGKILL)
    return node.wait_ready

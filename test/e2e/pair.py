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

from harness import Daemon, Stream, check, end_process, free_port, started, wait_until

NEBULUS, MODELS = sys.argv[1:3]
RECALL, RANDOM, STATE = (os.path.join(MODELS, name) for name in ("recall.gguf", "handoff.gguf", "handoff_state.gguf"))
CHUNK = 64
SETTINGS = {"ctx": 2048, "kv_cells": 8192, "parallel": 6, "threads": 1, "chunk": CHUNK, "plan": "off",
            "keep": 0}  # what is computed from kept rows may differ in the last bit, which random models show


class Node(Daemon):
    def __init__(self, home, name, model, **settings):
        self.name, self.home, self.cluster_port = name, home, free_port()
        self.given = {**SETTINGS, **settings}
        super().__init__(NEBULUS, home, model, name=name, cluster=f"127.0.0.1:{self.cluster_port}", **self.given)

    def cli(self, *words, **options):
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": self.home,
               "NEBULUS_API": f"127.0.0.1:{self.port}"}
        done = subprocess.run([NEBULUS, *words], env=env, capture_output=True, text=True, check=False, timeout=120, **options)
        check(done.returncode == 0, f"{words}: {done.returncode}: {done.stderr}")
        return done.stdout

    def ask(self, prompt, prefill=None, decode=None, handover=None, wire=None, **members):
        """A stream of a completion; where it is computed is up to the caller."""
        headers = {"x-nebulus-prefill": prefill, "x-nebulus-decode": decode, "x-nebulus-handover": handover,
                   "x-nebulus-wire": wire}
        return Stream("127.0.0.1", self.port, "/v1/completions", {"prompt": prompt, "temperature": 0, **members},
                      {k: v for k, v in headers.items() if v})

    def trace(self, answer="latest"):
        return self.get(f"/nebulus/v1/traces/{answer}").json

    def sees(self, name):
        return any(one["name"] == name and one["state"] == "up" for one in self.get("/nebulus/v1/nodes").json["nodes"])


def join(a, b):
    """b joins a's cluster."""
    env = {**os.environ, "NEBULUS_HOME": a.home, "NEBULUS_API": f"127.0.0.1:{a.port}"}
    invite = subprocess.Popen([NEBULUS, "invite", "--address", f"127.0.0.1:{a.cluster_port}"], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    started.append(invite)
    b.cli("join", "-", input=invite.stdout.readline())
    check(invite.wait(60) == 0, "the invitation failed")
    started.remove(invite)
    wait_until("the nodes see each other", lambda: a.sees(b.name) and b.sees(a.name))


def two_nodes(model=RANDOM, other=None, **settings):
    return some_nodes(model, other or model, **settings)


@contextlib.contextmanager
def some_nodes(*models, each=({}, {}, {}), **settings):
    """Two or three nodes with these models, None = no model, and settings of each; they all see each other."""
    home = tempfile.mkdtemp(prefix="pair-", dir=os.getcwd())
    nodes = []
    try:
        for name, file, own in zip(("prime", "edge", "third"), models, each):
            nodes.append(Node(os.path.join(home, name), name, file, **settings, **own))
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


def disturb(a, b, gateway, harm, moment, length=400):
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
    undo = harm(a, b)
    stream.read()
    check(stream.error is None and stream.done, f"{moment}: {stream.error}")
    check(stream.text == alone, f"{moment} {sampling}: {stream.text!r} is not {alone!r}")
    if undo:
        undo()


def kill(node):
    end_process(node.process, signal.SIGKILL)


def kill_worker(node):
    os.kill(node.model()["pid"], signal.SIGKILL)
    return node.wait_ready

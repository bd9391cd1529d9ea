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
import threading
import time

from harness import Daemon, Stream, check, end_process, free_port, in_parallel, started, wait_until
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


# A reader that writes slowly: the other node catches up with it before an answer of some dozens of tokens ends.
SLOW_WRITER = "dgx-spark:0.2@llama-3.1-8b"


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


# ---- the same bytes
def same_bytes(a, b, lengths, **members):
    ways = [(a, a, b), (a, b, a), (b, a, b), (b, b, a)]  # gateway, prefill, decode
    moved = total = 0
    for length in lengths:
        prompt = prompt_of(length)
        for sampling in ({"seed": 1}, {"temperature": 1.0, "seed": 7}):
            quiet(a, b)
            alone = a.ask(prompt, max_tokens=30, ignore_eos=True, **sampling, **members).read()
            check(alone.done and alone.text, f"no answer: {alone.error}")
            for handover in ("zero-stall", "wait", "after"):
                ways.append(ways.pop(0))
                gateway, prefill, decode = ways[0]
                quiet(a, b)
                both = gateway.ask(prompt, prefill.name, decode.name, handover, max_tokens=30, ignore_eos=True, **sampling,
                                   **members).read()
                check(both.error is None, f"{length} {handover}: {both.error}")
                check(both.text == alone.text, f"{length} {sampling} {handover}: {both.text!r} is not {alone.text!r}")
                moved += has_moved(gateway, length)
                total += 1
    # on a busy machine a short answer may be over before the other node has heard of its pause
    check(moved * 2 > total, f"only {moved} of {total} answers were handed over")


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


WARM = {"temperature": 0.9, "seed": 3}
MOMENTS = ("prefill", "stream", "hand-over", "decode")  # rows travel from the first one to the end of the hand-over
alone_before = {}


def quiet(*nodes):
    """Nothing is left of earlier jobs. Where other sequences have cells, sums are rounded in another order."""
    for node in nodes:
        wait_until("nothing is left open", lambda node=node: node.stat("cells_used") == 0)


def alone(node, prompt, **members):
    """What one node alone answers; asked once."""
    key = json.dumps([prompt, members])
    if key not in alone_before:
        quiet(node)
        answer = node.ask(prompt, node.name, node.name, **members).read()
        check(answer.error is None and answer.text, f"no answer: {answer.error}")
        alone_before[key] = answer.text
    return alone_before[key]


def recall_jobs(node, length=300, at=150, tokens=80):
    """A greedy and a seeded one of the recall model: (members of the request, the undisturbed answer)."""
    text = passage(length)
    greedy, members = text[at:at + tokens], {"prompt": quotation(text, at), "max_tokens": tokens}
    check(alone(node, **members) == greedy, "alone, it does not go on verbatim")
    return [(members, greedy), ({**members, **WARM}, alone(node, **members, **WARM))]


def random_jobs(node, length=200, **members):
    """The same of a model of random weights, whose every token depends on all rows before it; they are asked one at a time."""
    members = {**LONG, **members}
    return [({"prompt": prompt_of(length), **members, **sampling}, alone(node, prompt_of(length), **members, **sampling))
            for sampling in ({}, WARM)]


class Asked:
    """Requests that are sent at once; a stream is there as soon as its first text is."""

    def __init__(self, gateway, jobs, **where):
        self.streams = [None] * len(jobs)
        self.threads = [threading.Thread(target=self.ask, args=(gateway, i, {**members, **where}))
                        for i, (members, _) in enumerate(jobs)]
        for thread in self.threads:
            thread.start()

    def ask(self, gateway, i, members):
        self.streams[i] = gateway.ask(**members)

    def answered(self):
        return any(self.streams)

    def wait(self):
        for thread in self.threads:
            thread.join()
        check(all(self.streams), "a request was not answered")
        return self.streams


def reach(a, gateway, asked, moment, before):
    """Waits for the moment; whether it was there in time."""
    if moment == "prefill":
        wait_until("the prompts are read", lambda: a.stat("prefill_tokens") > before or asked.answered())
        return not asked.answered()
    if moment == "pause":
        jobs = lambda: gateway.get("/nebulus/v1/nodes").json["jobs"]
        wait_until("the other node is to go on", lambda: [j for j in jobs() if j["speaker"] == "edge"] or
                   (asked.answered() and not jobs()), every=0.002)
        return bool(jobs())
    for stream in asked.wait():
        stream.first_text()
    if moment == "decode":
        for _ in range(20):
            for stream in asked.streams:
                next(iter(stream))
    return True


def failed_in_pause(trace):
    """Whether the prefill node had stopped and the decode node had not spoken yet."""
    told = [(one["event"], one["place"]) for one in trace["events"]]
    failed = [i for i, (event, _) in enumerate(told) if event == "failed"]
    return bool(failed) and ("paused", 0) in told[:failed[0]] and ("token", 1) not in told[:failed[0]]


def harmed(a, b, gateway, harm, moment, jobs, limit):
    """One round; whether it was harmed at that moment."""
    handover = "after" if moment == "hand-over" else None  # the prefill node is silent until the other one speaks
    before = a.stat("prefill_tokens")
    asked = Asked(gateway, jobs, prefill="prime", decode="edge", handover=handover)
    hit = reach(a, gateway, asked, moment, before)
    begin = time.monotonic()
    undo = harm(a, b) if hit else None
    streams = asked.wait()
    what = moment if hit else f"{moment} (too late)"
    in_parallel([lambda stream=stream: read_on(stream, begin, limit, what) for stream in streams])
    for stream, (members, undisturbed) in zip(streams, jobs):
        what = f"{moment} {members.get('temperature', 'greedy')}"
        check(stream.error is None and stream.done, f"{what}: {stream.error}")
        check(stream.text == undisturbed, f"{what}: {stream.text!r} is not {undisturbed!r}")
    if undo:
        undo()
    return hit and (moment != "pause" or failed_in_pause(gateway.trace()))


def disturb(a, b, gateway, harm, moment, jobs, limit=AT_ONCE):
    """Answers over two nodes at once, harmed at some moment; they must be the undisturbed ones. A round that was over too soon is
    no test: there is another one."""
    for _ in range(8):
        if harmed(a, b, gateway, harm, moment, jobs, limit):
            return
        quiet(a, b)
    raise AssertionError(f"no round was harmed at the moment of {moment}")


def kill(node):
    end_process(node.process, signal.SIGKILL)


def kill_worker(node):
    os.kill(node.model()["pid"], signal.SIGKILL)
    return node.wait_ready

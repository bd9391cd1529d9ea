#!/usr/bin/python3
"""usage: handoff_faults_test.py NEBULUS MODELS_DIR [TEST...]

What goes wrong while a request runs over two nodes: a node or a worker that dies or freezes at any moment costs the client
nothing. And jobs that are moved on purpose.
"""
import contextlib
import json
import os
import resource
import signal
import sys

from harness import check, end_process, run_tests, wait_until
from pair import (LONG, RECALL, SILENT, STATE, disturb, events, has_moved, kill, kill_worker, passage, prompt_of,
                  quotation, two_nodes)


# ---- nodes and workers that go away
def test_decode_node_killed():
    for moment in ("prefill", "first", "decode"):
        with two_nodes() as (a, b):
            disturb(a, b, a, lambda a, b: kill(b), moment)


def test_prefill_node_killed():
    for moment in ("prefill", "first", "decode"):
        with two_nodes() as (a, b):
            disturb(a, b, b, lambda a, b: kill(a), moment)


def test_workers_killed():
    with two_nodes() as (a, b):
        for node, moment in ((a, "prefill"), (b, "first"), (b, "decode"), (a, "decode")):
            disturb(a, b, a, lambda a, b, node=node: kill_worker(node), moment)


def test_workers_stopped():
    """SIGSTOP of a worker alone: its node, which goes on speaking, notices."""
    def stop_worker(node):
        pid = node.model()["pid"]
        os.kill(pid, signal.SIGSTOP)

        def go_on():  # one that had no request any more was not missed
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            node.wait_ready()
        return go_on
    with two_nodes() as (a, b):
        for moment in ("prefill", "first", "decode"):
            for node in (a, b):
                disturb(a, b, a, lambda a, b, node=node: stop_worker(node), moment, limit=SILENT)


def test_decode_node_frozen():
    def freeze(a, b):
        os.kill(b.process.pid, signal.SIGSTOP)

        def thaw():
            os.kill(b.process.pid, signal.SIGCONT)
            wait_until("they see each other again", lambda: a.sees("edge") and b.sees("prime"))
        return thaw
    with two_nodes() as (a, b):
        for moment in ("prefill", "decode"):
            disturb(a, b, a, freeze, moment, limit=SILENT)


def test_state_and_nodes_killed():
    for moment, victim in (("first", 1), ("decode", 0)):
        with two_nodes(STATE) as nodes:
            gateway = nodes[1 - victim]
            disturb(*nodes, gateway, lambda a, b, victim=victim: kill((a, b)[victim]), moment, 200)
    with two_nodes(STATE) as (a, b):
        for node, moment in ((a, "prefill"), (b, "decode")):
            disturb(a, b, a, lambda a, b, node=node: kill_worker(node), moment, 200)


def test_worker_of_a_lone_node_killed():
    with two_nodes() as (a, b):
        prompt = prompt_of(200)
        alone = a.ask(prompt, **LONG).read().text
        stream = a.ask(prompt, **LONG).first_text()
        kill_worker(a)
        stream.read()
        check(stream.error is None and stream.text == alone, f"{stream.error} {stream.text!r} {alone!r}")
        check(not b.model()["stats"]["requests"], "the other node was not asked")


def test_client_leaves():
    with two_nodes() as (a, b):
        for moment in (0, 1, 30):
            stream = a.ask(prompt_of(600), "prime", "edge", **LONG)
            for _ in range(moment):
                next(iter(stream))
            stream.close()
            for node in (a, b):
                node.wait_idle()
                wait_until("nothing is left open", lambda node=node: node.model()["stats"]["cells_used"] == 0)


def test_gateway_killed():
    with two_nodes() as (a, b):
        stream = a.ask(prompt_of(300), "prime", "edge", **LONG).first_text()
        end_process(a.process, signal.SIGKILL)
        wait_until("nothing is left open", lambda: b.model()["stats"]["cells_used"] == 0)
        stream.close()


# ---- drain
def still_on(gateway, node, to=""):
    answer = gateway.request("POST", "/nebulus/v1/drain", {"node": node, "to": to})
    check(answer.status == 200 and not answer.json["refused"], f"{answer.status} {answer.body}")
    return answer.json["left"]


def drain(gateway, node, to=""):
    wait_until(f"nothing runs on {node}", lambda: not still_on(gateway, node, to))


def test_drain_back_and_forth():
    with two_nodes() as (a, b):
        prompt, long, warm = prompt_of(300), {"max_tokens": 400, "ignore_eos": True}, {"temperature": 0.9, "seed": 3}
        greedy, drawn = (a.ask(prompt, **long, **sampling).read().text for sampling in ({}, warm))
        ways = ((None, None), {}, greedy), (("prime", "edge"), warm, drawn), (("edge", "edge"), {}, greedy)
        for where, sampling, alone in ways:
            stream = a.ask(prompt, *where, **long, **sampling).first_text()
            for node, to in (("prime", "edge"), ("edge", "prime")) * 2:
                drain(a, node, to)
                for _ in range(10):
                    next(iter(stream))
            stream.read()
            check(stream.error is None and stream.text == alone, f"{where}: {stream.error} {stream.text!r} is not {alone!r}")
            spoke = [one["place"] for one in a.trace()["events"] if one["event"] == "token"]
            check(len(spoke) >= 4 and set(spoke) == {0, 1}, f"{where}: {json.dumps(a.trace())}")
        for node in (a, b):
            wait_until("nothing is left open", lambda node=node: node.model()["stats"]["cells_used"] == 0)


def test_drain_command():
    with two_nodes(RECALL) as (a, b):
        check(json.loads(a.cli("drain", "edge", "--json"))["moved"] == 0, "there was nothing to move")
        texts = [passage(500, 50 * i) for i in range(4)]
        streams = [a.ask(quotation(t, 100), max_tokens=300).first_text() for t in texts[1:]]
        streams.insert(0, b.ask(quotation(texts[0], 100), max_tokens=300).first_text())
        told = json.loads(a.cli("drain", "prime", "--json"))
        check(told["node"] == "prime" and told["moved"] >= 3, f"{told}")
        for stream, text in zip(streams, texts):
            stream.read()
            check(stream.error is None and stream.done and stream.text == text[100:400], f"{stream.error} {stream.text!r}")
        check(b.trace()["nodes"] == ["edge"], "a job of the other daemon was touched")


def test_drain_refusals():
    with two_nodes() as (a, b):
        for body, status, word in (({"node": "prime", "to": "prime"}, 400, "another node"), ({"node": "nobody"}, 404, "nobody"),
                                   ({"to": 5}, 400, "to")):
            answer = a.request("POST", "/nebulus/v1/drain", body)
            check(answer.status == status and word in answer.error["message"], f"{body}: {answer.status} {answer.body}")
        end_process(b.process, signal.SIGKILL)
        wait_until("it is seen", lambda: not a.sees("edge"))
        prompt = prompt_of(100)
        alone = a.ask(prompt, **LONG).read().text
        stream = a.ask(prompt, **LONG).first_text()
        answer = a.request("POST", "/nebulus/v1/drain", {"node": "prime"})
        check(answer.json["refused"] == 1 and "no other node" in answer.json["why"], f"{answer.body}")
        check(stream.read().text == alone, f"{stream.error} {stream.text!r}")


def test_drain_to_a_node_that_dies():
    """Whenever the other node goes away, the answer goes on where it was, or comes back."""
    for moment in ("asked", "moved"):
        with two_nodes() as (a, b):
            prompt = prompt_of(600)
            alone = a.ask(prompt, **LONG).read().text
            stream = a.ask(prompt, **LONG).first_text()
            still_on(a, "prime")
            if moment == "moved":
                drain(a, "prime")
                next(iter(stream))
            kill(b)
            stream.read()
            check(stream.error is None and stream.text == alone, f"{moment}: {stream.error} {stream.text!r} is not {alone!r}")
            wait_until("nothing is left open", lambda a=a: a.model()["stats"]["cells_used"] == 0)


# ---- what the system refuses
def test_shared_memory_refused():
    """A node whose system gives its worker no memory for rows on their way is done without."""
    with two_nodes() as (a, b):
        prompt = prompt_of(300)
        alone = a.ask(prompt, **LONG).read().text
        for node in (b, a):
            limits = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
            before = node.model()["pid"]
            kill_worker(node)
            wait_until("a new worker is ready", lambda node=node, before=before: node.wait_ready()["pid"] != before)
            stream = a.ask(prompt, "prime", "edge", **LONG).read()
            check(stream.error is None and stream.text == alone, f"{node.name}: {stream.error} {stream.text!r} is not {alone!r}")
            check(not has_moved(a, len(prompt)), f"{node.name}: it moved without memory for rows")
            check("cannot move to another node" in node.log() and "File too large" in node.log(), node.log()[-2000:])
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, limits)
            kill_worker(node)
            node.wait_ready()


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

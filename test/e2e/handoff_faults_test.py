#!/usr/bin/python3
"""usage: handoff_faults_test.py NEBULUS MODELS_DIR [TEST...]

A node that dies or freezes at any moment while requests run over it and another one costs their clients nothing: each test
harms a greedy and a seeded one at once.
"""
import json
import os
import signal
import sys

from harness import check, end_process, run_tests, wait_until
from pair import (LONG, MOMENTS, RECALL, SILENT, Asked, disturb, events, kill, passage, prompt_of, quotation, random_jobs,
                  recall_jobs, two_nodes)


def test_decode_node_killed():
    for moment in MOMENTS:
        with two_nodes(RECALL) as (a, b):
            disturb(a, b, a, lambda a, b: kill(b), moment, recall_jobs(a))


def test_prefill_node_killed():
    for moment in MOMENTS:
        with two_nodes(RECALL) as (a, b):
            disturb(a, b, b, lambda a, b: kill(a), moment, recall_jobs(b))


def test_nodes_of_a_random_model_killed():
    for victim, moment in ((1, "decode"), (0, "stream")):
        with two_nodes() as nodes:
            gateway = nodes[1 - victim]
            disturb(*nodes, gateway, lambda a, b, victim=victim: kill((a, b)[victim]), moment, random_jobs(gateway)[victim:][:1])


def freeze(node, other):
    os.kill(node.process.pid, signal.SIGSTOP)

    def thaw():
        os.kill(node.process.pid, signal.SIGCONT)
        wait_until("they see each other again", lambda: other.sees(node.name) and node.sees(other.name))
    return thaw


def test_decode_node_frozen():
    with two_nodes(RECALL) as (a, b):
        for moment in MOMENTS:
            disturb(a, b, a, lambda a, b: freeze(b, a), moment, recall_jobs(a), limit=SILENT)


def test_prefill_node_frozen():
    with two_nodes(RECALL) as (a, b):
        for moment in MOMENTS:
            disturb(a, b, b, lambda a, b: freeze(a, b), moment, recall_jobs(b), limit=SILENT)


def test_half_of_a_prompt():
    """The decode node goes on from the rows that have come: it reads only the others, also where its place is opened anew
    before the other node is known to be gone."""
    with two_nodes(RECALL, keep=12) as (a, b):
        text, at, tokens = passage(1400), 740, 60
        job = {"prompt": quotation(text, at), "max_tokens": tokens}, text[at:at + tokens]
        asked = Asked(b, [job], prefill="prime", decode="edge")
        wait_until("a part is read", lambda: a.stat("prefill_tokens") >= 300 or asked.answered())
        kill(a)
        stream = asked.wait()[0].read()
        check(stream.error is None and stream.text == job[1], f"{stream.error} {stream.text!r}")
        b.wait_idle()
        had, read, trace = [0], b.stat("prefill_tokens"), b.trace()
        had += [one["value"] for one in events(trace, "installed", 1)]
        check(256 <= had[-1] < trace["prompt_tokens"], f"{had[-1]} rows had come: {json.dumps(trace)}")
        check(read == trace["prompt_tokens"] - had[-1], f"{read} tokens were read, {had[-1]} rows had come: {json.dumps(trace)}")


def test_client_leaves():
    with two_nodes() as (a, b):
        for moment in (0, 1, 30):
            stream = a.ask(prompt_of(600), "prime", "edge", **LONG)
            for _ in range(moment):
                next(iter(stream))
            stream.close()
            for node in (a, b):
                node.wait_idle()
                wait_until("nothing is left open", lambda node=node: node.stat("cells_used") == 0)


def test_gateway_killed():
    with two_nodes() as (a, b):
        stream = a.ask(prompt_of(300), "prime", "edge", **LONG).first_text()
        end_process(a.process, signal.SIGKILL)
        wait_until("nothing is left open", lambda: b.stat("cells_used") == 0)
        stream.close()


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

#!/usr/bin/python3
"""usage: state_test.py NEBULUS MODELS_DIR [TEST...]

A model whose state travels whole, over two nodes.
"""
import json
import sys

from harness import check, run_tests
from pair import (CHUNK, LONG, STATE, disturb, events, kill, kill_worker, prompt_of, random_jobs, same_bytes, two_nodes)


def test_state_that_travels_whole():
    with two_nodes(STATE) as (a, b):
        kv = a.model()["info"]["kv"]
        check(kv["form"] == "opaque" and kv["state"] > 1 << 20, f"{kv}")
        for words in (("show", STATE), ("status", "--json")):
            told = a.cli(*words)
            check("as a whole, up to" in told, f"{words}: {told}")
        same_bytes(a, b, (1, CHUNK + 1, 200))


def test_state_that_does_not_fit():
    with two_nodes(STATE, kv_buffer=1) as (a, b):
        prompt = prompt_of(100)
        alone = a.ask(prompt, **LONG).read().text
        both = a.ask(prompt, "prime", "edge", **LONG).read()
        check(both.error is None and both.text == alone, f"{both.error} {both.text!r}")
        check(not events(a.trace(), "installed", 1), json.dumps(a.trace()))
        check("kv_buffer" in b.log(), "nobody says why")


def test_nodes_and_workers_killed():
    """One job at a time: in company its random weights' near-ties may fall otherwise."""
    for victim, moments in ((1, ("stream", "decode")), (0, ("decode", "hand-over"))):
        for moment, job in zip(moments, (0, 1)):
            with two_nodes(STATE) as nodes:
                gateway = nodes[1 - victim]
                jobs = random_jobs(gateway)[job:job + 1]
                disturb(*nodes, gateway, lambda a, b, victim=victim: kill((a, b)[victim]), moment, jobs)
    with two_nodes(STATE) as (a, b):
        for node, moment in ((a, "prefill"), (b, "decode")):
            for job in random_jobs(a):
                disturb(a, b, a, lambda a, b, node=node: kill_worker(node), moment, [job])


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

#!/usr/bin/env python3
"""The link between two real nodes: what `nebulus bench link` says about it, what the nodes learn by themselves, and what
kv_wire = auto makes of it.

    link_test.py NEBULUS MODELS [TEST...]       exit code 77: the tests of a slow link need root
"""
import ctypes
import json
import os
import subprocess
import sys

from harness import check, end_process, run_tests, wait_until
from pair import NEBULUS, RECALL, Node, events, passage, quotation, two_nodes

CLONE_NEWNET = 0x40000000
SLOW_MBIT = 10


def link_of(node, other):
    """What a node knows about the link to another one."""
    return next(one["link"] for one in node.get("/nebulus/v1/nodes").json["nodes"] if one["name"] == other)


def wait_measured(a, b):
    """Until both have measured the link by themselves."""
    wait_until("the link is known", lambda: link_of(a, b.name) and link_of(b, a.name))


def refused(node, code, *words):
    """What the command line says on stderr where it fails with that exit code."""
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": node.home,
           "NEBULUS_API": f"127.0.0.1:{node.port}"}
    done = subprocess.run([NEBULUS, *words], env=env, capture_output=True, text=True, check=False, timeout=120)
    check(done.returncode == code and not done.stdout, f"{words}: {done.returncode}: {done.stdout} {done.stderr}")
    check(done.stderr.count("\n") == 1, f"not one line: {done.stderr!r}")
    return done.stderr


def measure(node, other, seconds=0.3):
    figures = json.loads(node.cli("bench", "link", other, "--seconds", str(seconds), "--json"))
    check(figures["v"] == 1 and figures["node"] == other, f"{figures}")
    for name in ("gbit_s", "seconds", "bytes", "rtt_ms"):
        check(figures[name] > 0, f"{name}: {figures}")
    for end in ("here", "there"):
        check(0 < figures["cpu_s_per_gb"][end] < 1000, f"{figures}")
    check(abs(figures["bytes"] * 8 / 1e9 / figures["seconds"] - figures["gbit_s"]) < 1e-6 * figures["gbit_s"], f"{figures}")
    return figures


def hand_over(a):
    """A job whose rows go from prime to edge; returns its trace."""
    text = passage()
    stream = a.ask(quotation(text, 300), "prime", "edge", max_tokens=60).read()
    check(stream.error is None and stream.text and text[300:].startswith(stream.text[:40]), f"{stream.error} {stream.text!r}")
    return a.trace()


def row_bytes(trace):
    """How many bytes the row of a token took on the wire; where a link is slow not all rows come before the answer ends."""
    return trace["kv_bytes"] / events(trace, "installed", 1)[-1]["value"]


def test_bench_both_ways():
    with two_nodes(RECALL) as (a, b):
        wait_measured(a, b)
        for node, other in ((a, b), (b, a)):
            check(link_of(node, other.name)["source"] == "probe", f"{link_of(node, other.name)}")
            figures = measure(node, other.name)
            known = link_of(node, other.name)
            check(abs(known["gbit_s"] - figures["gbit_s"]) < 1e-6 * figures["gbit_s"], f"{known} {figures}")
            check(0 <= known["age_s"] < 60, f"{known}")
            line = node.cli("bench", "link", other.name, "--seconds", "0.1")
            check(line.startswith(f"to {other.name}: ") and "Gbit/s" in line and line.count("\n") == 1, line)
            check("Gbit/s" in node.cli("nodes"), node.cli("nodes"))
        check(link_of(a, "prime") is None, "a node has no link to itself")
        # loopback carries rows faster than this model makes them
        trace = hand_over(a)
        check(trace["wire"] == "f16" and trace["kv_bytes"] > 0, json.dumps(trace))
        check(" as f16" in a.cli("trace"), a.cli("trace"))


def test_refusals():
    with two_nodes(RECALL) as (a, b):
        wait_measured(a, b)
        check("known: edge" in refused(a, 5, "bench", "link", "nobody"), "the known nodes are not named")
        check("not to itself" in refused(a, 1, "bench", "link", "prime"), "a node measures itself")
        check("seconds" in refused(a, 2, "bench", "link", "edge", "--seconds", "11"), "it would take long")
        check("bench link" in refused(a, 2, "bench", "speed", "edge"), "no such thing to measure")
        answer = a.post("/nebulus/v1/links/edge/bench", {"seconds": 1e9})
        check(answer.status == 400 and answer.error["param"] == "seconds", f"{answer.body}")
        check(a.post("/nebulus/v1/links/edge", {}).status == 404, "a path without /bench")
        # while rows travel there, the link is theirs
        text = passage()
        stream = a.ask(quotation(text, 300), "prime", "edge", max_tokens=60)

        def left_alone():
            answer = a.post("/nebulus/v1/links/edge/bench", {"seconds": 0.05})
            return answer.status == 429 and "KV rows of" in answer.error["message"]
        wait_until("the job has the link for itself", left_alone)
        check(text[300:].startswith(stream.read().text[:40]), stream.text)
        end_process(b.process)
        wait_until("it is seen", lambda: not a.sees("edge"))
        check("down" in refused(a, 1, "bench", "link", "edge"), "a node that is down")
    home = os.path.join(os.getcwd(), f"loner-{os.getpid()}")
    loner = Node(home, "loner", None)
    try:
        check("no cluster" in refused(loner, 1, "bench", "link", "edge"), "no cluster")
        loner.stop()
    finally:
        subprocess.run(["rm", "-rf", home], check=True)


def shape_loopback():
    """A loopback of this process's own, as slow as a bad wireless link. Exits with 77 where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        print("skipped: a network namespace needs root")
        sys.exit(77)
    for command in ("ip link set lo up", f"tc qdisc add dev lo root tbf rate {SLOW_MBIT}mbit burst 128kb latency 100ms"):
        try:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        except FileNotFoundError as e:
            print(f"skipped: {e}")
            sys.exit(77)
        if done.returncode:
            print(f"skipped: {command}: {done.stderr}")
            sys.exit(77)


def slow_link():
    shape_loopback()
    with two_nodes(RECALL) as (a, b):
        wait_measured(a, b)
        learned = link_of(a, "edge")["gbit_s"] * 1000
        figures = measure(a, "edge", 1)
        check(SLOW_MBIT / 3 < figures["gbit_s"] * 1000 < SLOW_MBIT * 1.5, f"{figures}")
        check(learned < SLOW_MBIT * 4, f"learned by itself: {learned} Mbit/s")
        exact = hand_over(a)  # how fast this model reads is not known before its first job
        check(exact["wire"] == "f16", json.dumps(exact))
        measure(a, "edge", 0.5)
        packed = hand_over(a)
        check(packed["wire"] == "q8_0", f"{link_of(a, 'edge')} {json.dumps(packed)}")
        check(row_bytes(packed) < 0.6 * row_bytes(exact), f"{row_bytes(packed)} of {row_bytes(exact)}")
        # whoever asks for exact rows gets them
        text = passage()
        a.ask(quotation(text, 300), "prime", "edge", wire="f16", max_tokens=20).read()
        check(a.trace()["wire"] == "f16", json.dumps(a.trace()))


if __name__ == "__main__":
    if "slow_link" in sys.argv[3:]:
        run_tests([slow_link])
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

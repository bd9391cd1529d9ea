#!/usr/bin/python3
"""usage: worker_faults_test.py NEBULUS MODELS_DIR [TEST...]

A worker that dies or stops at any moment while requests run over two nodes costs their clients nothing: each test harms a
greedy and a seeded one at once.
"""
import contextlib
import os
import resource
import signal
import sys

from harness import check, run_tests, wait_until
from pair import (AT_ONCE, LONG, MOMENTS, RECALL, SILENT, disturb, has_moved, kill_worker, prompt_of, random_jobs,
                  recall_jobs, two_nodes)


def both(harm, limit):
    """The worker of either node."""
    with two_nodes(RECALL) as (a, b):
        for moment in MOMENTS:
            for node in (a, b):
                disturb(a, b, a, lambda a, b, node=node: harm(node), moment, recall_jobs(a), limit)


def test_workers_killed():
    both(kill_worker, AT_ONCE)


def stop_worker(node):
    pid = node.model()["pid"]
    os.kill(pid, signal.SIGSTOP)

    def go_on():  # one that had no request any more was not missed
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        node.wait_ready()
    return go_on


def test_workers_stopped():
    """SIGSTOP of a worker alone: its node, which goes on speaking, notices."""
    both(stop_worker, SILENT)


def test_workers_of_a_random_model_killed():
    with two_nodes() as (a, b):
        for i, moment in enumerate(MOMENTS):
            node = (a, b)[i % 2]
            disturb(a, b, a, lambda a, b, node=node: kill_worker(node), moment, random_jobs(a, 500)[i // 2:][:1])


def test_workers_killed_in_the_pause():
    """Zero-stall: the prefill node has stopped, and the decode node has not spoken yet. Emulated steps make that moment long."""
    with two_nodes(emulate="m3-ultra:3@llama-3.1-8b") as (a, b):
        for i, node in enumerate((a, b)):
            disturb(a, b, a, lambda a, b, node=node: kill_worker(node), "pause", random_jobs(a, max_tokens=20)[i:][:1])


def test_worker_of_a_lone_node_killed():
    with two_nodes() as (a, b):
        prompt = prompt_of(200)
        alone = a.ask(prompt, **LONG).read().text
        stream = a.ask(prompt, **LONG).first_text()
        kill_worker(a)
        stream.read()
        check(stream.error is None and stream.text == alone, f"{stream.error} {stream.text!r} {alone!r}")
        check(not b.stat("requests"), "the other node was not asked")


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

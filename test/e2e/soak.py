#!/usr/bin/python3
"""usage: soak.py BUILD_DIR [REQUESTS]

Sends that many small requests (default 10,000) of all kinds to one daemon and watches its resident memory, workers not counted:
under 30 MB after 1,000 requests, and at most 1 MB more between 2,000 and the end.
"""
import itertools
import os
import subprocess
import sys
import threading

from harness import check, daemon, in_parallel, run_tests

BUILD = os.path.abspath(sys.argv[1])
REQUESTS = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
MB = 1 << 20
CLIENTS = 4
LIMIT_RSS, LIMIT_GROWTH = 30 * MB, 1 * MB


def is_sanitized():
    """Sanitizers keep freed memory and shadow pages: their numbers say nothing."""
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
        return any(line.startswith("NEBULUS_SANITIZE:") and line.strip()[-1] != "=" for line in f)


def one_request(d, n):
    tokens = [1 + (n * 7 + i) % 200 for i in range(8 + n % 32)]
    kind = n % 10
    if kind < 6:
        answer = d.complete(tokens, max_tokens=1 + n % 4, temperature=0.8, seed=n)
        check(answer.status == 200, f"request {n}: {answer.status} {answer.body[:200]}")
    elif kind < 8:
        stream = d.stream(tokens, max_tokens=4, temperature=0).read()
        check(stream.done and not stream.error, f"request {n}: {stream.error}")
    elif kind == 8:  # a client that leaves
        stream = d.stream(tokens, max_tokens=64, temperature=0, ignore_eos=True)
        next(iter(stream), None)
        stream.close()
    else:  # refusals
        for body, status in (({"prompt": tokens, "n": 3}, 400), ({"prompt": tokens, "model": f"none-{n}"}, 404)):
            check(d.post("/v1/completions", body).status == status, f"request {n} was not refused with {status}")


def send(d, first, last):
    numbers, lock = iter(range(first, last)), threading.Lock()

    def client():
        while True:
            with lock:
                n = next(numbers, None)
            if n is None:
                return
            one_request(d, n)
    in_parallel([client] * CLIENTS)
    d.wait_idle()


def test_memory_does_not_grow():
    model = os.path.join(BUILD, "models/random.gguf")
    if not os.path.exists(model):  # run without ctest's fixture
        os.makedirs(os.path.dirname(model), exist_ok=True)
        subprocess.run([os.path.join(BUILD, "mkmodel"), "random", model, "preset=tiny"], check=True)
    with daemon(os.path.join(BUILD, "nebulus"), model, ctx=512, parallel=4, threads=1, log_level="warn") as d:
        at = {}
        done = 0
        for mark in itertools.chain(sorted({n for n in (500, 1000, 2000, 5000) if n < REQUESTS}), [REQUESTS]):
            send(d, done, mark)
            done = mark
            at[mark] = d.status()["rss_bytes"]
            print(f"       {mark:6} requests: {at[mark] / MB:.2f} MB", flush=True)
        check(d.model()["restarts"] == 0, "the worker was restarted")
        if is_sanitized():
            return
        check(at[REQUESTS] < LIMIT_RSS, f"the daemon holds {at[REQUESTS]} bytes, more than {LIMIT_RSS}")
        settled = at.get(2000, at.get(500))
        if settled is not None:
            check(at[REQUESTS] - settled <= LIMIT_GROWTH, f"memory grew from {settled} to {at[REQUESTS]} bytes")


run_tests([test_memory_does_not_grow])

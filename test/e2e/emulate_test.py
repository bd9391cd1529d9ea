#!/usr/bin/env python3
"""Nodes that take as long as machines of the catalogue. Only least times are checked: what waits may always be late.

usage: emulate_test.py NEBULUS MODELS [TEST ...]
"""
import http.client
import json
import subprocess
import sys
import time

from harness import check, daemon, run_tests, wait_until
from pair import NEBULUS, RANDOM, SETTINGS, check_moved, prompt_of, two_nodes

EIGHT = "llama-3.1-8b"
LENGTH, TOKENS = 300, 9
EARLY = 0.98  # of the predicted time: clocks are read on both sides of it


def predicted(device):
    """Seconds that a prompt and an answer take there: what `nebulus plan` says."""
    done = subprocess.run([NEBULUS, "plan", EIGHT, "--prompt", str(LENGTH), "--gen", str(TOKENS), "--device", device, "--json"],
                          capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)["plans"][0]
    return plan["prefill_s"], plan["decode_s"]


def timed(node, **options):
    begin = time.monotonic()
    stream = node.ask(prompt_of(LENGTH), max_tokens=TOKENS, ignore_eos=True, **options)
    stream.first_text()
    first = time.monotonic() - begin
    stream.read()
    check(stream.done and stream.error is None, f"{stream.error}")
    return first, time.monotonic() - begin, stream.text


def begin(node):
    """A request that is being computed; its answer is not waited for."""
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
    connection.request("POST", "/v1/completions", json.dumps({"prompt": prompt_of(LENGTH), "max_tokens": 2, "stream": True}),
                       {"content-type": "application/json"})
    wait_until("it is active", lambda: node.status()["requests"]["active"] == 1)
    time.sleep(0.2)  # most likely its first pass has begun
    return connection


def test_times_and_marks():
    """Two nodes of one kind: alone and together, no phase is quicker than on the real machine, and all of it is marked."""
    what = f"m3-ultra:1.5@{EIGHT}"
    prefill, decode = (1.5 * s for s in predicted("m3-ultra"))
    with two_nodes(emulate=what) as (a, b):
        for node in (a, b):
            check(node.model()["info"]["emulated"] == what, f"not marked: {node.model()['info']}")
        first, total, text = timed(a)
        check(first >= EARLY * prefill, f"the prompt took {first} s, not {prefill}")
        check(total >= EARLY * (prefill + decode), f"it took {total} s, not {prefill} and {decode}")
        check(a.trace()["emulated"] == [what], f"{a.trace()}")
        first, total, moved = timed(a, prefill="prime", decode="edge")
        check_moved(a, LENGTH)
        check(moved == text, f"{moved!r} is not {text!r}")
        check(first >= EARLY * prefill, f"the prompt took {first} s, not {prefill}")
        check(total >= EARLY * (prefill + decode), f"it took {total} s, not {prefill} and {decode}")
        check(a.trace()["emulated"] == [what, what], f"{a.trace()}")
        check(f"its times are those of {what}, emulated" in a.cli("trace"), "`nebulus trace` does not say so")
        check_receipt(a, a.trace()["id"], what)


def check_receipt(node, req_id, what):
    receipt = wait_until("there is a receipt", lambda: (got := node.get(f"/nebulus/v1/receipts/{req_id}")).status == 200 and got)
    computed = json.loads(receipt.json["record"])["computed"]
    check([one["emulated"] for one in computed] == [what, what], f"the receipt does not say so: {computed}")
    shown = node.cli("audit", "show", req_id)
    check(shown.count(f"took the times of {what}") == 2, f"`audit show` does not say so: {shown}")


def test_a_wait_is_no_obligation():
    """A pass of minutes is left when nobody waits for it any more, and when the daemon ends."""
    with daemon(NEBULUS, RANDOM, **SETTINGS, emulate=f"m3-ultra:5000@{EIGHT}") as d:
        def gives_up():
            begin(d).close()
            d.wait_idle()
            return d.stat("steps") > 0
        wait_until("a pass is given up", gives_up)
        check(d.model()["restarts"] == 0, "a wait was taken for a fault")
        begin(d).close()


def test_too_slow_is_said():
    """The loaded model's own times, a thousandth of them: no processor is that quick."""
    with daemon(NEBULUS, RANDOM, **SETTINGS, emulate="h100:0.001") as d:
        answer = d.complete(prompt_of(LENGTH), max_tokens=TOKENS, ignore_eos=True)
        check(answer.status == 200, answer.body)
        check(d.model()["info"]["emulated"] == "h100:0.001", f"{d.model()}")
        check(d.log().count("its times are not reached") == 1, f"warned {d.log().count('not reached')} times, not once")


def test_unknown_names_are_refused():
    for word, why in (("toaster", "dgx-spark"), ("dgx-spark@gpt-9", EIGHT), ("dgx-spark:0", "scale")):
        done = subprocess.run([NEBULUS, "serve", "--api", "127.0.0.1:0", "--cluster", "off", "--emulate", word],
                              capture_output=True, text=True, check=False, timeout=60)
        check(done.returncode and why in done.stderr, f"{word}: {done.returncode}: {done.stderr}")


run_tests([test_times_and_marks, test_a_wait_is_no_obligation, test_too_slow_is_said, test_unknown_names_are_refused],
          sys.argv[3:])

#!/usr/bin/python3
"""usage: handoff_test.py NEBULUS MODELS_DIR [TEST...]

One request over two real nodes on loopback: the prompt is read on one, the answer is written on the other, and the bytes are
those of one node alone.
"""
import json
import os
import shutil
import signal
import sys
import tempfile

from harness import check, end_process, in_parallel, run_tests, wait_until
from pair import (CHUNK, MODELS, RANDOM, RECALL, SLOW_WRITER, WARM, alone, check_moved, events, passage, prompt_of, quiet,
                  quotation, same_bytes, some_nodes, two_nodes)

TINY = os.path.join(MODELS, "random_f32.gguf")


def test_same_bytes_at_every_length():
    with two_nodes() as (a, b):
        same_bytes(a, b, (1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 700))


def test_recall_goes_on_verbatim():
    text = passage()
    with two_nodes(RECALL) as (a, b):
        for wire in ("f16", "q8_0"):
            answer = a.ask(quotation(text, 740), "prime", "edge", "wait", wire, max_tokens=120).read()
            check(answer.text == text[740:860], f"{wire}: {answer.text!r}")
            check_moved(a, 1400)
            check_transfer(a)


def check_transfer(gateway):
    """The timeline has what the sender did, and how much of it prefill has hidden."""
    trace = gateway.trace()
    moved, sent, computed = trace["transfer"], events(trace, "sent", 0), events(trace, "computed", 0)
    check(sent and sent[-1]["value"] * 2 >= trace["kv_bytes"], json.dumps(trace))
    check(computed and computed[-1]["value"] >= 1400, json.dumps(trace))
    check(moved["ms"] >= moved["exposed_ms"] >= 0 and moved["began_ms"] > 0, json.dumps(trace))
    check(abs(moved["hidden"] - (1 - moved["exposed_ms"] / moved["ms"])) < 1e-6, json.dumps(trace))
    check(f"{moved['hidden'] * 100:.0f} % of the transfer was hidden" in gateway.cli("trace"), "`nebulus trace` does not say so")


def test_cache_of_eight_bits():
    with two_nodes(kv_type="q8_0") as (a, b):
        same_bytes(a, b, (CHUNK + 1, 300))


def test_same_bytes_of_long_prompts():
    """A model that is small, and so is its vocabulary: it reads 8,000 tokens in a second."""
    with some_nodes(TINY, TINY, each=({"emulate": SLOW_WRITER}, {}), ctx=8192, kv_cells=16384) as (a, b):
        for length, ways in ((1000, (("zero-stall", {}), ("zero-stall", WARM), ("wait", {}), ("wait", WARM))),
                             (8000, (("zero-stall", {}), ("wait", WARM)))):
            prompt = [300 + token % 200 for token in prompt_of(length)]
            for handover, sampling in ways:
                members = {"max_tokens": 150, "ignore_eos": True, **sampling}
                quiet(a, b)
                both = b.ask(prompt, "prime", "edge", handover, "f16", **members).read()
                check_moved(b, length)
                moved = b.trace()["transfer"]  # also where the sender is another node
                check(moved["ms"] >= moved["exposed_ms"] >= 0 and moved["began_ms"] > 0, json.dumps(b.trace()))
                wanted = alone(b, prompt, **members)
                check(both.error is None and both.text == wanted,
                      f"{length} {handover} {sampling}: {both.error} {both.text!r} is not {wanted!r}")


def test_many_jobs_both_ways():
    """Greedy and seeded ones, with each hand-over, all at once."""
    with two_nodes(RECALL) as (a, b):
        calls, wanted = [], []
        for i, handover in enumerate(("zero-stall", "wait", "after", "zero-stall")):
            text = passage(300 + 80 * i, 100 * i)
            for gateway, first, second, sampling in ((a, a, b, {}), (b, b, a, WARM)):
                members = {"prompt": quotation(text, 150), "max_tokens": 100, **sampling}
                wanted.append(alone(a, **members) if sampling else text[150:250])
                calls.append(lambda g=gateway, x=first, y=second, h=handover, m=members:
                             g.ask(prefill=x.name, decode=y.name, handover=h, **m).read())
        for i, answer in enumerate(in_parallel(calls)):
            check(answer.error is None and answer.text == wanted[i], f"{i}: {answer.error} {answer.text!r} is not {wanted[i]!r}")
        for node in (a, b):
            wait_until("nothing is left open", lambda node=node: node.stat("cells_used") == 0)


def test_chat_and_usage():
    with two_nodes() as (a, b):
        body = {"messages": [{"role": "user", "content": "What is a roster?"}], "max_tokens": 16, "temperature": 0}
        alone = a.request("POST", "/v1/chat/completions", body)
        both = a.request("POST", "/v1/chat/completions", body, {"x-nebulus-prefill": "prime", "x-nebulus-decode": "edge"})
        check(both.status == 200 and both.text == alone.text, f"{both.body[:300]}")
        check(both.json["usage"] == alone.json["usage"], f"{both.json['usage']}")


def test_command_line():
    with two_nodes() as (a, b):
        alone = a.cli("run", RANDOM, "Tell me.", "--temperature", "0", "--max-tokens", "16")
        both = a.cli("run", RANDOM, "Tell me.", "--temperature", "0", "--max-tokens", "16", "--prefill", "prime",
                     "--decode", "edge", "--handover", "wait")
        check(alone == both, f"{alone!r} {both!r}")
        shown = a.cli("trace")
        check("prime" in shown and "edge" in shown and "installed" not in shown and "KV rows" in shown, shown)
        check("has sent" in shown and "has computed" in shown, shown)


def test_contexts_of_other_sizes():
    """Each node's context is its own; the answer is as long as the reading node alone would make it."""
    with some_nodes(RANDOM, RANDOM, each=({"ctx": 1024}, {"ctx": 256})) as (a, b):
        prompt = prompt_of(150)
        ways = (a, "prime", "edge", 500), (b, "prime", "edge", 500), (a, "edge", "prime", None)
        for gateway, prefill, decode, length in ways:
            limit = {"max_tokens": length} if length else {}
            first = a if prefill == "prime" else b
            alone = first.ask(prompt, ignore_eos=True, **limit).read()
            both = gateway.ask(prompt, prefill, decode, ignore_eos=True, **limit).read()
            check(both.error is None and both.text[:300] == alone.text[:300], f"{both.error} {both.text!r} is not {alone.text!r}")
            check(both.finish == "length" and both.usage is None, f"{both.finish}")
            tokens = gateway.trace()["completion_tokens"]
            check(tokens == (length or 256 - 150), f"{tokens} tokens: {json.dumps(gateway.trace())}")
        stream = a.ask(prompt, max_tokens=600, ignore_eos=True).first_text()
        answer = a.request("POST", "/nebulus/v1/drain", {"node": "prime", "to": "edge"})
        wait_until("the smaller node is done without", lambda: "raise ctx there" in a.log())
        stream.read()
        check(stream.error is None and a.trace()["completion_tokens"] == 600, f"{answer.body} {stream.error}")


# ---- refusals
def test_unknown_and_unreachable_nodes():
    with two_nodes() as (a, b):
        answer = a.request("POST", "/v1/completions", {"prompt": [300]}, {"x-nebulus-prefill": "nobody"})
        check(answer.status == 404 and answer.error["param"] == "x-nebulus-prefill", f"{answer.body}")
        end_process(b.process, signal.SIGKILL)
        wait_until("it is seen", lambda: not a.sees("edge"))
        answer = a.request("POST", "/v1/completions", {"prompt": [300], "max_tokens": 1}, {"x-nebulus-decode": "edge"})
        check(answer.status in (502, 503) and "down" in answer.error["message"], f"{answer.status} {answer.body}")


def test_another_model_of_that_name():
    home = tempfile.mkdtemp(prefix="other-", dir=os.getcwd())
    other = os.path.join(home, os.path.basename(RANDOM))
    shutil.copy(os.path.join(MODELS, "random.gguf"), other)
    try:
        with two_nodes(other=other) as (a, b):
            prompt = prompt_of(100)
            alone = a.ask(prompt, max_tokens=8, ignore_eos=True).read().text
            both = a.ask(prompt, "prime", "edge", max_tokens=8, ignore_eos=True).read()
            check(both.text == alone, f"{both.error} {both.text!r}")
            trace = a.trace()
            check(not events(trace, "installed", 1) and events(trace, "failed", 1), json.dumps(trace))
            why = [one["reason"] for one in events(trace, "failed", 1)]
            check(any("weights digest is" in one or "architecture digest is" in one for one in why), f"nobody says why: {why}")
            check("digest is" in a.cli("trace"), "`nebulus trace` does not say why")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

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
from pair import (CHUNK, LONG, MODELS, RANDOM, RECALL, STATE, check_moved, events, has_moved, passage, prompt_of, quotation,
                  some_nodes, two_nodes)


# ---- the same bytes
def same_bytes(a, b, lengths, **members):
    ways = [(a, a, b), (a, b, a), (b, a, b), (b, b, a)]  # gateway, prefill, decode
    moved = total = 0
    for length in lengths:
        prompt = prompt_of(length)
        for sampling in ({"seed": 1}, {"temperature": 1.0, "seed": 7}):
            alone = a.ask(prompt, max_tokens=30, ignore_eos=True, **sampling, **members).read()
            check(alone.done and alone.text, f"no answer: {alone.error}")
            for handover in ("zero-stall", "wait", "after"):
                ways.append(ways.pop(0))
                gateway, prefill, decode = ways[0]
                both = gateway.ask(prompt, prefill.name, decode.name, handover, max_tokens=30, ignore_eos=True, **sampling,
                                   **members).read()
                check(both.error is None, f"{length} {handover}: {both.error}")
                check(both.text == alone.text, f"{length} {sampling} {handover}: {both.text!r} is not {alone.text!r}")
                moved += has_moved(gateway, length)
                total += 1
    # on a busy machine a short answer may be over before the other node has heard of its pause
    check(moved * 2 > total, f"only {moved} of {total} answers were handed over")


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


def test_many_jobs_both_ways():
    with two_nodes(RECALL) as (a, b):
        texts = [passage(300 + 80 * i, 100 * i) for i in range(4)]
        calls = [lambda t=t, g=g, x=x, y=y: g.ask(quotation(t, 150), x.name, y.name, max_tokens=100).read()
                 for t in texts for g, x, y in ((a, a, b), (b, b, a))]
        answers = in_parallel(calls)
        for i, answer in enumerate(answers):
            check(answer.error is None and answer.text == texts[i // 2][150:250], f"{i}: {answer.error} {answer.text!r}")
        for node in (a, b):
            wait_until("nothing is left open", lambda node=node: node.model()["stats"]["cells_used"] == 0)


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


# ---- conversations
ANSWER = 120


class Conversation:
    """Turns over two nodes with the recall model, which goes on as a text did that stands earlier in its prompt."""

    def __init__(self, gateway, text):
        self.gateway, self.text, self.prompt = gateway, text, text

    def turn(self, at, prefill, decode, handover="zero-stall"):
        """Asks how the text goes on after a cue that ends at `at`; the answer becomes part of the conversation. Returns the
        tokens that were cached, the rows that travelled, how many tokens were new, and the trace."""
        asked = self.prompt + "\n" + self.text[at - 40:at]
        new = len(asked) - len(self.prompt)
        done = self.gateway.request("POST", "/v1/completions", {"prompt": asked, "max_tokens": ANSWER, "temperature": 0},
                                    {"x-nebulus-prefill": prefill, "x-nebulus-decode": decode, "x-nebulus-handover": handover})
        check(done.status == 200, f"{done.body[:300]}")
        answer, usage = done.json["choices"][0]["text"], done.json["usage"]
        check(answer == self.text[at:at + len(answer)] and len(answer) >= 100, f"{answer!r}")
        self.prompt = asked + answer
        trace = self.gateway.trace()
        rows = trace["kv_bytes"] / self.gateway.model()["info"]["kv_bytes_per_token"]
        return usage["prompt_tokens_details"]["cached_tokens"], rows, new, trace


def fetched(trace):
    return bool(events(trace, "stream", 0))


def test_conversation():
    with two_nodes(RECALL, ctx=4096, keep=1) as (a, b):
        fetches = 0
        for handover, text in (("zero-stall", passage()), ("wait", "Once more. " + passage())):
            talk = Conversation(a, text)
            cached, rows, _, trace = talk.turn(300, "prime", "edge", handover)
            check(cached < 40 and rows >= len(text) - 40, f"{cached} {rows} {json.dumps(trace)}")
            for at in (500, 700, 900):
                before = len(talk.prompt)
                cached, rows, new, trace = talk.turn(at, "prime", "edge", handover)
                fetches += fetched(trace)
                least = before - 2 if fetched(trace) else before - ANSWER - 50
                check(least <= cached < before + new, f"turn at {at}: {cached} of {before} {json.dumps(trace)}")
                most = new + ANSWER + (ANSWER if fetched(trace) else 0) + 8
                check(new <= rows <= most, f"turn at {at}: {rows} rows for {new} tokens: {json.dumps(trace)}")
        check(fetches, "no row has travelled back")  # each turn's answer was written on the other node


def test_conversation_begins_on_the_other_node():
    with two_nodes(RECALL, ctx=4096, keep=1) as (a, b):
        talk = Conversation(a, passage())
        talk.turn(300, "prime", "edge", "wait")
        before = len(talk.prompt)
        cached, rows, new, trace = talk.turn(500, "edge", "prime", "wait")
        check(before - 2 <= cached < before + new, f"{cached} of {before}: {json.dumps(trace)}")
        check(new <= rows <= ANSWER + new + 24, f"{rows} rows for {new} tokens: {json.dumps(trace)}")
        before = len(talk.prompt)
        cached, _, new, trace = talk.turn(700, "edge", "edge")  # as far as it has not gone out of its hands
        check(before - ANSWER - 2 <= cached < before + new, f"{cached} of {before}: {json.dumps(trace)}")


def test_edited_turn():
    with two_nodes(RECALL, ctx=4096, keep=1) as (a, b):
        text = passage()
        Conversation(a, text).turn(600, "prime", "edge", "wait")
        edited = Conversation(a, text[:620] + "EDITED" + text[626:])
        cached, rows, _, trace = edited.turn(600, "prime", "edge", "wait")  # the answer holds what was edited
        check(cached == 1 + 620, f"{cached}: {json.dumps(trace)}")
        check(len(edited.text) - 621 <= rows <= len(edited.text) - 620 + 41 + ANSWER, f"{rows}: {json.dumps(trace)}")


def test_packed_rows_are_not_taken_for_exact():
    """Rows that came as 8 bits serve the next turn, but not of a request that wants exact ones."""
    with two_nodes(RECALL, ctx=4096, keep=1) as (a, b):
        def cached(wire, prefill="edge"):
            headers = {"x-nebulus-prefill": prefill, "x-nebulus-decode": "edge", **({"x-nebulus-wire": wire} if wire else {})}
            done = b.request("POST", "/v1/completions", {"prompt": quotation(passage(400), 300), "max_tokens": 12,
                                                         "temperature": 0}, headers)
            check(done.status == 200 and passage()[300:].startswith(done.text), done.body)
            return done.json["usage"]["prompt_tokens_details"]["cached_tokens"]
        cached("q8_0", "prime")
        check(b.trace()["wire"] == "q8_0" and has_moved(b, 400), b.trace())
        check(cached(None) > 400 and cached("q8_0") > 400, "they were not kept")
        check(cached("f16") == 0, "packed rows were taken for exact ones")
        check(cached("f16") > 400, "exact rows were not kept beside them")


def test_kept_gives_way():
    with two_nodes(RECALL, ctx=2048, kv_cells=2200, parallel=3, keep=1) as (a, b):
        talk = Conversation(a, passage(1000))
        others = [f"{i} " * 350 for i in (3, 4, 5)]
        for at in (200, 400):
            talk.turn(at, "prime", "edge")
            calls = [lambda n=n, p=p: n.complete(p, max_tokens=20, temperature=0) for n in (a, b) for p in others]
            for answer in in_parallel(calls):
                check(answer.status == 200, f"{answer.body[:300]}")
        for node in (a, b):
            wait_until("nothing is in use", lambda node=node: node.model()["stats"]["cells_used"] == 0)
            stats = node.model()["stats"]
            check(0 < stats["cells_kept"] <= stats["cells_total"], f"{stats}")


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

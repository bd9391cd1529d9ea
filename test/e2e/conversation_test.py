#!/usr/bin/python3
"""usage: conversation_test.py NEBULUS MODELS_DIR [TEST...]

Conversations over two nodes: only rows that the other side lacks travel, in either direction.
"""
import json
import sys

from harness import check, in_parallel, run_tests, wait_until
from pair import RECALL, SLOW_WRITER, events, has_moved, passage, quotation, some_nodes, two_nodes


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
    with some_nodes(RECALL, RECALL, each=({"emulate": SLOW_WRITER}, {}), ctx=4096, keep=1) as (a, b):
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
            headers = {"x-nebulus-prefill": prefill, "x-nebulus-decode": "edge", "x-nebulus-handover": "wait",
                       **({"x-nebulus-wire": wire} if wire else {})}
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
            wait_until("nothing is in use", lambda node=node: node.stat("cells_used") == 0)
            stats = node.model()["stats"]
            check(0 < stats["cells_kept"] <= stats["cells_total"], f"{stats}")


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

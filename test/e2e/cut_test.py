#!/usr/bin/python3
"""usage: cut_test.py NEBULUS MODELS_DIR [TEST...]

Networks that are cut in silence, without a reset, while a request runs over two nodes: the client gets the same bytes, and soon.
Skipped (77) where network namespaces are not allowed.
"""
import contextlib
import json
import sys
import time

from harness import check, run_tests, wait_until
from network import Bridge, can_make_spaces
from pair import RECALL, SILENT, Asked, events, passage, quotation, read_on, some_nodes

MBIT = 10  # the rows of the prompt take 2 s
AT, TOKENS = 300, 250
TEXT = passage(600)
PROMPT, ANSWER = quotation(TEXT, AT), TEXT[AT:AT + TOKENS]


@contextlib.contextmanager
def network(*models, **settings):
    net = Bridge()
    try:
        with some_nodes(*models, net=net, **settings) as nodes:
            net.slow("edge", MBIT)
            yield net, *nodes
    finally:
        net.close()


def begun(gateway, prime, edge, moment):
    """A job that is at that moment: prime reads; it has stopped and its rows are on their way; edge speaks."""
    handover, node, figure = {"prefill": ("zero-stall", prime, "prefill_tokens"), "hand-over": ("after", None, None),
                              "decode": ("wait", edge, "decode_tokens")}[moment]
    count = lambda: node.stat(figure) if node else 0
    before = count()
    stream = gateway.ask(PROMPT, "prime", "edge", handover, "f16", max_tokens=TOKENS, model="recall")
    if node:
        wait_until(f"the moment of {moment}", lambda: count() > before)
    else:
        stream.first_text()
    return stream


def disturb(gateway, prime, edge, cut, moment):
    stream = begun(gateway, prime, edge, moment)
    begin = time.monotonic()
    cut()
    read_on(stream, begin, SILENT, moment)
    trace = gateway.trace()
    check(stream.error is None and stream.done, f"{moment}: {stream.error}")
    check(stream.text == ANSWER, f"{moment}: {stream.text!r} is not {ANSWER!r}: {json.dumps(trace)}")
    return trace


def mend(a, b, how):
    """Once both have noticed: the next moment begins with a link that is well."""
    wait_until("they have lost each other", lambda: not a.sees("edge") and not b.sees("prime"))
    how()
    wait_until("they see each other again", lambda: a.sees("edge") and b.sees("prime"))


def rows(trace):
    return ([0] + [one["value"] for one in events(trace, "installed", 1)])[-1]


def disturb_in_time(gateway, a, b, cut, moment, meanwhile=lambda: None):
    """The trace of a job that was cut off before all rows were there; on a busy machine the first few may not be. The link is
    mended after each."""
    for _ in range(5):
        trace = disturb(gateway, a, b, cut, moment)
        meanwhile()
        mend(a, b, lambda: cut(off=False))
        if rows(trace) < len(PROMPT):
            return trace
    raise AssertionError(f"{moment}: all rows were there: {json.dumps(trace)}")


def test_two_nodes():
    with network(RECALL, RECALL) as (net, a, b):
        cut = lambda off=True: net.cut("edge", off=off)
        for moment in ("prefill", "hand-over"):
            disturb_in_time(a, a, b, cut, moment)
        trace = disturb(a, a, b, cut, "decode")
        check(events(trace, "token", 1), f"edge did not speak: {json.dumps(trace)}")
        mend(a, b, lambda: cut(off=False))
        wait_until("nothing is left open", lambda: all(node.stat("cells_used") == 0 for node in (a, b)))


def test_a_third_node_is_the_gateway():
    """It reaches both, and they do not reach each other."""
    with network(RECALL, RECALL, None) as (net, a, b, c):
        for moment in ("prefill", "hand-over"):
            trace = disturb_in_time(c, a, b, lambda off=True: net.part("prime", "edge", off=off), moment,
                                    lambda: check(c.sees("prime") and c.sees("edge"), "the gateway lost one, too"))
            if moment == "hand-over":
                heard = events(trace, "cut", 0) or events(trace, "cut", 1)  # whoever notices first
                check(heard, f"it did not hear that rows are missing: {json.dumps(trace)}")
        wait_until("nothing is left open", lambda: all(node.stat("cells_used") == 0 for node in (a, b)))


def break_data(net, a, b, text):
    """Resets the connections that carry rows, once some have come. Returns the trace of the job."""
    prompt, answer = quotation(text, AT), text[AT:AT + TOKENS]
    asked = Asked(a, [({"prompt": prompt, "max_tokens": TOKENS}, answer)], prefill="prime", decode="edge", handover="wait",
                  wire="f16")
    wait_until("some rows have come", lambda: b.stat("cells_used") >= 64 or asked.answered())
    wait_until("rows wait in a connection", lambda: net.reset("prime", net.address("edge")) or asked.answered())
    stream = asked.wait()[0].read()
    check(stream.error is None and stream.text == answer, f"{stream.error} {stream.text!r}")
    return a.trace()


def test_data_connections_break():
    """Both nodes are well: while prime reads, the stream is begun anew, and only what has not come travels again."""
    with network(RECALL, RECALL, keep=1) as (net, a, b):
        for i in range(5):  # on a busy machine prime may have read all before
            trace = break_data(net, a, b, passage(1300, 120 * i))
            anew = [one["value"] for one in events(trace, "stream", 1)]
            if len(anew) == 2 and anew[1] > anew[0]:
                break
        check(len(anew) == 2 and anew[1] >= anew[0] + 64, f"{anew}: {json.dumps(trace)}")
        rest = (rows(trace) - anew[1]) * a.model()["info"]["kv_bytes_per_token"]
        check(events(trace, "sent", 0)[-1]["value"] == rest, f"{rest} bytes: {json.dumps(trace)}")


if __name__ == "__main__":
    if not can_make_spaces():
        print("skipped: no network namespaces here")
        sys.exit(77)
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

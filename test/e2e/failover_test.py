#!/usr/bin/python3
"""usage: failover_test.py NEBULUS MODELS_DIR [TEST...]

A request outlives all nodes that it was planned for, as long as there is one more with its model.
"""
import json
import os
import shutil
import sys
import tempfile

from harness import check, run_tests, wait_until
from pair import RANDOM, RECALL, events, kill, kill_worker, passage, quotation, some_nodes

# After each failure, what was written is read in batches of other shapes: only the recall model writes the same then,
# whatever is rounded how.
TEXT = passage(500)
PROMPT = quotation(TEXT, 40)
LONG, WARM = {"max_tokens": 400}, {"temperature": 1.5, "seed": 3}
ALONE = TEXT[40:440]


def holders(node):
    return [one["name"] for one in node.get("/nebulus/v1/nodes").json["nodes"] if one["models"]]


def some(stream, n=15):
    """Reads on a little."""
    for _ in range(n):
        next(iter(stream))


def check_whole(stream, alone):
    stream.read()
    check(stream.error is None and stream.done, f"{stream.error}")
    check(stream.text == alone, f"{stream.text!r} is not {alone!r}")


def check_nodes(gateway, *names):
    """The nodes that it was opened at, of which the last one ended it."""
    trace = gateway.trace()
    opened = [name for i, name in enumerate(trace["nodes"]) if events(trace, "opened", i)]
    check(opened == list(names), f"{opened}, not {names}: {json.dumps(trace)}")
    last = trace["nodes"].index(names[-1])
    check(events(trace, "token", last) and events(trace, "ended", last), f"{json.dumps(trace)}")
    ended = lambda: [line for line in gateway.cli("audit", "show", trace["id"]).splitlines() if line.startswith("  ended ")]
    told = wait_until("its outcome is in the log", ended)[0]
    wrote = [name for i, name in enumerate(trace["nodes"]) if events(trace, "token", i)]
    check(all(name in told for name in wrote), f"{wrote}: {told}")  # those that computed, not those that were to


def both_die(sampling, decode_first):
    with some_nodes(RECALL, RECALL, RECALL) as (a, b, c):
        alone = c.ask(PROMPT, **LONG, **sampling).read().text if sampling else ALONE
        stream = c.ask(PROMPT, "prime", "edge", **LONG, **sampling).first_text()
        some(stream, 20)
        for node in (b, a) if decode_first else (a, b):
            kill(node)
            some(stream)
        check_whole(stream, alone)
        check_nodes(c, "prime", "edge", "third")
        wait_until("nothing is left open", lambda: c.stat("cells_used") == 0)


def still_at(gateway, node):
    """Orders that what runs there moves away; how much is there still."""
    answer = gateway.request("POST", "/nebulus/v1/drain", {"node": node, "to": "edge"})
    check(answer.status == 200 and not answer.json["refused"], f"{answer.status} {answer.body}")
    return answer.json["left"]


def test_both_nodes_die():
    both_die({}, True)
    both_die(WARM, False)


def test_the_node_it_was_moved_to_dies_last():
    with some_nodes(RECALL, RECALL, RECALL) as (a, b, c):
        text = passage(1000)  # long enough for all that is done meanwhile
        stream = c.ask(quotation(text, 40), "prime", "prime", max_tokens=900).first_text()
        wait_until("it is moved", lambda: not still_at(c, "prime"))
        some(stream, 2)
        a.cli("leave")
        wait_until("it has left", lambda: not c.sees("prime"))
        kill(b)
        check_whole(stream, text[40:940])
        check_nodes(c, "prime", "edge", "third")


def test_gateway_without_the_model():
    with some_nodes(None, RECALL, RECALL) as (a, b, c):
        for node in (b, c):
            wait_until("what it has is known", lambda node=node: node.name in holders(a))
        stream = a.ask(PROMPT, model="recall", **LONG).first_text()
        first, second = wait_until("it runs", lambda: [(x, y) for x, y in ((b, c), (c, b)) if x.stat("running")])[0]
        kill(first)
        some(stream)
        kill_worker(second)
        check_whole(stream, ALONE)
        check_nodes(a, first.name, second.name)
        stream = a.ask(PROMPT, model="recall", **LONG).first_text()
        kill(second)  # nobody is left
        stream.read()
        check(stream.error and "cannot be reached" in stream.error["message"], f"{stream.error} {stream.text!r}")


def test_another_model_of_that_name():
    """The gateway comes first, and is passed over."""
    with tempfile.TemporaryDirectory(dir=os.getcwd()) as folder:
        wrong = os.path.join(folder, os.path.basename(RECALL))
        shutil.copy(RANDOM, wrong)
        with some_nodes(wrong, RECALL, RECALL) as (a, b, c):
            stream = a.ask(PROMPT, "edge", "edge", **LONG).first_text()
            kill(b)
            check_whole(stream, ALONE)
            check_nodes(a, "edge", "third")
            check(a.stat("requests") == 0, "the wrong model was asked")


def test_named_nodes_that_are_away():
    with some_nodes(RANDOM, RANDOM) as (a, b):
        kill(b)
        wait_until("it is seen", lambda: not a.sees("edge"))
        answer = a.request("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1}, {"x-nebulus-prefill": "edge"})
        check(answer.status >= 500 and "edge" in answer.error["message"], f"{answer.status} {answer.body}")


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

#!/usr/bin/python3
"""usage: drain_test.py NEBULUS MODELS_DIR [TEST...]

Answers that are moved to another node on purpose.
"""
import json
import signal
import sys

from harness import PACED, check, end_process, run_tests, wait_until
from pair import LONG, RECALL, kill, passage, prompt_of, quotation, two_nodes


def still_on(gateway, node, to=""):
    answer = gateway.request("POST", "/nebulus/v1/drain", {"node": node, "to": to})
    check(answer.status == 200 and not answer.json["refused"], f"{answer.status} {answer.body}")
    return answer.json["left"]


def drain(gateway, node, to=""):
    wait_until(f"nothing runs on {node}", lambda: not still_on(gateway, node, to))


def test_drain_back_and_forth():
    with two_nodes(RECALL) as (a, b):  # a node reads a few of the rows again, in batches of other shapes: see quotation
        text, long, warm = passage(1000), {"max_tokens": 400, "ignore_eos": True}, {"temperature": 0.9, "seed": 3}
        prompt = quotation(text, 300)
        greedy, drawn = (a.ask(prompt, **long, **sampling).read().text for sampling in ({}, warm))
        ways = ((None, None), {}, greedy), (("prime", "edge"), warm, drawn), (("edge", "edge"), {}, greedy)
        for where, sampling, alone in ways:
            stream = a.ask(prompt, *where, **long, **sampling).first_text()
            for node, to in (("prime", "edge"), ("edge", "prime")) * 2:
                drain(a, node, to)
                for _ in range(10):
                    next(iter(stream))
            stream.read()
            check(stream.error is None and stream.text == alone, f"{where}: {stream.error} {stream.text!r} is not {alone!r}")
            spoke = [one["place"] for one in a.trace()["events"] if one["event"] == "token"]
            check(len(spoke) >= 4 and set(spoke) == {0, 1}, f"{where}: {json.dumps(a.trace())}")
        for node in (a, b):
            wait_until("nothing is left open", lambda node=node: node.stat("cells_used") == 0)


def test_drain_command():
    with two_nodes(RECALL) as (a, b):
        check(json.loads(a.cli("drain", "edge", "--json"))["moved"] == 0, "there was nothing to move")
        texts = [passage(500, 50 * i) for i in range(4)]
        streams = [a.ask(quotation(t, 100), max_tokens=300).first_text() for t in texts[1:]]
        streams.insert(0, b.ask(quotation(texts[0], 100), max_tokens=300).first_text())
        told = json.loads(a.cli("drain", "prime", "--json"))
        check(told["node"] == "prime" and told["moved"] >= 3, f"{told}")
        for stream, text in zip(streams, texts):
            stream.read()
            check(stream.error is None and stream.done and stream.text == text[100:400], f"{stream.error} {stream.text!r}")
        check(b.trace()["nodes"] == ["edge"], "a job of the other daemon was touched")


def test_drain_refusals():
    with two_nodes(emulate=PACED) as (a, b):
        for body, status, word in (({"node": "prime", "to": "prime"}, 400, "another node"), ({"node": "nobody"}, 404, "nobody"),
                                   ({"to": 5}, 400, "to")):
            answer = a.request("POST", "/nebulus/v1/drain", body)
            check(answer.status == status and word in answer.error["message"], f"{body}: {answer.status} {answer.body}")
        end_process(b.process, signal.SIGKILL)
        wait_until("it is seen", lambda: not a.sees("edge"))
        prompt = prompt_of(100)
        alone = a.ask(prompt, **LONG).read().text
        stream = a.ask(prompt, **LONG).first_text()
        answer = a.request("POST", "/nebulus/v1/drain", {"node": "prime"})
        check(answer.json["refused"] == 1 and "no other node" in answer.json["why"], f"{answer.body}")
        check(stream.read().text == alone, f"{stream.error} {stream.text!r}")


def test_drain_to_a_node_that_dies():
    """Whenever the other node goes away, the answer goes on where it was, or comes back."""
    for moment in ("asked", "moved"):
        with two_nodes() as (a, b):
            prompt = prompt_of(600)
            alone = a.ask(prompt, **LONG).read().text
            stream = a.ask(prompt, **LONG).first_text()
            still_on(a, "prime")
            if moment == "moved":
                drain(a, "prime")
                next(iter(stream))
            kill(b)
            stream.read()
            check(stream.error is None and stream.text == alone, f"{moment}: {stream.error} {stream.text!r} is not {alone!r}")
            wait_until("nothing is left open", lambda a=a: a.stat("cells_used") == 0)


if __name__ == "__main__":
    run_tests([f for name, f in list(globals().items()) if name.startswith("test_")], sys.argv[3:])

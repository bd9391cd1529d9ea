#!/usr/bin/python3
"""usage: ticket_test.py NEBULUS MODELS_DIR [TEST...]

Tickets on real nodes: a job's is in the logs of all, and a node does not do what its own policy or an older roster does not let
it, whatever its gateway's policy says. What single tickets are refused for, orders_test and ticket_test of src have.
"""
import glob
import os
import shutil
import signal
import sys

from audit_test import records
from harness import check, end_process, run_tests, wait_until
from pair import RECALL, check_moved, passage, quotation, some_nodes, two_nodes
from policy_test import apply, ask, computed, forbid, permit


def of_job(node, req_id, kind):
    return [r for r in records(node.home) if r.get("req_id") == req_id and r["type"] == kind]


def denials(node, reason):
    return [r for r in records(node.home) if r["type"] == "deny" and r.get("reason") == reason]


def id_of(node, name):
    return next(one["id"] for one in node.get("/nebulus/v1/nodes").json["nodes"] if one["name"] == name)


def test_a_job_has_one_ticket_in_all_logs():
    with some_nodes(RECALL, RECALL, None) as (prime, edge, third):
        text = passage()
        for gateway, others in ((prime, [edge]), (edge, [prime]), (third, [prime, edge])):
            stream = gateway.ask(quotation(text, 600), "prime", "edge", "wait", model="recall", max_tokens=24).read()
            check(stream.done, stream.error)
            check_moved(gateway, 600)
            job = gateway.trace()["id"]
            wait_until("all parts have ended", lambda: all(of_job(node, job, "outcome") for node in [gateway, *others]))
            here = of_job(gateway, job, "outcome")[0]
            check(len(here["tickets"]) == 1 and here["decision"] == "permit", f"{here}")
            check(not of_job(gateway, job, "deny"), "something was denied")
            for other in others:
                there = of_job(other, job, "outcome")[0]
                check(of_job(other, job, "intent")[0]["ticket"] == here["tickets"][0], f"{here} {there}")
                check(there["decision"] == "permit", f"{here} {there}")
                check(all(here[name] == there[name] for name in ("policy_digest", "epoch")), f"{here} {there}")
                check(not of_job(other, job, "deny"), "something was denied")


def part_ways(prime, edge):
    """The cluster's key signs two histories: prime is two epochs further than edge, with another policy. They see each other, and
    neither takes the other's roster."""
    for key in glob.glob(os.path.join(prime.home, "**", "cluster-root.key"), recursive=True):
        copy = os.path.join(edge.home, os.path.relpath(key, prime.home))
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy(key, copy)
    end_process(edge.process, signal.SIGKILL)
    for rule in ("first", "second"):
        apply(prime, [permit(rule)])
    os.killpg(prime.process.pid, signal.SIGSTOP)
    edge.__init__(edge.home, "edge", RECALL, plan="off")
    apply(edge, [permit("all"), forbid("stay", phases=["kv"], dst=["edge"]), forbid("mute", phases=["decode"], nodes=["edge"])])
    os.killpg(prime.process.pid, signal.SIGCONT)
    wait_until("they see each other", lambda: prime.sees("edge") and edge.sees("prime"))
    epochs = [node.get("/nebulus/v1/policy").json["epoch"] for node in (prime, edge)]
    check(epochs[0] == epochs[1] + 1, f"{epochs}")


def test_nodes_that_do_not_agree():
    with two_nodes(RECALL, plan="off") as (prime, edge):
        text = passage(900)
        prompt = quotation(text, 300)
        part_ways(prime, edge)
        had = computed(edge)
        # edge does not take the rows that prime may send it (G12), and the job goes on without it
        answer = ask(prime, "prime", "edge", text=prompt)
        check(answer.status == 200 and answer.text == text[300:300 + len(answer.text)], f"{answer.body}")
        check(not prime.trace()["kv_bytes"], f"{prime.trace()}")
        there = denials(edge, "policy")[-1]
        check("stay" in there["rules"] and there["gateway"] == id_of(prime, "prime"), f"{there}")
        here = denials(prime, "policy")[-1]
        check(here["by"] == id_of(prime, "edge") and here["ticket"] == there["ticket"], f"{here} {there}")
        check(here["req_id"] == there["req_id"], f"{here} {there}")
        # nor does it write
        answer = ask(prime, "edge", "edge", text=prompt)
        check(answer.status == 403 and "mute" in answer.error["message"], f"{answer.status} {answer.body}")
        check(computed(edge) == had, f"edge has computed something: {had} {computed(edge)}")
        # prime does nothing by an older roster than its own
        had = computed(prime)
        answer = ask(edge, "prime", "prime", text=prompt)
        check(answer.status == 503, f"{answer.status} {answer.body}")
        there, here = denials(prime, "ticket_epoch"), denials(edge, "ticket_epoch")
        check(there and here and there[-1]["req_id"] == here[-1]["req_id"], f"{there} {here}")
        check(computed(prime) == had, f"prime has computed something: {had} {computed(prime)}")


if __name__ == "__main__":
    run_tests([test_a_job_has_one_ticket_in_all_logs, test_nodes_that_do_not_agree], sys.argv[3:])

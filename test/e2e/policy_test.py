#!/usr/bin/python3
"""usage: policy_test.py NEBULUS MODELS_DIR [TEST...]

Policies on real nodes: signed and carried to every member, kept over restarts, obeyed by headers, the default placement, the
planner's absence and failing nodes. G12: what a policy does not let travel never reaches a node, of which its KV bytes and its
log are the witnesses.
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from harness import Daemon, check, end_process, in_parallel, run_tests, wait_until
from pair import MODELS, NEBULUS, RECALL, check_moved, has_moved, passage, quotation, some_nodes, two_nodes

DENIED, FAILED = 4, 1


def nebulus(home, port, *words):
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": home}
    if port:
        env["NEBULUS_API"] = f"127.0.0.1:{port}"
    return subprocess.run([NEBULUS, *words], env=env, capture_output=True, text=True, check=False, timeout=120,
                          stdin=subprocess.DEVNULL)


def write(home, name, rules, tests=()):
    path = os.path.join(home, name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"v": 1, "rules": rules, "tests": list(tests)}, f)
    return path


def permit(name, **members):
    return {"id": name, "effect": "permit", **members}


def forbid(name, **members):
    return {"id": name, "effect": "forbid", **members}


def apply(node, rules):
    node.cli("policy", "apply", write(node.home, "policy.json", rules))
    return node.get("/nebulus/v1/policy").json


def same_policy(*nodes):
    shown = [node.get("/nebulus/v1/policy").json for node in nodes]
    return len({(one["digest"], one["epoch"]) for one in shown}) == 1 and shown[0]


def ask(node, prefill=None, decode=None, text=None, tokens=20, labels=None):
    headers = {"x-nebulus-prefill": prefill, "x-nebulus-decode": decode, "x-nebulus-label": labels,
               "x-nebulus-handover": "wait" if prefill != decode else None}
    return node.request("POST", "/v1/completions",
                        {"prompt": text or "one two three four five", "max_tokens": tokens, "temperature": 0,
                         "ignore_eos": True}, {k: v for k, v in headers.items() if v})


def check_denied(answer, *words):
    """403 that names rules, and nothing else of the policy."""
    check(answer.status == 403 and answer.error["code"] == "denied", f"{answer.status} {answer.body}")
    check(answer.headers.get("x-should-retry") == "false", f"{answer.headers}")
    check(all(word in answer.error["message"] for word in words), f"{words}: {answer.error['message']}")


def computed(node):
    """Tokens that a node has ever read and written; rows that come to it are neither."""
    stats = node.model()["stats"]
    return stats["prefill_tokens"], stats["decode_tokens"], stats["requests"]


def test_signed_and_carried_to_every_node():
    with two_nodes(RECALL, plan="off") as (prime, edge):
        before = same_policy(prime, edge)
        check(before and before["from"] == "builtin", f"{before}")
        check(ask(prime, "prime", "edge").status == 200, "the owner may do everything without a policy")
        shown = apply(prime, [permit("mine", agents=["owner"]), forbid("f1", phases=["kv"], src=["prime"], dst=["edge"])])
        check(shown["from"] == "cluster" and shown["epoch"] > before["epoch"], f"{shown}")
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        # every header, on both sides
        for gateway in (prime, edge):
            check_denied(ask(gateway, "prime", "edge"), "rule f1 forbids it", "prime", "edge")
            back = ask(gateway, "edge", "prime", text=passage(600), tokens=8)
            check(back.status == 200, f"{back.body}")
        # a member that restarts reads it back
        end_process(edge.process, signal.SIGTERM)
        edge.__init__(edge.home, "edge", RECALL, plan="off")
        check(same_policy(prime, edge)["digest"] == shown["digest"], "edge has lost the policy")
        wait_until("they see each other", lambda: prime.sees("edge") and edge.sees("prime"))
        check_denied(ask(edge, "prime", "edge"), "rule f1 forbids it")
        # what is not right changes nothing
        bad = write(prime.home, "bad.json", [forbid("f1", phases=["kv"], dst=["edge"], labels=["@x"])])
        fails = write(prime.home, "fails.json", [permit("all")],
                      [{"expect": "deny", "agent": "ann", "model": "m", "phase": "decode", "node": {"name": "edge"}}])
        for path, word in ((bad, "rule 'f1' labels[0]"), (fails, "tests[0]: rule all, expected deny")):
            done = nebulus(prime.home, prime.port, "policy", "apply", path)
            check(done.returncode == FAILED and word in done.stderr, f"{done.returncode} {done.stderr}")
        check(same_policy(prime, edge)["digest"] == shown["digest"], "it has changed")
        # a later change, here that nothing is permitted but the local owner
        apply(prime, [])
        wait_until("edge has the new policy", lambda: same_policy(prime, edge))
        check_denied(ask(prime, "edge", "edge"), "no rule permits it")
        check(ask(prime, "prime", "prime").status == 200, "the owner's own node")
        can = nebulus(prime.home, prime.port, "can-i", "owner", "recall", "--json")
        check(can.returncode == 0 and "builtin-owner-local" in can.stdout, f"{can}")
        can = nebulus(prime.home, prime.port, "can-i", "ann", "recall", "--node", "edge", "--explain")
        check(can.returncode == DENIED and "no rule permits it" in can.stdout, f"{can}")


def test_private_rows_never_reach_a_node_that_may_not_have_them():
    """G12, and what is done instead."""
    with two_nodes(RECALL, plan="off") as (prime, edge):
        text = passage(900)
        prompt = quotation(text, 300)
        check(ask(prime, "prime", "edge", text=prompt).status == 200, "before")
        check(has_moved(prime, 0), "the rows travel where they may")
        prime.cli("node", "set", "prime", "--label", "home")
        apply(prime, [permit("mine", agents=["owner"]), forbid("private", phases=["kv"], labels=["private"], dst=["!@home"])])
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        for labels in (["private"], ["internal, private"], ["internal", "private"]):
            check_denied(ask(prime, "prime", "edge", text=prompt, labels=labels), "rule private forbids it")
        check(ask(prime, "prime", "edge", text=prompt, labels=["internal"]).status == 200, "another label is not private")
        apply(prime, [permit("mine", agents=["owner"]), forbid("stay", nodes=["!@home"])])
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        had = computed(edge)
        for gateway in (prime, edge):
            check_denied(ask(gateway, "prime", "edge", text=prompt), "rule stay forbids it")
            check_denied(ask(gateway, "edge", "prime", text=prompt), "rule stay forbids it")
            check_denied(ask(gateway, "edge", "edge", text=prompt), "rule stay forbids it")
            answer = ask(gateway, text=prompt)  # placed where it may be, whoever is asked
            check(answer.status == 200 and answer.text == text[300:300 + len(answer.text)], f"{answer.body}")
            check(gateway.trace()["nodes"] == ["prime"], f"{gateway.trace()}")
        # nothing goes on at edge when prime is lost
        stream = edge.ask(prompt, max_tokens=400, ignore_eos=True)
        stream.first_text()
        end_process(prime.process, signal.SIGKILL)
        stream.read()
        check(stream.error and not stream.done, f"edge has answered: {stream.text[-80:]!r}")
        check(computed(edge) == had, f"edge has computed something: {had} {computed(edge)}")


def test_one_node_reads_the_other_writes():
    with two_nodes(RECALL, plan="off") as (prime, edge):
        apply(prime, [permit("reads", agents=["owner"], phases=["prefill"], nodes=["prime"]),
                      permit("writes", agents=["owner"], phases=["decode"], nodes=["edge"]),
                      permit("rows", agents=["owner"], phases=["kv"], src=["prime"], dst=["edge"]),
                      forbid("not-here", phases=["decode"], nodes=["prime"]),
                      forbid("nor-there", phases=["prefill"], nodes=["edge"])])
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        text = passage(900)
        prompt = quotation(text, 300)
        for gateway in (prime, edge):  # no single node is permitted: the default is the pair
            answer = ask(gateway, text=prompt, tokens=60)
            check(answer.status == 200 and answer.text == text[300:300 + len(answer.text)], f"{answer.body}")
            check_moved(gateway, 200)
            check_denied(ask(gateway, "prime", "prime"), "rule not-here forbids it")
            check_denied(ask(gateway, "edge", "prime"), "nor-there")
        # where the writing node is lost, the reading one does not write on
        stream = prime.ask(prompt, max_tokens=400, ignore_eos=True)
        stream.first_text()
        wait_until("edge writes", lambda: len(next(iter(stream), {})) and has_moved(prime, 200))
        end_process(edge.process, signal.SIGKILL)
        stream.read()
        check(stream.error and not stream.done, f"prime has gone on: {stream.text[-80:]!r}")


def test_jobs_that_cross():
    """Jobs in both directions need both nodes, and a member has one sequence of each: none keeps what another waits for."""
    with some_nodes(RECALL, RECALL, None, plan="off", parallel=2) as (prime, edge, third):
        rules = [permit("mine", agents=["owner"])]
        for label, reads, writes in (("there", "prime", "edge"), ("back", "edge", "prime")):
            rules += [forbid(f"{label}-1", labels=[label], phases=["decode"], nodes=[reads]),
                      forbid(f"{label}-2", labels=[label], phases=["prefill"], nodes=[writes])]
        apply(prime, rules)
        wait_until("all have the policy", lambda: same_policy(prime, edge, third))
        text = passage(200)

        def cross(label):
            answer = third.request("POST", "/v1/completions",
                                   {"model": "recall", "prompt": quotation(text, 100), "max_tokens": 20, "temperature": 0},
                                   {"x-nebulus-label": label})
            check(answer.status == 200 and answer.text == text[100:120], f"{label}: {answer.status} {answer.body}")
            nodes = third.trace(answer.json["id"])["nodes"]
            check(nodes == (["prime", "edge"] if label == "there" else ["edge", "prime"]), f"{label}: {nodes}")

        for _ in range(3):
            in_parallel([lambda label=label: cross(label) for label in ("there", "back") * 2])


@contextlib.contextmanager
def lonely():
    home = tempfile.mkdtemp(prefix="policy-", dir=os.getcwd())
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_node_of_no_cluster():
    with lonely() as home:
        model = os.path.join(MODELS, "random_f32.gguf")
        node = Daemon(NEBULUS, home, model)
        check(ask(node, tokens=2).status == 200, "the owner")
        path = write(home, "p.json", [forbid("f", models=["random*"])])
        done = nebulus(home, node.port, "policy", "apply", path)
        check(done.returncode == 0, f"{done}")
        check_denied(ask(node), "rule f forbids it")
        can = nebulus(home, node.port, "can-i", "owner", "random_f32")
        check(can.returncode == DENIED and can.stdout == "no: f\n", f"{can}")
        node.stop()
        node = Daemon(NEBULUS, home, model)  # it is kept
        check_denied(ask(node), "rule f forbids it")
        node.stop()
        with open(os.path.join(home, "state", "policy.json"), "a", encoding="utf-8") as f:
            f.write("x")
        node = Daemon(NEBULUS, home, model)  # what cannot be read permits nothing
        check_denied(ask(node), "rule unreadable-policy forbids it")
        shown = nebulus(home, node.port, "policy", "show")
        check("cannot be read" in shown.stderr, f"{shown}")
        done = nebulus(home, node.port, "policy", "apply", write(home, "q.json", [permit("all", agents=["owner"])]))
        check(done.returncode == 0 and ask(node, tokens=2).status == 200, f"{done}")
        # a cluster begins with the policy of its first node
        own = node.get("/nebulus/v1/policy").json
        check(nebulus(home, node.port, "cluster", "init", "--no-passphrase").returncode == 0, node.log())
        shown = node.get("/nebulus/v1/policy").json
        check((own["from"], shown["from"]) == ("home", "cluster") and own["digest"] == shown["digest"], f"{own} {shown}")
        node.stop()


def test_command_line():
    with lonely() as home:
        path = os.path.join(home, "begin.json")
        for words, code in ((("init", path), 0), (("init", path), FAILED), (("check", path), 0), (("test", path), 0),
                            (("check", "nowhere.json"), 5), (("apply",), 2), (("mend", path), 2)):
            done = nebulus(home, None, "policy", *words)
            check(done.returncode == code, f"{words}: {done}")
        with open(path, encoding="utf-8") as f:
            begun = json.load(f)
        changed = write(home, "changed.json", [rule for rule in begun["rules"] if rule["effect"] == "permit"])
        done = nebulus(home, None, "policy", "diff", path, changed, "--json")
        changes = json.loads(done.stdout)["changes"]
        check(changes and all(one["label"] == "private" and one["is"] and not one["was"] for one in changes), done.stdout)
        check(nebulus(home, None, "policy", "diff", path, path).stdout == "", "no change")
        for words, code in ((("--group", "research", "--when", "Mon 09:00"), 0), (("--when", "Mon 09:00"), DENIED),
                            (("--group", "research", "--when", "Sun 09:00"), DENIED),
                            (("--group", "research", "--when", "Mon 09:00", "--label", "private", "--node", "x"), DENIED),
                            (("--group", "research", "--when", "Mon 09:00", "--label", "private", "--node", "x",
                              "--node-label", "home"), 0), (("--phase", "tandem"), FAILED)):
            done = nebulus(home, None, "can-i", "ann", "llama", "--policy", path, *words)
            check(done.returncode == code, f"{words}: {done}")


if __name__ == "__main__":
    run_tests([test_command_line, test_a_node_of_no_cluster, test_signed_and_carried_to_every_node,
               test_private_rows_never_reach_a_node_that_may_not_have_them, test_one_node_reads_the_other_writes,
               test_jobs_that_cross], sys.argv[3:])

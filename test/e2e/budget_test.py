#!/usr/bin/python3
"""usage: budget_test.py NEBULUS MODELS_DIR [TEST...]

Budgets: what agents may use is reserved before the work and settled after it, exactly, whoever leaves, whatever is killed (G6).
"""
import glob
import json
import os
import signal
import sys
import threading

from harness import PACED, Stream, check, end_process, in_parallel, run_tests, wait_until
from lone import expect, node, permit
from pair import RECALL, passage, quotation, two_nodes

PROMPT = "one two"


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def stream(n, key, **members):
    return Stream("127.0.0.1", n.daemon.port, "/v1/completions",
                  {"prompt": PROMPT, "ignore_eos": True, **members}, bearer(key))


def budgets(n, key=None, of=""):
    return n.daemon.request("GET", "/nebulus/v1/budget" + of, None, bearer(key) if key else {}).json["budgets"]


def budget(n, who, rule):
    """The account as (spent, reserved, cap), or None."""
    found = [(b["tokens"]["spent"], b["tokens"]["reserved"], b["tokens"]["cap"]) for b in budgets(n)
             if (b["who"], b["rule"]) == (who, rule)]
    return found[0] if found else None


def at_rest(n, who, rule):
    return wait_until("nothing is reserved", lambda: (b := budget(n, who, rule)) and b[1] == 0 and b)


def records(n, kind):
    out = []
    for path in sorted(glob.glob(os.path.join(n.home, "state", "audit", "0*", "log"))):
        with open(path, "rb") as f:
            data = f.read()
        while len(data) > 9:
            size = int.from_bytes(data[:4], "little")
            if data[8] != 64 and len(data) >= 9 + size:
                record = json.loads(data[9:9 + size])
                out += [record] if record["type"] == kind else []
            data = data[9 + size:]
    return out


def prompt_tokens(n):
    return expect(n.ask(prompt=PROMPT), 200).json["usage"]["prompt_tokens"]


def test_a_hundred_at_once():
    """Requests of one agent, some of which leave: never over the cap, and exact at the end, also over a crash."""
    with node(parallel=8) as n:
        each = prompt_tokens(n) + 8
        cap = 40 * each + 3
        n.apply(permit("r", agents=["ann"], limits={"tokens_day": cap}))
        key = n.create("ann")
        done, seen = threading.Event(), []

        def watch():
            while not done.is_set():
                seen.append(budget(n, "ann", "r"))

        def ask(i):
            if i % 4:
                answer = n.ask(key, prompt=PROMPT, max_tokens=8, ignore_eos=True)
                check(answer.status in (200, 429), answer.body)
                if answer.status == 429:
                    check(answer.error["code"] in ("budget_exhausted", "rate_limited", "busy"), answer.body)  # busy: 72 at once
                    check((answer.headers.get("x-should-retry") == "false") == (answer.error["code"] == "budget_exhausted"),
                          answer.headers)
                return answer.json["usage"]["total_tokens"] if answer.status == 200 else 0
            leaves = stream(n, key, max_tokens=8)
            if leaves.response.status == 200 and i % 8:
                leaves.first_text()
            leaves.close()
            return 0
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            whole = sum(in_parallel([lambda i=i: ask(i) for i in range(100)]))
        finally:
            done.set()
            watcher.join()
        check(len(seen) > 1 and all(one is None or one[0] + one[1] <= cap for one in seen), f"more than {cap}: {seen}")
        at_rest(n, "ann", "r")
        while n.ask(key, prompt=PROMPT, max_tokens=8, ignore_eos=True).status == 200:
            whole += each
        spent = at_rest(n, "ann", "r")[0]
        check(whole <= spent <= cap and cap - spent < each, f"{whole} tokens were answered, {spent} of {cap} spent")
        n.daemon.get("/health")
        wait_until("all outcomes are in the log", lambda: len(records(n, "outcome")) == len(records(n, "intent")))
        check(sum(r.get("charged", 0) for r in records(n, "outcome")) == spent, "the log says otherwise")
        last = expect(n.ask(key, prompt=PROMPT, max_tokens=8), 429, "budget_exhausted")
        check(int(last.headers["retry-after"]) > 0 and last.headers["x-should-retry"] == "false", last.headers)
        end_process(n.daemon.process, signal.SIGKILL)
        n.start()
        check(budget(n, "ann", "r") == (spent, 0, cap), f"{budget(n, 'ann', 'r')} after a crash, {spent} of {cap} before")
        metrics = n.daemon.get("/metrics").body.decode()
        check("nebulus_budget_tokens_reserved 0" in metrics and 'nebulus_budget_refused_total{limit="tokens_day"}' in metrics,
              metrics)


def test_a_crash_gives_nothing_back():
    with node(emulate=PACED) as n:
        used = prompt_tokens(n) + 400
        n.apply(permit("r", agents=["ann"], limits={"tokens_day": 600}))
        key = n.create("ann")
        running = stream(n, key, max_tokens=400).first_text()
        worker = n.daemon.model()["pid"]
        os.kill(worker, signal.SIGSTOP)  # it has not ended yet
        wait_until("the reservation is in the log", lambda: records(n, "reserve"))
        check(budget(n, "ann", "r") == (0, used, 600), budget(n, "ann", "r"))
        end_process(n.daemon.process, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)
        running.close()
        n.start()
        check(budget(n, "ann", "r") == (used, 0, 600), budget(n, "ann", "r"))
        expect(n.ask(key, max_tokens=300), 429, "budget_exhausted")


def test_what_is_left():
    """Headers; an answer is as long as the budget has room for where the client does not say; agents see their own."""
    with node() as n:
        prompt = prompt_tokens(n)
        n.apply(permit("r", agents=["ann", "bob"], limits={"tokens_day": 100, "rpm": 50}))
        ann, bob = n.create("ann"), n.create("bob")
        first = expect(n.ask(ann, prompt=PROMPT, max_tokens=10, ignore_eos=True), 200)
        said = {k[12:]: v for k, v in first.headers.items() if k.startswith("x-ratelimit-")}
        check(said["limit-tokens"] == "100" and said["remaining-tokens"] == str(100 - prompt - 10), said)
        check(said["limit-requests"] == "50" and said["remaining-requests"] == "49", said)
        expect(n.ask(ann, prompt=PROMPT, max_tokens=100), 429, "budget_exhausted")
        rest = stream(n, ann).read()
        check(rest.done and rest.finish == "length", rest.error)
        check(at_rest(n, "ann", "r") == (100, 0, 100), budget(n, "ann", "r"))
        expect(n.ask(ann, prompt=PROMPT, max_tokens=1), 429, "budget_exhausted")
        expect(n.ask(bob, prompt=PROMPT, max_tokens=1), 200)
        check([b["who"] for b in budgets(n, ann)] == ["ann"], budgets(n, ann))
        check([b["who"] for b in budgets(n, ann, "/ann")] == ["ann"], "ann does not see her own")
        check(n.daemon.request("GET", "/nebulus/v1/budget/bob", None, bearer(ann)).status == 404, "ann sees bob's")
        shown = n.cli("budget").stdout
        check("ann" in shown and "bob" in shown and "RESERVED" in shown, shown)
        check(json.loads(n.cli("budget", "bob", "--json").stdout)["budgets"][0]["tokens"]["spent"] == prompt + 1, "bob")
        n.cli("budget", "nobody", code=5)


def test_rates_and_groups():
    with node(emulate=PACED) as n:
        n.apply(permit("many", agents=["ann"], limits={"rpm": 2}), permit("one", agents=["bob"], limits={"concurrent": 1}),
                permit("group", agents=["@g"], limits={"tokens_day": 300}))
        ann, bob, cy = n.create("ann"), n.create("bob"), n.create("cy", "--group", "g")
        dee, sub = n.create("dee", "--group", "g"), n.create("sub", "--group", "g", "--parent", "dee")
        for _ in range(2):
            expect(n.ask(ann), 200)
        late = expect(n.ask(ann), 429, "rate_limited")
        check(0 < int(late.headers["retry-after"]) <= 61 and "x-should-retry" not in late.headers, late.headers)
        running = stream(n, bob, max_tokens=450).first_text()
        expect(n.ask(bob), 429, "rate_limited")
        running.close()
        wait_until("the request has left", lambda: n.ask(bob).status == 200)
        took = sum(expect(n.ask(key), 200).json["usage"]["total_tokens"] for key in (cy, dee, sub))
        check(at_rest(n, "@g", "group") == (took, 0, 300), f"{took} tokens were used, not {budget(n, '@g', 'group')}")
        expect(n.ask(sub, max_tokens=300), 429, "budget_exhausted")
        check([b["who"] for b in budgets(n, sub)] == ["@g"], budgets(n, sub))


def test_two_nodes():
    """Each node has its share of what a group may use; what both compute, and twice since one of them dies, counts once."""
    with two_nodes(RECALL) as (a, b):
        path = os.path.join(a.home, "policy.json")
        limits = {"tokens_day": 5001, "concurrent": 3}
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"v": 1, "rules": [permit("g", agents=["@g"], limits=limits),
                                         permit("own", agents=["ann", "bob"], limits={"tokens_day": 5000})]}, f)
        ann, bob = (at.cli("agent", "create", name, "--group", "g").strip() for at, name in ((a, "ann"), (b, "bob")))
        a.cli("policy", "apply", path)
        digest = a.get("/nebulus/v1/policy").json["digest"]
        wait_until("both have the policy", lambda: b.get("/nebulus/v1/policy").json["digest"] == digest)

        def accounts(at):
            return {one["who"]: one for one in at.get("/nebulus/v1/budget").json["budgets"]}
        for at, key in ((a, ann), (b, bob)):
            expect(at.request("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}, bearer(key)), 200)
        shares = [(one["tokens"]["cap"], one["running"]["cap"]) for one in (accounts(a)["@g"], accounts(b)["@g"])]
        check(sorted(shares) == [(2500, 1), (2501, 2)], shares)
        before = wait_until("it is settled", lambda: (t := accounts(a)["ann"]["tokens"])["reserved"] == 0 and t["spent"])
        text = passage()
        whole = Stream("127.0.0.1", a.port, "/v1/completions",
                       {"prompt": quotation(text, 600), "max_tokens": 150, "temperature": 0, "ignore_eos": True,
                        "stream_options": {"include_usage": True}},
                       {**bearer(ann), "x-nebulus-prefill": "prime", "x-nebulus-decode": "edge", "x-nebulus-handover": "wait"})
        check(whole.response.status == 200, whole.response.status)
        check("x-ratelimit-remaining-tokens" in {k.lower() for k, _ in whole.response.getheaders()}, "a stream without headers")
        whole.first_text()
        wait_until("the other node writes", lambda: [e for e in a.trace()["events"] if e["event"] == "token" and e["place"] == 1])
        end_process(b.process, signal.SIGKILL)
        whole.read()
        check(whole.done and whole.usage["completion_tokens"] == 150, f"{whole.error} {whole.usage}")
        wait_until("it is settled", lambda: accounts(a)["ann"]["tokens"]["reserved"] == 0)
        for who in ("ann", "@g"):
            spent = accounts(a)[who]["tokens"]["spent"]
            check(spent == before + whole.usage["total_tokens"], f"{before}, then {spent}, not {whole.usage}")


if __name__ == "__main__":
    run_tests([test_a_hundred_at_once, test_a_crash_gives_nothing_back, test_what_is_left, test_rates_and_groups, test_two_nodes],
              sys.argv[3:])

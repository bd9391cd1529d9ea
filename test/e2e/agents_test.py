#!/usr/bin/python3
"""usage: agents_test.py NEBULUS MODELS_DIR [TEST...]

Who asks: keys from the command line, what they let through, that they end, and that nothing but their owner ever sees them.
"""
import json
import os
import subprocess
import sys

from harness import PACED, Stream, check, run_tests, wait_until
from lone import NEBULUS, expect, node, permit

DENIED, NOT_FOUND, USAGE, FAILED = 4, 5, 2, 1


def test_agents_ask():
    with node() as n:
        expect(n.ask(), 200)
        latest = n.daemon.get("/nebulus/v1/traces/latest").json
        check(latest["agent"] == "owner", f"the owner is recorded as {latest['agent']!r}")
        ann, bob = n.create("ann", "--group", "research"), n.create("bob")
        denied = expect(n.ask(ann), 403, "denied")  # nobody has permitted anything yet
        check(denied.headers["x-should-retry"] == "false" and "no rule permits it" in denied.error["message"], denied.body)
        n.apply(permit("r-research", agents=["@research"]), permit("r-bob", agents=["bob"], models=["other"]))
        expect(n.ask(ann, {"x-nebulus-agent": "owner"}), 200)
        latest = n.daemon.get("/nebulus/v1/traces/latest").json
        check(latest["agent"] == "ann", f"ann is recorded as {latest['agent']!r}")
        check("for ann" in n.cli("trace").stdout, "`nebulus trace` does not say who asked")
        expect(n.ask(bob), 403, "denied")
        expect(n.ask(None, {"x-api-key": ann}), 200)
        expect(n.ask(ann, {"x-api-key": bob}), 401)
        expect(n.ask(None, {"x-api-key": [ann, bob]}), 401)
        expect(n.ask(None, {"authorization": [f"Bearer {ann}", f"Bearer {bob}"]}), 401)
        expect(n.daemon.request("GET", "/nebulus/v1/status", None, {"authorization": f"Bearer {ann}"}), 403, "denied")
        n.apply(permit("r-all"), {"id": "f-private", "effect": "forbid", "labels": ["private"]})
        expect(n.ask(bob), 200)
        private = expect(n.ask(bob, {"x-nebulus-label": "internal, private"}), 403, "denied")
        check("f-private" in private.error["message"], private.body)
        expect(n.ask(bob, {"x-nebulus-label": "no label"}), 400)
        expect(n.ask(None, {"x-nebulus-label": "private"}), 403, "denied")  # the owner, too


def test_it_is_recorded():
    """What agents are made of, asked for and were denied stands in the audit log; a receipt is for its agent and the owner."""
    with node() as n:
        ann, bob = n.create("ann", "--label", "internal"), n.create("bob")
        n.apply(permit("r-ann", agents=["ann"]))
        receipt = expect(n.ask(ann, {"x-nebulus-label": "team"}), 200).headers["x-nebulus-receipt"]
        expect(n.ask(bob), 403)
        n.cli("agent", "revoke", "bob")
        bearer = lambda key: {"authorization": f"Bearer {key}"}
        wait_until("there is a receipt", lambda: n.daemon.request("GET", receipt, None, bearer(ann)).status == 200)
        expect(n.daemon.get(receipt), 200)
        expect(n.daemon.request("GET", receipt, None, bearer(n.create("carol"))), 404)
        tail = lambda *words: [json.loads(line) for line in n.cli("audit", "tail", "--json", *words).stdout.splitlines()]
        said = {one["type"]: one for one in tail("--agent", "ann")}
        ids = json.loads(n.cli("agent", "show", "ann", "--json").stdout)["agent"]
        check(list(said) == ["agent", "intent", "outcome"], said)
        check(said["intent"]["labels"] == ["internal", "team"] and said["intent"]["agent_id"] == ids["id"], said)
        check(said["agent"]["key_id"] == said["intent"]["key_id"] == ids["keys"][0]["id"], said)
        check(said["outcome"]["rules"] == ["r-ann"] and said["outcome"]["decision"] == "permit", said)
        denied = tail("--denied")
        check([one["agent"] for one in denied] == ["bob"] and denied[0]["decision"] == "deny", denied)
        check([one.get("change") for one in tail("--agent", "bob")][-1] == "revoked", "a revocation is not recorded")
        rows = json.loads(n.cli("audit", "report", "--json").stdout)["rows"]
        check({one["agent"]: (one["requests"], one["denied"]) for one in rows} == {"ann": (1, 0), "bob": (1, 1)}, rows)


def test_running_answers_end_with_their_agent():
    with node(emulate=PACED) as n:
        n.apply(permit("all"))
        ann = n.create("ann")
        sub = n.create("sub", "--parent", "ann")
        running = [Stream("127.0.0.1", n.daemon.port, "/v1/completions",
                          {"prompt": "one two", "max_tokens": 400, "ignore_eos": True}, {"authorization": f"Bearer {key}"})
                   for key in (ann, sub)]
        for stream in running:
            stream.first_text()
        n.cli("agent", "revoke", "ann")
        for stream in running:
            stream.read()
            check(not stream.done and stream.error and "revoked" in stream.error["message"], f"{stream.error}")
        n.daemon.wait_idle()


def test_keys_end():
    with node() as n:
        n.apply(permit("all"))
        ann = n.create("ann", "--group", "g", "--label", "l", "--expires", "30d")
        sub = n.create("sub", "--parent", "ann", "--group", "g", "--label", "m")
        short = n.create("short", "--expires", "2s")
        shown = json.loads(n.cli("agent", "show", "sub", "--json").stdout)["agent"]
        check(sorted(shown["labels"]) == ["l", "m"] and shown["parent"] == "ann" and shown["expires"], shown)
        n.cli("agent", "create", "more", "--parent", "ann", "--group", "h", code=FAILED)
        n.cli("agent", "create", "ann", code=FAILED)
        n.cli("agent", "create", "owner", code=FAILED)
        n.cli("agent", "show", "nobody", code=NOT_FOUND)
        n.cli("agent", "drop", "ann", code=USAGE)
        n.cli("agent", "ls", "--keep", code=USAGE)
        n.restart()
        for key in (ann, sub):
            expect(n.ask(key), 200)
        wait_until("a key expires", lambda: n.ask(short).status == 401)
        second = n.cli("agent", "rotate", "ann", "--keep").stdout.strip()
        expect(n.ask(ann), 200)
        third = n.cli("agent", "rotate", "ann").stdout.strip()
        wrong = [expect(n.ask(key), 401).body for key in (ann, second, short, "neb_" + "A" * 43, "none")]
        check(len(set(wrong)) == 1, f"wrong keys are told apart: {set(wrong)}")
        expect(n.ask(third), 200)
        n.cli("agent", "revoke", "ann")
        for key in (third, sub):
            expect(n.ask(key), 401)
        lines = n.cli("agent", "ls").stdout
        check(lines.count("revoked") == 2 and lines.count("expired") == 1, lines)
        check(n.cli("run", "random_f32", "hi", key=third, code=DENIED).stderr.count("\n") == 1, "an error is one line")
        owner = n.cli("agent", "rotate", "owner").stdout.strip()
        n.cli("status", key=owner)
        expect(n.daemon.request("GET", "/nebulus/v1/status", None, {"authorization": f"Bearer {owner}"}), 200)


def test_nobody_sees_keys():
    with node() as n:
        n.apply(permit("all"))
        keys = [n.create("ann"), n.cli("agent", "rotate", "owner").stdout.strip()]
        for key in keys:
            expect(n.ask(key), 200)
            check(key not in n.cli("agent", "ls").stdout + n.cli("agent", "ls", "--json").stdout, "a key is shown again")
        for folder, _, names in os.walk(n.home):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    content = f.read()
                check(not any(key.encode() in content for key in keys), f"a key is in {name}")
        with open(f"/proc/{n.daemon.process.pid}/cmdline", "rb") as f:
            argv = f.read()
        check(not any(key.encode() in argv for key in keys), "a key is in argv")


def test_a_damaged_file_lets_nobody_in():
    with node() as n:
        n.create("ann")
        path = os.path.join(n.home, "state", "agents.json")
        check(os.stat(path).st_mode & 0o777 == 0o600, "others may read agents.json")
        n.daemon.stop()
        with open(path, encoding="utf-8") as f:
            good = f.read()
        for bad in (good[:-9], good.replace('"revoked"', '"revoke"'), ""):
            with open(path, "w", encoding="utf-8") as f:
                f.write(bad)
            done = subprocess.run([NEBULUS, "serve", "--api", f"127.0.0.1:{n.daemon.port}", "--discovery", "off"],
                                  env={**os.environ, "NEBULUS_HOME": n.home}, capture_output=True, text=True, check=False,
                                  timeout=60)
            check(done.returncode == FAILED and path in done.stderr, f"{done.returncode}: {done.stderr}")
        with open(path, "w", encoding="utf-8") as f:
            f.write(good)
        n.start()


run_tests([test_agents_ask, test_it_is_recorded, test_running_answers_end_with_their_agent, test_keys_end,
           test_nobody_sees_keys, test_a_damaged_file_lets_nobody_in], sys.argv[3:])

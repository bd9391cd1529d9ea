#!/usr/bin/python3
"""usage: attack_test.py NEBULUS MODELS_DIR FAULTS_PRELOAD [TEST...]

Attacks and misfortunes that no other test has (docs/guarantees.md says which test has what): files that fail one operation, a
log that is deleted, clocks that were never set or are far ahead, memory that runs out, secrets in files and argument lists,
headers that claim to be somebody, crowds of silent clients, and what is private over two turns, a drain and a lost node.
"""
import contextlib
import errno
import glob
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile

from harness import PACED, Stream, check, end_process, run_tests, wait_until
from lone import expect, node, permit
from pair import NEBULUS, RECALL, passage, quotation, two_nodes
from audit_test import log_of, records, verify
from policy_test import apply, ask, check_denied, computed, forbid, same_policy

FAULTS = sys.argv[3]
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DAY = 86400
YEAR_1970, YEAR_2040 = 3600, 2208988800 + 12 * 3600  # seconds since 1970


@contextlib.contextmanager
def preloaded(**faults):
    """What is started within has these faults."""
    sanitizer = os.environ.get("ASAN_OPTIONS", "")
    added = {"LD_PRELOAD": FAULTS, "ASAN_OPTIONS": f"{sanitizer}:verify_asan_link_order=0".lstrip(":"),
             **{f"FAULTS_{name.upper()}": str(value) for name, value in faults.items()}}
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Disk:
    """A folder of which operations fail from now on, for daemons that were started under it."""

    def __init__(self):
        self.said = tempfile.mktemp(prefix="faults-", dir=os.getcwd())

    @contextlib.contextmanager
    def failing(self, operation, number, folder, nth=0):
        with open(self.said + ".new", "w", encoding="utf-8") as f:
            f.write(f"{operation} {number} {nth} {folder}")
        os.rename(self.said + ".new", self.said)
        try:
            yield
        finally:
            os.unlink(self.said)


def sanitized():
    with open(NEBULUS, "rb") as f:
        whole = f.read()
    return b"__asan_init" in whole or b"__tsan_init" in whole


# ---------------------------------------------------------------- disks
def check_no_record_no_answer(n, log):
    refused = expect(n.ask(), 503, "audit_unavailable")
    check(log in refused.error["message"], refused.body)


def test_the_log_fails():
    """Nothing is retried: the node stops to answer, says which file it is, and goes on when it is started again."""
    disk = Disk()
    with preloaded(files=disk.said), node() as n:
        for operation, number in (("write", errno.EIO), ("write", errno.EROFS), ("sync", errno.EIO)):
            expect(n.ask(), 200)
            log = log_of(n.home)
            had = n.daemon.model()["requests"]
            with disk.failing(operation, number, log, nth=0):
                check_no_record_no_answer(n, log)
            check_no_record_no_answer(n, log)  # the disk is well again
            check(n.daemon.model()["requests"] == had, "something was computed without a record")
            expect(n.daemon.get("/health"), 200)
            n.restart()
            expect(n.ask(), 200)
        n.daemon.stop()
        check(verify(log_of(n.home))[0], "the log does not hold")
        n.start()


def test_the_log_is_deleted():
    with node() as n:
        expect(n.ask(), 200)
        log = log_of(n.home)
        os.unlink(os.path.join(log, "log"))
        check_no_record_no_answer(n, log)
        check_no_record_no_answer(n, log)


def test_state_that_cannot_be_written_has_not_changed():
    """Of agents and policies the old file stays, and what was refused does not hold in memory either."""
    disk = Disk()
    with preloaded(files=disk.said), node() as n:
        n.apply(permit("all"))
        ann = n.create("ann")
        digest = n.daemon.get("/nebulus/v1/policy").json["digest"]
        state = os.path.join(n.home, "state")
        files = [os.path.join(state, name) for name in ("agents.json", "policy.json")]
        with open(files[0], "rb") as f:
            agents = f.read()
        nothing = os.path.join(n.home, "nothing.json")
        with open(nothing, "w", encoding="utf-8") as f:
            json.dump({"v": 1, "rules": []}, f)
        for operation, number in (("write", errno.ENOSPC), ("sync", errno.EIO), ("rename", errno.EROFS)):
            for path, words in ((files[0], ("agent", "create", "bob")), (files[0], ("agent", "revoke", "ann")),
                                (files[0], ("agent", "rotate", "ann")), (files[1], ("policy", "apply", nothing))):
                with disk.failing(operation, number, path):
                    n.cli(*words, code=1)
                expect(n.ask(ann), 200)
        with open(files[0], "rb") as f:
            check(f.read() == agents, "agents.json has changed")
        check(n.daemon.get("/nebulus/v1/policy").json["digest"] == digest, "the policy has changed")
        n.restart()
        expect(n.ask(ann), 200)
        n.cli("agent", "create", "bob")  # and the name was not spent


# ---------------------------------------------------------------- clocks
def test_clocks_of_one_node():
    """What expires has ended, hours are unknown where the clock was never set; the log goes on, and holds."""
    with node() as n:
        n.apply(permit("any", agents=["ann", "late"]), permit("hours", agents=["bob"], hours="Mon-Sun 00:00-24:00"))
        ann, late, bob = n.create("ann"), n.create("late", "--expires", "30d"), n.create("bob")
        for wall, hours in ((YEAR_1970, 403), (YEAR_2040, 200), (None, 200)):
            n.daemon.stop()
            with preloaded(wall=wall) if wall else contextlib.nullcontext():
                n.start()
            expect(n.ask(), 200)
            expect(n.ask(ann), 200)
            expect(n.ask(late), 401 if wall else 200)
            expect(n.ask(bob), hours)
            if wall:
                said = records(n.home)[-1]["t"]["wall"] / 1e9
                check(wall <= said < wall + DAY, f"the record says {said}")
                with preloaded(wall=wall):
                    doctor = n.cli("doctor")
                check(("since 1970" in doctor.stdout) == (wall == YEAR_1970), doctor.stdout)
        n.daemon.stop()
        check(verify(log_of(n.home))[0], "the log does not hold")
        n.start()


def test_clocks_of_two_nodes():
    """No date of a certificate matters; nodes whose clocks differ by years do not compute for each other, and say why."""
    with two_nodes(RECALL) as (prime, edge):
        text = passage(600)
        prompt = quotation(text, 300)
        for wall, reason in ((YEAR_1970, "ticket_clock"), (YEAR_2040, "ticket_expired")):
            end_process(edge.process, signal.SIGTERM)
            with preloaded(wall=wall):
                edge.__init__(edge.home, "edge", RECALL)
            wait_until("they see each other", lambda: prime.sees("edge") and edge.sees("prime"))
            had = computed(edge)
            answer = ask(prime, "edge", "edge", text=prompt)
            check(answer.status != 200, f"{answer.body}")
            wait_until(f"edge has recorded {reason}", lambda reason=reason: any(
                r["type"] == "deny" and r["reason"] == reason for r in records(edge.home)))
            check(computed(edge) == had, "edge has computed something")
            for node_ in (prime, edge):  # each goes on by itself
                answer = ask(node_, node_.name, node_.name, text=prompt)
                check(answer.status == 200 and answer.text == text[300:300 + len(answer.text)], f"{answer.body}")
    with preloaded(wall=YEAR_2040), two_nodes(RECALL) as (prime, edge):  # all are: nothing is wrong
        answer = ask(prime, "prime", "edge", text=prompt)
        check(answer.status == 200 and answer.text == text[300:300 + len(answer.text)], f"{answer.body}")


# ---------------------------------------------------------------- memory
def test_memory_runs_out():
    """Whichever allocation fails, the command ends with an error of one line, or has done without."""
    if sanitized():
        print("       skipped: a sanitizer has its own allocator", flush=True)
        return
    with node() as n:
        expect(n.ask(), 200)
        policy = os.path.join(n.home, "begin.json")
        n.cli("policy", "init", policy)
        n.daemon.stop()
        for words, step in ((("policy", "test", policy), 29), (("audit", "verify", log_of(n.home)), 47), (("audit", "tail"), 61)):
            failed = 0
            for nth in [1, 2, 3, 5, 8, 13, *range(21, 500, step)]:
                with preloaded(allocation=nth):
                    done = subprocess.run([NEBULUS, *words], env={**os.environ, "NEBULUS_HOME": n.home}, check=False,
                                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
                check(done.returncode >= 0, f"allocation {nth} of {words}: signal {-done.returncode} {done.stderr}")
                failed += done.returncode != 0
            check(failed, f"{words}: no allocation was missed")
        n.start()


# ---------------------------------------------------------------- secrets
def told_of(process):
    """What anybody can read of the processes of a group."""
    out = {}
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(os.path.basename(folder))) != process.pid:
                continue
            for name in ("cmdline", "environ"):
                with open(os.path.join(folder, name), "rb") as f:
                    out[f"{folder}/{name}"] = f.read()
            limits = resource.prlimit(int(os.path.basename(folder)), resource.RLIMIT_CORE)
            check(limits[0] == 0, f"{folder}: a core dump would hold secrets: {limits}")
    return out


def files_of(home):
    for folder, _, names in os.walk(home):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and os.path.isfile(path):
                with open(path, "rb") as f:
                    yield path, f.read()


def test_no_secret_is_left_anywhere():
    """Marked prompts, answers and keys, in jobs that end well and badly: none is in a log, a state file, argv or environment."""
    # the recall model goes on verbatim: the answer has its mark, too
    mark, answer_mark, wrong = "Zanzibar-7731", "Quintessence-9942", "neb_" + "Wrongkey8853" * 3 + "1234567"
    text = f"The letter of {mark} says: {answer_mark} is the name of the boat, and nothing else was in it at all. "
    prompt = text + text[:text.index(answer_mark)]
    with two_nodes(RECALL) as (prime, edge):
        apply(prime, [permit("all"), forbid("not-private", labels=["private"])])
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        key = prime.cli("agent", "create", "ann").strip()
        bearer = {"authorization": f"Bearer {key}"}
        body = {"prompt": prompt, "max_tokens": 30, "temperature": 0}
        for headers, status in ((bearer, 200), ({**bearer, "x-nebulus-prefill": "prime", "x-nebulus-decode": "edge"}, 200),
                                ({**bearer, "x-nebulus-label": "private"}, 403),
                                ({"authorization": f"Bearer {wrong}"}, 401), ({"x-api-key": wrong}, 401)):
            answer = prime.request("POST", "/v1/completions", body, headers)
            check(answer.status == status, f"{headers}: {answer.status} {answer.body}")
            check(status != 200 or answer_mark in answer.text, f"the answer lacks its mark: {answer.body}")
        for broken in (json.dumps(body)[:-3], json.dumps({**body, mark: mark}), json.dumps({**body, "max_tokens": mark}),
                       json.dumps({**body, "prompt": [mark]}), json.dumps({**body, "model": "none"}),
                       json.dumps({**body, "prompt": prompt * 100})):
            answer = prime.request("POST", "/v1/completions", broken, bearer)
            check(answer.status in (200, 400, 404), f"{answer.status} {answer.body}")
        left = prime.ask(prompt, max_tokens=400, ignore_eos=True).first_text()
        left.close()
        lost = prime.ask(prompt, "prime", "edge", max_tokens=400, ignore_eos=True).first_text()
        end_process(edge.process, signal.SIGKILL)
        lost.read()
        seen = {**told_of(prime.process), **dict(files_of(prime.home)), **dict(files_of(edge.home))}
        check(any(path.endswith("cmdline") for path in seen) and any(path.endswith("daemon.log") for path in seen), list(seen))
        for secret in (mark, answer_mark, key, wrong):
            found = [path for path, content in seen.items() if secret.encode() in content]
            check(not found, f"{secret} is in {found}")


# ---------------------------------------------------------------- who asks
def routes():
    with open(os.path.join(ROOT, "src", "serve", "routes.c"), encoding="utf-8") as f:
        found = re.findall(r'^\s+\{"(GET|POST)", "([^"]+)", \w+, (GATE_\w+)\},', f.read(), re.M)
    check(len(found) > 20 and ("GET", "/health", "GATE_OPEN") in found, f"the table is not where it was: {found}")
    return [(method, path + "x" * path.endswith("/")) for method, path, access in found if access != "GATE_OPEN"]


def face(answer):
    """An answer without what differs of any two."""
    return answer.status, answer.body, {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}


def test_every_route_refuses_alike():
    with node() as n:
        dead = n.create("dead")
        n.cli("agent", "revoke", "dead")
        wrong = [{"authorization": f"Bearer {dead}"}, {"authorization": "Bearer neb_" + "A" * 43}, {"authorization": "Bearer "},
                 {"authorization": "Basic b3duZXI6"}, {"x-api-key": "none"}, {"x-api-key": dead},
                 {"authorization": f"Bearer {dead}", "x-nebulus-agent": "owner", "x-forwarded-user": "owner",
                  "x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1", "x-real-ip": "127.0.0.1"}]
        faces = [face(n.daemon.request(method, path, "{}", headers)) for headers in wrong
                 for method, path in [*routes(), ("GET", "/nowhere"), ("DELETE", "/v1/models")]]
        check(faces[0][0] == 401 and all(one == faces[0] for one in faces),
              f"{[one for one in faces if one != faces[0]][:3]} is not {faces[0]}")


def test_headers_that_claim_change_nothing():
    claims = {"x-nebulus-agent": "owner", "x-nebulus-user": "owner", "x-nebulus-group": "research", "x-agent": "owner",
              "x-forwarded-user": "owner", "x-forwarded-for": "127.0.0.1", "x-remote-user": "owner", "remote-user": "owner",
              "x-nebulus-policy": "none", "x-nebulus-owner": "true", "cookie": "agent=owner"}
    with node() as n:
        ann = n.create("ann", "--label", "internal")
        n.apply(permit("research", agents=["@research"]))
        for name, value in claims.items():
            expect(n.ask(ann, {name: value}), 403, "denied")
        n.apply(permit("ann", agents=["ann"]))
        expect(n.ask(ann, claims), 200)
        check(n.daemon.get("/nebulus/v1/traces/latest").json["agent"] == "ann", "it is recorded as somebody else's")
        n.apply(permit("ann", agents=["ann"]), forbid("stay", labels=["internal"]))
        for labels in ("", "other", ["other", "public"], "!internal"):  # no header takes a label away
            answer = n.ask(ann, {"x-nebulus-label": labels})
            check(answer.status in (400, 403), f"{labels}: {answer.status} {answer.body}")
        status = n.daemon.request("GET", "/nebulus/v1/status", None, {"authorization": f"Bearer {ann}", **claims})
        expect(status, 403, "denied")


def test_names_cannot_write_to_terminals():
    """Names with line ends and escapes are refused, or shown without them."""
    bad = "a\x1b[31mred\nlevel=error forged"
    with node() as n:
        before = n.cli("agent", "ls").stdout
        for words in (("agent", "create", bad), ("agent", "create", "bob", "--group", bad), ("agent", "create", "bob", "--label",
                                                                                         bad)):
            done = n.cli(*words, code=1)
            check("\x1b" not in done.stderr and done.stderr.count("\n") == 1, done)
        check(n.cli("agent", "ls").stdout == before, "an agent was made")
        answer = n.ask(None, None, model=bad)
        check(answer.status == 404 and b"\x1b" not in answer.body, answer.body)
        check(n.daemon.request("GET", "/v1/models/a%1b%0ab").status in (400, 404), "a model of that name")
        check(n.ask(None, {"x-nebulus-label": "a\x1b[31m"}).status == 400, "a label of that name")
        log = n.daemon.log()
        check("\x1b" not in log and not re.search(r"^level=error forged", log, re.M), log[-1000:])
        done = n.cli("audit", "tail")
        check("\x1b" not in done.stdout, done)


def test_numbers_without_measure():
    with node() as n:
        for value in (-1, -2**63, 2**63, 2**64, 10**30, 1.5, "8", True, 1e300):
            for name in ("max_tokens", "max_completion_tokens", "seed", "n", "top_k"):
                answer = n.daemon.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2,
                                                                name: value})
                check(answer.status in (200, 400), f"{name} {value}: {answer.status} {answer.body}")
                if name.startswith("max_"):
                    check(answer.status == 400, f"{name} {value}: {answer.status} {answer.body}")
        expect(n.ask(), 200)


# ---------------------------------------------------------------- crowds
def test_a_crowd_that_says_little():
    """Silent and dripping clients, endless headers and bodies take no place from who asks; and the memory is bounded."""
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    with node() as n, contextlib.ExitStack() as stack:
        before = n.daemon.status()["rss_bytes"]
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", n.daemon.port))) for _ in range(200)]
        for i, s in enumerate(crowd):
            with contextlib.suppress(OSError):
                s.sendall((head + b"x-a: b")[:i] if i % 2 else head + b"Content-Length: 1000000000\r\n\r\n{")
        expect(n.ask(), 200)
        for s in crowd[1::2]:
            with contextlib.suppress(OSError):
                s.sendall(b"y")
        expect(n.ask(), 200)
        for endless in (b"a: b\r\n", b"a: " + b"b" * 997 + b"\r\n"):
            with socket.create_connection(("127.0.0.1", n.daemon.port), timeout=60) as s:
                got = b""
                with contextlib.suppress(ConnectionError):
                    s.sendall(head + endless * 100000)
                with contextlib.suppress(ConnectionError):
                    got = s.recv(100)
            check(not got or got.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400")), got)
        more = n.daemon.status()["rss_bytes"] - before
        check(more < 32 << 20 or sanitized(), f"the daemon holds {more} bytes more")
        expect(n.ask(), 200)


# ---------------------------------------------------------------- G12
def test_private_stays_home_whatever_happens():
    """G12 by the header: over two turns, when the node is to be drained, and when it is lost. What is not private may travel."""
    with two_nodes(RECALL, plan="off", emulate=PACED, keep=4) as (prime, edge):
        prime.cli("node", "set", "prime", "--label", "home")
        apply(prime, [permit("mine", agents=["owner"]), forbid("home-only", labels=["private"], nodes=["!@home"]),
                      forbid("home-rows", labels=["private"], phases=["kv"], dst=["!@home"])])
        wait_until("edge has the policy", lambda: same_policy(prime, edge))
        text, private = passage(700), {"x-nebulus-label": "private"}
        first = quotation(text, 300)
        had = computed(edge)
        answer = ask(prime, text=first, labels=["private"])
        check(answer.status == 200 and prime.trace()["nodes"] == ["prime"], f"{answer.body}")
        second = first + answer.text
        for gateway in (prime, edge):  # the delta of a second turn
            check_denied(ask(gateway, "prime", "edge", text=second, labels=["private"]), "home-")
            answer = ask(gateway, text=second, labels=["private"])
            check(answer.status == 200 and gateway.trace()["nodes"] == ["prime"], f"{answer.status} {answer.body}")
        stream = Stream("127.0.0.1", prime.port, "/v1/completions",
                        {"prompt": first, "max_tokens": 300, "temperature": 0, "ignore_eos": True}, private).first_text()
        refused = prime.request("POST", "/nebulus/v1/drain", {"node": "prime", "to": "edge"}).json
        check(refused["refused"] == 1, f"{refused}")
        for _ in range(5):
            next(iter(stream))
        stream.close()
        stream = Stream("127.0.0.1", edge.port, "/v1/completions",
                        {"prompt": first, "max_tokens": 300, "temperature": 0, "ignore_eos": True}, private).first_text()
        end_process(prime.process, signal.SIGKILL)
        stream.read()
        check(stream.error and not stream.done, f"edge has gone on: {stream.text[-80:]!r}")
        check(computed(edge) == had, f"edge has computed something: {had} {computed(edge)}")
        check(not [r for r in records(edge.home) if r["type"] == "kv_recv"], "edge has had rows")


if __name__ == "__main__":
    run_tests([value for name, value in list(globals().items()) if name.startswith("test_")], sys.argv[4:])

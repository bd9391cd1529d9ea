#!/usr/bin/python3
"""usage: cluster_test.py NEBULUS [TEST...]

Membership with real daemons on loopback, each with a home of its own: how a cluster begins, how nodes join and go, what a wrong
token, a wrong key or an unknown machine gets, and that nobody takes a roster back.
"""
import base64
import contextlib
import hashlib
import json
import os
import pty
import re
import resource
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile

from harness import Daemon, check, end_process, free_port, in_parallel, run_tests, start_process, wait_until

NEBULUS = sys.argv[1]
PASSPHRASE = "correct horse battery staple"
LIMIT = 60


class Result:
    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"exit code {self.code}\nstdout: {self.out}\nstderr: {self.err}"


class Node:
    """A home, and the daemon that runs in it while it is started."""

    def __init__(self, folder, name):
        self.name, self.home, self.daemon = name, os.path.join(folder, name), None
        self.api, self.cluster = free_port(), free_port()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}
        self.env |= {"NEBULUS_HOME": self.home, "NEBULUS_API": f"127.0.0.1:{self.api}", "NEBULUS_NAME": name,
                     "NEBULUS_CLUSTER": f"127.0.0.1:{self.cluster}"}

    def start(self, *flags):
        self.daemon = Daemon(NEBULUS, self.home, port=self.api, cluster=f"127.0.0.1:{self.cluster}", name=self.name,
                             **dict(f.split("=", 1) for f in flags))
        return self

    def stop(self):
        if self.daemon:
            self.daemon.stop()
        self.daemon = None

    def run(self, *arguments, stdin=""):
        return Result(subprocess.run([NEBULUS, *arguments], input=stdin, capture_output=True, text=True, env=self.env,
                                     timeout=LIMIT, start_new_session=True, check=False))

    def ok(self, *arguments, **options):
        result = self.run(*arguments, **options)
        check(result.code == 0, f"nebulus {arguments[0]} on {self.name}: {result}")
        return result

    def fails(self, code, words, *arguments, **options):
        """An error is one line that says what to do."""
        result = self.run(*arguments, **options)
        lines = [line for line in result.err.splitlines() if not line.startswith("note: ")]
        good = result.code == code and len(lines) == 1 and lines[0].startswith("nebulus: ")
        check(good, f"{arguments} on {self.name}: {result}")
        for word in words.split("|"):
            check(word in lines[0], f"no '{word}' in: {result.err}")
        return result

    def get(self, path):
        return self.daemon.get(path).json

    def state_of(self, other):
        return next((n["state"] for n in self.get("/nebulus/v1/nodes")["nodes"] if n["name"] == other.name), "unknown")

    def sees(self, other, state):
        wait_until(f"{self.name} sees {other.name} as {state}", lambda: self.state_of(other) == state)

    def epoch(self):
        cluster = self.get("/nebulus/v1/nodes")["cluster"]
        return cluster and cluster["epoch"]

    def invite(self, *flags):
        return Invitation(self, *flags)


class Invitation:
    """`nebulus invite` while it waits."""

    def __init__(self, node, *flags):
        self.out = tempfile.TemporaryFile("w+")
        self.process = start_process([NEBULUS, "invite", *passphrase(node), *flags], self.out, node.env)
        self.token = wait_until("a token is printed", self.find_token)

    def text(self):
        return os.pread(self.out.fileno(), 1 << 20, 0).decode()  # the child writes on at the offset that both have

    def find_token(self):
        check(self.process.poll() is None, f"invite has ended: {self.text()}")
        found = re.search(r"^(neb1-\S+)$", self.text(), re.M)
        return found and found[1]

    def end(self, how=None):
        """Waits for its end, or brings it about; returns its exit code."""
        if how:
            return end_process(self.process, how)
        code = wait_until("invite ends", lambda: self.process.poll() is not None and (self.process.returncode,))[0]
        end_process(self.process)
        return code


def passphrase(node):
    file = os.path.join(node.home, "passphrase")
    return ("--passphrase-file", file) if os.path.exists(file) else ()


@contextlib.contextmanager
def nodes(*names):
    """Started nodes that do not know each other."""
    folder = tempfile.mkdtemp(prefix="cluster-", dir=os.getcwd())
    all_nodes = [Node(folder, name) for name in names]
    try:
        for n in all_nodes:
            n.start()
        yield all_nodes
        for n in all_nodes:
            n.stop()
    except BaseException:
        for n in all_nodes:
            if n.daemon:
                print(f"---- {n.name}\n{n.daemon.log()[-3000:]}", file=sys.stderr)
        raise
    finally:
        for n in all_nodes:
            if n.daemon:
                end_process(n.daemon.process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def init(node):
    node.ok("cluster", "init", "lab", "--no-passphrase")


def add(inviter, joiner, *flags):
    invitation = inviter.invite()
    joiner.ok("join", invitation.token, *flags)
    check(invitation.end() == 0, invitation.text())


def all_up(*members):
    for a in members:
        for b in members:
            if a is not b:
                a.sees(b, "up")


def mode(*path):
    return stat.S_IMODE(os.stat(os.path.join(*path)).st_mode)


def token_parts(token):
    raw = base64.urlsafe_b64decode(token[5:] + "=" * (-len(token[5:]) % 4))
    return raw[1:33], raw[33:49], raw[49:]


def make_token(root, secret, addresses):
    return "neb1-" + base64.urlsafe_b64encode(b"\x01" + root + secret + addresses).decode().rstrip("=")


# ---- beginning
def test_init():
    with nodes("alpha") as (a,):
        file = os.path.join(a.home, "passphrase")
        with open(file, "w", encoding="utf-8") as f:
            f.write("short\n")
        a.fails(5, "belongs to no cluster|init|join", "nodes")
        a.fails(2, "init", "cluster", "frob")
        a.fails(2, "letters", "cluster", "init", "a b")
        a.fails(1, "8 characters", "cluster", "init", "--passphrase-file", file)
        a.fails(1, "no terminal|--passphrase-file", "cluster", "init")
        a.fails(5, "cluster init", "invite", "--passphrase-file", file)
        with open(file, "w", encoding="utf-8") as f:
            f.write(PASSPHRASE + "\n")
        done = json.loads(a.ok("cluster", "init", "lab", "--json", "--passphrase-file", file).out)
        check(done["cluster"] == "lab" and done["node"]["name"] == "alpha", done)
        for path in ("config/cluster-root.key", "state/cluster.json", "state/identity/node.key", "state/identity/audit.key"):
            check(mode(a.home, path) == 0o600, f"{path} has mode {mode(a.home, path):o}")
        check(mode(a.home, "state/identity") == 0o700, "the identity's folder is open")
        with open(os.path.join(a.home, "config/cluster-root.key"), encoding="utf-8") as f:
            check("BEGIN ENCRYPTED PRIVATE KEY" in f.read(), "the cluster's key is not encrypted")
        a.fails(1, "belongs to cluster 'lab'|leave", "cluster", "init", "--passphrase-file", file)
        with open(file, "w", encoding="utf-8") as f:
            f.write("something else\n")
        a.fails(4, "not the passphrase", "invite", "--passphrase-file", file)
        told = json.loads(a.ok("nodes", "--json").out)
        check([n["state"] for n in told["nodes"]] == ["self"] and told["cluster"]["epoch"] == 1, told)
        check("lab" in a.ok("nodes").out, "no name of the cluster")


def at_terminal(node, arguments, lines):
    """Runs a command on a terminal of its own and types a line at each prompt; returns exit code and what was shown."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(NEBULUS, [NEBULUS, *arguments], node.env)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(terminal, 4096):
            shown += piece
            if lines and shown.endswith(b": "):
                os.write(terminal, lines.pop(0))
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_passphrase_at_the_terminal():
    with nodes("alpha") as (a,):
        typed = PASSPHRASE.encode() + b"\n"
        code, shown = at_terminal(a, ["cluster", "init"], [typed, b"something else\n"])
        check(code == 1 and "differ" in shown, shown)
        code, shown = at_terminal(a, ["cluster", "init"], [b"\x03"])
        check(code == 130, shown)
        code, shown = at_terminal(a, ["cluster", "init"], [typed, typed])
        check(code == 0 and "has begun" in shown and PASSPHRASE not in shown, shown)
        code, shown = at_terminal(a, ["revoke", "nobody"], [typed])
        check(code == 5 and PASSPHRASE not in shown, shown)
        code, shown = at_terminal(a, ["revoke", "nobody"], [b"wrong\n"])
        check(code == 4 and "not the passphrase" in shown, shown)


def test_encrypted_key_invites():
    with nodes("alpha", "beta") as (a, b):
        with open(os.path.join(a.home, "passphrase"), "w", encoding="utf-8") as f:
            f.write(PASSPHRASE + "\n")
        a.ok("cluster", "init", *passphrase(a))
        add(a, b)
        all_up(a, b)
        check(PASSPHRASE not in a.daemon.log(), "the passphrase is in a log")


# ---- joining
def test_three_nodes():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        invitation = a.invite()
        secret = token_parts(invitation.token)[1]
        joined = json.loads(b.ok("join", "-", "--json", stdin=invitation.token + "\n").out)
        check(joined["cluster"] == "lab" and joined["name"] == "beta" and joined["nodes"] == 2, joined)
        check(joined["address"] == f"127.0.0.1:{b.cluster}", joined)
        check(invitation.end() == 0 and "'beta'" in invitation.text(), invitation.text())
        invitation = a.invite("--name", "third")
        c.ok("join", invitation.token)
        check(invitation.end() == 0, invitation.text())
        c.name = "third"
        all_up(a, b, c)
        for n in (a, b, c):
            check(n.epoch() == 3, f"{n.name} is at epoch {n.epoch()}")
            wait_until("all tell of the same roster", lambda n=n: 1 == len(
                {m["digest"] for m in n.get("/nebulus/v1/nodes")["nodes"]}))
            wait_until("all links are measured", lambda n=n: all(
                m["rtt_ms"] or m["state"] == "self" for m in n.get("/nebulus/v1/nodes")["nodes"]))
            log = n.daemon.log()
            for text in (invitation.token, secret.hex(), base64.urlsafe_b64encode(secret).decode().rstrip("=")):
                check(text not in log, "a secret is in a log")
        table = b.ok("nodes").out
        check(all(word in table for word in ("alpha", "beta", "third", "this node", "up ", str(a.cluster))), table)


def test_bad_tokens():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        init(c)
        b.fails(1, "token", "join", "neb1-")
        b.fails(1, "token|invite", "join", "frob")
        b.fails(1, "damaged", "join", "-", stdin="neb1-AQAA\n")
        invitation = a.invite()
        root, secret, where = token_parts(invitation.token)
        b.fails(1, "damaged", "join", invitation.token[:-4])
        b.fails(4, "another cluster", "join", make_token(hashlib.sha256(b"x").digest(), secret, where))
        b.fails(4, "does not know this invitation", "join", make_token(root, bytes(16), where))
        other = f"127.0.0.1:{c.cluster}".encode()
        b.fails(4, "does not know this invitation", "join", make_token(root, secret, bytes([1, len(other)]) + other))
        nobody = f"127.0.0.1:{free_port()}".encode()
        b.fails(1, "cannot reach|refused", "join", make_token(root, secret, bytes([1, len(nobody)]) + nobody))
        b.fails(1, "no name", "join", invitation.token, "--name", "a b")
        b.fails(1, "called 'alpha' already|--name", "join", invitation.token, "--name", "alpha")
        c.fails(1, "belongs to cluster|leave", "join", invitation.token)
        # and after all that the token is as good as new; an address where nobody is does not matter
        two = bytes([3, len(nobody)]) + nobody + bytes([len(other)]) + other + where[1:]
        b.ok("join", make_token(root, secret, two))
        check(invitation.end() == 0 and "not let in" in invitation.text(), invitation.text())
        all_up(a, b)
        b.fails(1, "belongs to cluster 'lab'", "join", invitation.token)
        b.ok("leave")
        b.fails(4, "used|invite", "join", invitation.token)


def test_raced_token():
    """Two machines come with the same token at the same time: one is let in."""
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        invitation = a.invite()
        results = in_parallel([lambda node=node: node.run("join", invitation.token) for node in (b, c)])
        codes = [result.code for result in results]
        check(codes.count(0) == 1 and max(codes) in (1, 4), f"{results[0]} {results[1]}")
        check(invitation.end() == 0, invitation.text())
        winner, loser = (b, c) if codes[0] == 0 else (c, b)
        all_up(a, winner)
        loser.fails(4, "used|invite", "join", invitation.token)
        names = sorted(one["name"] for one in a.get("/nebulus/v1/nodes")["nodes"])
        check(names == sorted((a.name, winner.name)), f"{names}")


def test_withdrawn():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        invitation = a.invite()
        check(invitation.end(signal.SIGINT) == 130, invitation.text())
        b.fails(4, "withdrawn", "join", invitation.token)
        invitation = a.invite()
        a.stop()
        check(invitation.end() != 0, invitation.text())
        b.fails(1, "cannot reach", "join", invitation.token)
        a.start()
        b.fails(4, "does not know this invitation|restarted", "join", invitation.token)


def test_join_without_daemon():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        b.stop()
        invitation = a.invite()
        joined = b.ok("join", invitation.token)
        check("no daemon runs" in joined.err and "nebulus serve" in joined.err, joined)
        check(invitation.end() == 0, invitation.text())
        a.sees(b, "down")
        b.start()
        all_up(a, b)
        b.stop()
        b.ok("leave")  # found its peer, and told it
        a.sees(b, "left")
        b.fails(1, "belongs to no cluster", "leave")


# ---- staying and going
def test_restart():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        all_up(a, b)
        b.stop()
        a.sees(b, "down")
        told = next(n for n in a.get("/nebulus/v1/nodes")["nodes"] if n["name"] == "beta")
        check(told["why"], told)
        check("beta is down" in a.ok("nodes").out, "no reason is shown")
        b.start()
        all_up(a, b)
        end_process(a.daemon.process, signal.SIGKILL)
        b.sees(a, "down")
        a.start()
        all_up(a, b)
        check(a.epoch() == b.epoch() == 2, "an epoch was lost")


def test_revoke():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        add(a, b)
        add(a, c)
        all_up(a, b, c)
        a.fails(5, "no node 'nobody'", "revoke", "nobody")
        a.fails(1, "leave", "revoke", "alpha")
        b.fails(5, "cluster init", "revoke", "gamma")
        a.ok("revoke", "beta")
        for n in (a, c):
            n.sees(b, "unknown")
            check(n.epoch() == 4, f"{n.name} is at epoch {n.epoch()}")
        wait_until("beta knows", lambda: b.get("/nebulus/v1/nodes")["cluster"] is None)
        b.fails(5, "put out|invitation", "nodes")
        all_up(a, c)
        invitation = a.invite()
        b.fails(4, "revoked|identity", "join", invitation.token)
        shutil.rmtree(os.path.join(b.home, "state/identity"))
        b.stop()
        b.start()
        b.ok("join", invitation.token)
        check(invitation.end() == 0, invitation.text())
        all_up(a, b, c)


def told_of(node, name):
    one = next(n for n in node.get("/nebulus/v1/nodes")["nodes"] if n["name"] == name)
    return one["role"], one["labels"]


def test_roles_and_labels():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        invitation = a.invite()
        b.fails(1, "'boss'|prime", "join", invitation.token, "--role", "boss")
        b.ok("join", invitation.token, "--role", "edge")
        check(invitation.end() == 0, invitation.text())
        all_up(a, b)
        check(told_of(a, "beta") == ("edge", []) and told_of(a, "alpha") == ("auto", []), "the role was lost")
        told = json.loads(a.ok("node", "set", "beta", "--role", "prime", "--label", "den", "--label", "fast", "--label", "den",
                               "--json").out)
        check(told["epoch"] == 3 and told["node"]["labels"] == ["den", "fast"], told)
        wait_until("beta hears of itself", lambda: told_of(b, "beta") == ("prime", ["den", "fast"]))
        check(re.search(r"^beta +\w{8} +\S.* prime +den,fast ", b.ok("nodes").out, re.M), b.ok("nodes").out)
        a.ok("node", "set", told["node"]["id"], "--unlabel", "den")
        wait_until("a label is gone", lambda: told_of(b, "beta") == ("prime", ["fast"]))
        b.sees(a, "up")
        a.ok("node", "set", "alpha", "--role", "auto")  # also itself
        for words, code, said in ((("nobody", "--role", "edge"), 5, "no node 'nobody'|nebulus nodes"),
                                  (("beta", "--role", "boss"), 1, "'boss'|prime"), (("beta", "--label", "a b"), 1, "'a b'"),
                                  (("beta", "--unlabel", "den"), 5, "'den'"), (("beta",), 2, "nothing is to be set")):
            a.fails(code, said, "node", "set", *words)
        a.fails(2, "node set", "node", "get", "beta")
        b.fails(5, "cluster init", "node", "set", "alpha", "--role", "edge")
        check(a.epoch() == 5 and told_of(a, "beta") == ("prime", ["fast"]), "what failed has changed something")
        a.ok("node", "set", "beta", *(word for i in range(15) for word in ("-l", f"l{i}")))
        a.fails(1, "16 labels|--unlabel", "node", "set", "beta", "-l", "more")


def test_revoked_while_away():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        add(a, b)
        add(a, c)
        all_up(a, b, c)
        b.stop()
        a.ok("revoke", "beta")
        wait_until("gamma has the roster", lambda: c.epoch() == 4)
        b.start()  # still believes in itself, and is let in by nobody
        wait_until("beta was refused", lambda: all(
            n["state"] == "self" or (n["state"] == "down" and n["why"]) for n in b.get("/nebulus/v1/nodes")["nodes"]))
        check(a.state_of(b) == c.state_of(b) == "unknown", "a revoked node is a member again")


def test_roster_spreads_later():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        add(a, b)
        b.stop()
        add(a, c)
        b.start()
        all_up(a, b, c)
        check(a.epoch() == b.epoch() == c.epoch() == 3, "the epochs differ")


def test_disk_full():
    """No byte of a file can be written: what cannot be kept is refused in one line, and nothing is half there."""
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        full = lambda node: resource.prlimit(node.daemon.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        free = lambda node: resource.prlimit(node.daemon.process.pid, resource.RLIMIT_FSIZE, limits)
        kept = lambda node: open(os.path.join(node.home, "state", "cluster.json"), encoding="utf-8").read()
        init(a)
        add(a, b)
        invitation = a.invite()
        full(c)
        c.fails(1, "cannot write", "join", invitation.token)
        left = [name for _, _, names in os.walk(c.home) for name in names if name.startswith("cluster.json")]
        check(not left, f"half a membership is left: {left}")
        free(c)
        full(a)
        before = kept(a)
        c.run("join", invitation.token)
        check(invitation.end() == 1 and "cannot write" in invitation.text(), invitation.text())
        check(kept(a) == before and c.epoch() is None, "a roster counts that its inviter could not keep")
        free(a)
        before = kept(b)
        full(b)
        add(a, c)
        wait_until("beta obeys the roster", lambda: b.epoch() == a.epoch())
        check(kept(b) == before, "the file has changed")
        free(b)
        wait_until("beta keeps the roster", lambda: kept(b) != before)
        epoch = b.epoch()
        a.stop()
        c.stop()
        b.stop()
        b.start()
        check(b.epoch() == epoch, "the roster was not kept")
        a.start()
        c.start()


def test_leave():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        all_up(a, b)
        b.ok("leave")
        b.fails(5, "belongs to no cluster", "nodes")
        a.sees(b, "left")
        a.stop()
        a.start()
        check(a.state_of(b) == "left", "forgotten that it has left")
        add(a, b)
        all_up(a, b)
        b.ok("leave")
        a.sees(b, "left")
        c = Node(os.path.dirname(a.home), "gamma").start()
        try:
            add(a, c)
            check(a.state_of(b) == "unknown", "the next change of the roster has kept a node that has left")
        finally:
            c.stop()
        check(a.epoch() == 4, f"epoch {a.epoch()}")


def test_static_peers():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        all_up(a, b)
        a.stop()
        b.stop()
        a.cluster, b.cluster = free_port(), free_port()  # neither finds the other by the roster any more
        b.start()
        a.start(f"peer=127.0.0.1:{free_port()},127.0.0.1:{b.cluster}")
        all_up(a, b)
        check(f"127.0.0.1:{b.cluster}" in a.ok("nodes").out, "the static address is not shown")
        a.stop()
        bad = a.run("serve", "--peer", "nonsense:port")
        check(bad.code == 1 and "HOST:PORT" in bad.err, bad)
        bad = a.run("serve", "--cluster", "127.0.0.1")
        check(bad.code == 1 and "HOST:PORT" in bad.err, bad)
        a.start()


def test_two_daemons_of_one_home():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        second = Daemon(NEBULUS, a.home, cluster=f"127.0.0.1:{free_port()}")
        try:
            told = second.get("/nebulus/v1/nodes").json
            check(told["cluster"] is None and "another daemon" in told["trouble"], told)
            all_up(a, b)
            a.daemon.stop()
            wait_until("the second one takes over", lambda: second.get("/nebulus/v1/nodes").json["cluster"])
        finally:
            second.stop()
        a.start()
        all_up(a, b)


# ---- rosters that must not be taken
def signed(node, body):
    """A roster document, signed with the unencrypted root key of node."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(body.encode())
        f.flush()
        key = os.path.join(node.home, "config/cluster-root.key")
        done = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", f.name], capture_output=True,
                              check=True)
    return {"roster": {"body": body, "sig": done.stdout.hex()}}


def successor(document, role):
    body = json.loads(document["body"])
    body["epoch"] += 1
    body["prev"] = hashlib.sha256(document["body"].encode()).hexdigest()
    body["nodes"][0]["role"] = role
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def test_old_and_foreign_rosters():
    with nodes("alpha", "beta", "gamma") as (a, b, c):
        init(a)
        init(c)
        first = a.get("/nebulus/v1/cluster/roster")["roster"]
        add(a, b)
        now = a.get("/nebulus/v1/cluster/roster")["roster"]
        adopt = lambda d: a.daemon.post("/nebulus/v1/cluster/adopt", d)
        check(adopt({"roster": now}).status == 200, "the same one is no news")
        check(adopt({"roster": first}).status == 429, "an older roster was taken")
        foreign = signed(c, successor(now, "edge"))
        check(adopt(foreign).status == 403, "another root's roster was taken")
        torn = {"roster": {**now, "body": now["body"][:-1]}}
        check(adopt(torn).status == 403, "a torn roster was taken")
        check(adopt({}).status == 400 and adopt({"roster": 3}).status == 400, "nonsense was taken")
        good = signed(a, successor(now, "edge"))
        check(adopt(good).status == 200 and a.epoch() == 3, "the next roster was refused")
        wait_until("beta has it", lambda: b.epoch() == 3)


def test_fork():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        all_up(a, b)
        now = a.get("/nebulus/v1/cluster/roster")["roster"]
        b.stop()
        check(a.daemon.post("/nebulus/v1/cluster/adopt", signed(a, successor(now, "edge"))).status == 200, "not adopted")
        a.stop()
        b.start()
        check(b.daemon.post("/nebulus/v1/cluster/adopt", signed(a, successor(now, "prime"))).status == 200, "not adopted")
        a.start()
        for n in (a, b):
            wait_until(f"{n.name} raises the alarm", lambda n=n: (n.get("/nebulus/v1/nodes")["cluster"] or {}).get("alarm"))
            check("ALARM" in n.daemon.log() and "ALARM" in n.run("nodes").err, "the alarm is not told")
        check(a.run("invite").code == 4, "a frozen node invites")
        third = signed(a, successor(a.get("/nebulus/v1/cluster/roster")["roster"], "auto"))
        check(a.daemon.post("/nebulus/v1/cluster/adopt", third).status == 403, "a frozen node takes a roster")


# ---- machines that nobody knows
class Stranger:
    """A TLS client with a key of its own."""

    def __init__(self, folder):
        self.key, self.cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=stranger", "-keyout", self.key,
                        "-out", self.cert], capture_output=True, check=True)

    def connect(self, port, alpn):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.cert, self.key)
        if alpn:
            context.set_alpn_protocols([alpn])
        raw = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        try:
            return context.wrap_socket(raw)
        except ssl.SSLError:
            raw.close()
            return None

    def hears(self, port, alpn, *said):
        """What it is told before it is hung up on, and first between what it says."""
        heard = b""
        tls = self.connect(port, alpn)
        if not tls:
            return heard
        with tls, contextlib.suppress(OSError):
            for i, text in enumerate(said):
                if i:
                    heard += tls.recv(65536)
                tls.sendall(text)
            while piece := tls.recv(65536):
                heard += piece
        return heard


def is_hung_up(tls):
    tls.settimeout(0.01)
    try:
        return tls.recv(65536) == b""
    except (TimeoutError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        tls.settimeout(LIMIT)


def frame(message):
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack("<I", len(text)) + text


def invitation_id(secret):
    return hashlib.sha256(b"nebulus invitation".ljust(24, b"\0") + secret).hexdigest()[:32]


def test_strangers_hear_nothing():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        add(a, b)
        invitation = a.invite()
        stranger = Stranger(a.home)
        hello = {"t": "peer.hello", "version": 1, "id": "0" * 32, "name": "x", "boot": 1, "lost": 0, "about": {}}
        with socket.create_connection(("127.0.0.1", a.cluster), timeout=LIMIT) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            heard = b""
            with contextlib.suppress(OSError):
                while piece := plain.recv(4096):
                    heard += piece
            check(b"HTTP" not in heard and len(heard) < 64, f"plain text hears {heard!r}")  # a TLS alert
        for alpn in ("nebulus-control/1", "nebulus-data/1", "h2", None):
            heard = stranger.hears(a.cluster, alpn, frame(hello))
            check(heard == b"", f"a stranger hears {heard!r} by {alpn}")
        for said in (frame({"t": "pair", "v": 1, "invitation": "0" * 32}), frame({"t": "pair", "v": 1}), frame({"t": "roster"}),
                     frame(hello), frame(b"{"), frame(b"[]"), struct.pack("<I", 1 << 31), frame(b"x" * 20000),
                     frame({"t": "join", "node": {}, "proof": "00" * 32}), frame({"t": "stored"})):
            heard = stranger.hears(a.cluster, "nebulus-pair/1", said)
            check(heard == b"", f"a stranger hears {heard!r} for {said[:60]!r}")
        all_up(a, b)
        check(invitation.end(signal.SIGINT) == 130, invitation.text())


def test_silent_guests_make_room():
    """More guests than are talked to, which say nothing, or know an invitation's id and prove nothing."""
    with nodes("alpha", "beta") as (a, b), contextlib.ExitStack() as guests:
        init(a)
        invitation = a.invite()
        stranger = Stranger(a.home)
        hello = frame({"t": "pair", "v": 1, "invitation": invitation_id(token_parts(invitation.token)[1])})
        held = [guests.enter_context(stranger.connect(a.cluster, "nebulus-pair/1")) for _ in range(10)]
        for tls in held[-3:]:
            tls.sendall(hello)
            check(b"root" in tls.recv(65536), "a guest that knows the invitation hears nothing")
        wait_until("the oldest are hung up on", lambda: all(is_hung_up(tls) for tls in held[:6]))
        check(not any(is_hung_up(tls) for tls in held[-4:]), "more guests had to go than there was need for")
        for _ in range(4):
            tls = guests.enter_context(stranger.connect(a.cluster, "nebulus-pair/1"))
            tls.sendall(hello)
            check(b"root" in tls.recv(65536), "a guest that knows the invitation hears nothing")
        b.ok("join", invitation.token)
        check(invitation.end() == 0, invitation.text())


def test_wrong_proofs_burn_the_invitation():
    with nodes("alpha", "beta") as (a, b):
        init(a)
        invitation = a.invite()
        stranger = Stranger(a.home)
        hello = frame({"t": "pair", "v": 1, "invitation": invitation_id(token_parts(invitation.token)[1])})
        pin = "ab" * 32
        node = {"id": pin[:32], "name": "x", "pin": pin, "audit": pin, "role": "auto", "labels": [], "address": ""}
        for i in range(3):
            check(invitation.process.poll() is None, f"burnt after {i}: {invitation.text()}")
            heard = stranger.hears(a.cluster, "nebulus-pair/1", hello, frame({"t": "join", "node": node, "proof": "00" * 32}))
            answer = json.loads(heard[4:])
            check(struct.unpack("<I", heard[:4])[0] == len(heard) - 4 and set(answer) == {"t", "root", "proof"},
                  f"it hears more than the root: {heard}")
        check(invitation.end() == 1 and "without knowing the token" in invitation.text(), invitation.text())
        b.fails(4, "wrong proofs", "join", invitation.token)


if __name__ == "__main__":
    run_tests([value for name, value in list(globals().items()) if name.startswith("test_")], sys.argv[2:])

"""The audit log on real nodes: what it says of a request, that nothing goes on without it, and that two verifiers which share no
code agree on it (G1, G2, G7, G13)."""
import csv
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from harness import PACED, Daemon, Stream, check, end_process, run_tests, wait_until
from lone import node
from pair import NEBULUS, RECALL, passage, quotation, two_nodes

VERIFIER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "audit-verify", "audit-verify")


def log_of(home):
    return sorted(glob.glob(os.path.join(home, "state", "audit", "0*")))[-1]


def records(home):
    out = []
    for folder in sorted(glob.glob(os.path.join(home, "state", "audit", "0*"))):
        with open(os.path.join(folder, "log"), "rb") as f:
            data = f.read()
        while data:
            n, kind = int.from_bytes(data[:4], "little"), data[8]
            if kind != 64:
                out.append(json.loads(data[9:9 + n]))
            data = data[9 + n:]
    return out


def verify(path, *root):
    """Whether ours and the independent one accept it; they must agree. The number of the record that ours names."""
    ours = subprocess.run([NEBULUS, "audit", "verify", path, *root], capture_output=True, text=True, check=False)
    other = subprocess.run([sys.executable, "-B", VERIFIER, path, *root], capture_output=True, text=True, check=False)
    check(ours.returncode in (0, 1, 4, 5) and other.returncode in (0, 1), f"{ours} {other}")
    check((ours.returncode == 0) == (other.returncode == 0), f"{path}: they do not agree: {ours} {other}")
    named = re.search(r"at record (\d+)", ours.stderr)
    return ours.returncode == 0, int(named[1]) if named else None


def lone(home, **settings):
    return Daemon(NEBULUS, home, RECALL, **{"ctx": 2048, "kv_cells": 4096, "parallel": 4, "threads": 1, **settings})


def ask(daemon, **members):
    return daemon.post("/v1/completions", {"prompt": "once upon a time", "max_tokens": 4, "temperature": 0, **members})


def test_one_node():
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        daemon = lone(home)
        answer = ask(daemon)
        check(answer.status == 200, answer.json)
        path = answer.headers["x-nebulus-receipt"]
        wait_until("the receipt is there", lambda: daemon.get(path).status == 200)
        receipt = os.path.join(home, "receipt.json")
        with open(receipt, "w", encoding="utf-8") as f:
            json.dump(daemon.get(path).json, f)
        check(verify(receipt)[0], "the receipt does not hold")
        said = json.loads(daemon.get(path).json["record"])
        check(said["agent"] == "owner" and said["rules"] == ["builtin-owner"] and said["finish"] in ("stop", "length"), said)
        check(said["tokens"]["out"] == answer.json["usage"]["completion_tokens"], said)
        check(daemon.get("/nebulus/v1/receipts/cmpl-none").status == 404, "a receipt of nothing")
        env = {**os.environ, "NEBULUS_HOME": home}
        for words in (["show", answer.json["id"]], ["tail", "--agent", "owner"], ["report", "--format", "csv"], ["verify"],
                      ["receipt", answer.json["id"]]):
            done = subprocess.run([NEBULUS, "audit", *words], env=env, capture_output=True, text=True, check=False)
            check(done.returncode == 0 and done.stdout, f"{words}: {done}")
        end_process(daemon.process)
        check(verify(log_of(home)) == (True, None), "the log does not hold")
        with open(os.path.join(log_of(home), "log"), "rb") as f:
            check(b"once upon" not in f.read(), "the log holds a prompt")
        forge_receipt(receipt)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def forge_receipt(path):
    with open(path, encoding="utf-8") as f:
        whole = json.load(f)
    for member, change in (("record", lambda v: v.replace('"agent":"owner"', '"agent":"other"')),
                           ("index", lambda v: v + 1), ("type", lambda v: "deny"), ("proof", lambda v: v[:-1]),
                           ("checkpoint", lambda v: v.replace("\n", "\n1", 1))):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({**whole, member: change(whole[member])}, f)
        check(not verify(path)[0], f"a receipt with another {member} holds")


def audit(home, *words):
    return subprocess.run([NEBULUS, "audit", *words], env={**os.environ, "NEBULUS_HOME": home}, capture_output=True, text=True,
                          check=False)


def keep(home, done):
    check(done.returncode == 0, done)
    path = os.path.join(home, "proof.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(done.stdout)
    return path, json.loads(done.stdout)


def heads(home):
    """The sizes that the log's checkpoints sign."""
    with open(os.path.join(log_of(home), "log"), "rb") as f:
        return [int(line) for line in re.findall(rb"\n([0-9]+)\n[A-Za-z0-9+/=]{44}\n\n", f.read())]


def test_prove():
    """Each record, and growth between each two checkpoints, as both verifiers agree; and nothing else."""
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        daemon = lone(home)
        id_of = [ask(daemon).json["id"] for _ in range(3)][0]
        end_process(daemon.process)
        every = records(home)
        for record in every:
            path, said = keep(home, audit(home, "prove", str(record["seq"])))
            check(said["type"] == record["type"] and json.loads(said["record"]) == record, f"{said} is not {record}")
            check(verify(path)[0], f"the proof of {record} does not hold")
        forge_receipt(path)
        path, said = keep(home, audit(home, "prove", id_of, log_of(home)))
        check(json.loads(said["record"]) == [r for r in every if r.get("req_id") == id_of][-1], said)
        check(audit(home, "prove", str(len(every))).returncode == 5, "a record that is not there is proven")
        sizes = heads(home)
        check(len(sizes) > 2 and sizes[-1] == len(every), sizes)
        for size in sizes[:-1]:
            path, said = keep(home, audit(home, "prove", "--from", str(size)))
            check(said["growth"]["size"] == size and verify(path)[0], f"the growth from {size} on does not hold")
        path, said = keep(home, audit(home, "prove", "--from", str(sizes[0]), "--to", str(sizes[1])))
        check(verify(path)[0], said)
        wrong = {"type": "fork", "held": said["head"], "head": said["held"],
                 "growth": {**said["growth"], "root": said["head"].split("\n")[2]}}
        for member, value in wrong.items():
            with open(path, "w", encoding="utf-8") as f:
                json.dump({**said, member: value}, f)
            check(not verify(path)[0], f"a proof with another {member} holds")
        gone = next((n for n in range(1, sizes[-1]) if n not in sizes), None)
        if gone:
            done = audit(home, "prove", "--from", str(gone))
            check(done.returncode == 5 and "the next one is of" in done.stderr, done)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_export():
    """All of the log, and what is damaged is said to be."""
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        daemon = lone(home)
        ask(daemon)
        end_process(daemon.process)
        every = records(home)
        done = audit(home, "export")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        check(done.returncode == 0 and f": ok, {len(every)} of {len(every)} records" in done.stderr, done)
        origins = {line["log"] for line in lines}
        check([line["record"] for line in lines] == every and len(origins) == 1, f"{lines} is not {every}")
        owners = [r for r in every if r.get("agent") == "owner"]
        done = audit(home, "export", "--agent", "owner", "--format", "csv")
        rows = list(csv.DictReader(done.stdout.splitlines()))
        check([int(r["seq"]) for r in rows] == [r["seq"] for r in owners] and owners, rows)
        check({r["log"] for r in rows} == origins, rows)
        tokens = [str(r["tokens"]["out"]) for r in owners if r["type"] == "outcome"]
        check([r["tokens_out"] for r in rows if r["type"] == "outcome"] == tokens and tokens, rows)
        check(not audit(home, "export", "--agent", "nobody").stdout, "another agent's records")
        check(audit(home, "export", "--format", "text").returncode == 2, "any format will do")
        with open(os.path.join(log_of(home), "log"), "r+b") as f:
            f.seek(-20, os.SEEK_END)
            f.write(b"\0")
        done = audit(home, "export")
        check(done.returncode == 1 and "NOT ok" in done.stderr, done)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_damage():
    """G7, G13: bytes that are flipped, cut, swapped; files that are gone or of another log."""
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        daemon = lone(home)
        for _ in range(4):
            ask(daemon)
        end_process(daemon.process)
        folder, copy = log_of(home), os.path.join(home, "copy")
        with open(os.path.join(folder, "log"), "rb") as f:
            whole = f.read()
        starts, at, index = [], 0, 0
        while at < len(whole):
            n = int.from_bytes(whole[at:at + 4], "little")
            starts.append((at, at + 9 + n, index))
            index += whole[at + 8] != 64
            at += 9 + n

        def changed(data, name="log"):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            with open(os.path.join(copy, name), "wb") as f:
                f.write(data)
            return verify(copy)

        dice = random.Random(5)
        for _ in range(16):
            at = dice.randrange(len(whole))
            good, named = changed(whole[:at] + bytes([whole[at] ^ 1 << dice.randrange(8)]) + whole[at + 1:])
            frame = next(one for one in starts if one[0] <= at < one[1])
            check(not good and named == frame[2], f"byte {at} is flipped: record {named}, not {frame[2]}")
        for begin, end, index in starts:
            if whole[begin + 8] != 64 or end == len(whole):
                check(not changed(whole[:begin] + whole[end:])[0], f"record {index} is gone")
            check(not changed(whole[:begin + 5])[0], f"it ends within record {index}")
        (a, b, _), (c, d, _) = starts[2], starts[4]
        check(not changed(whole[:a] + whole[c:d] + whole[b:c] + whole[a:b] + whole[d:])[0], "two frames are swapped")
        with open(os.path.join(folder, "tree"), "rb") as f:
            tree = f.read()
        check(not changed(tree[:40] + bytes([tree[40] ^ 1]) + tree[41:], "tree")[0], "the tree is another one")
        check(changed(tree[:-40], "tree")[0], "the tree may be short")
        with open(os.path.join(folder, "checkpoint"), "rb") as f:
            note = f.read()
        other = b"B" if note[-3:-2] == b"A" else b"A"
        check(not changed(note[:-3] + other + note[-2:], "checkpoint")[0], "the checkpoint is forged")
        shutil.rmtree(copy)
        os.rename(folder, folder + "-away")
        os.mkdir(folder)
        check(not verify(folder)[0], "an empty folder is a log")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_damaged_log_stops_the_node():
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        daemon = lone(home)
        ask(daemon)
        end_process(daemon.process)
        path = os.path.join(log_of(home), "log")
        with open(path, "r+b") as f:
            f.seek(30)
            f.write(b"\xff")
        daemon = lone(home)
        answer = ask(daemon)
        check(answer.status == 503 and answer.error["code"] == "audit_unavailable", answer.json)
        check(path in answer.error["message"] and "record 0" in answer.error["message"], answer.json)
        end_process(daemon.process)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def kill_anywhere(rounds, seconds):
    """G2: as many intents as outcomes, each with one."""
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    dice, end, done = random.Random(rounds), time.monotonic() + seconds, 0
    try:
        while done < rounds and time.monotonic() < end:
            daemon = lone(home)
            with ThreadPoolExecutor() as clients:
                for _ in range(4):
                    clients.submit(ask, daemon, prompt="a b c", max_tokens=200, ignore_eos=True)
                time.sleep(dice.uniform(0.02, 0.4))
                end_process(daemon.process, signal.SIGKILL)
            done += 1
        end_process(lone(home).process)
        all_of = records(home)
        intents = [r["seq"] for r in all_of if r["type"] == "intent"]
        answered = sorted(r["intent"] for r in all_of if r["type"] == "outcome")
        check(intents == answered, f"{intents} {answered}")
        check(any(r["type"] == "recover" for r in all_of), "no crash was noticed")
        check(any(r.get("finish") == "abort" and r["error"]["code"] == "recover" for r in all_of), "nothing was aborted")
        check(verify(log_of(home))[0], "the log does not hold")
        print(f"       killed {done} times, {len(intents)} requests, {len(all_of)} records", flush=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_killed_anywhere():
    kill_anywhere(3, 60)


def torture():
    kill_anywhere(1000, 900)


def test_full_disk():
    """503 audit_unavailable within 2 s, with the path; and nothing is computed."""
    if os.geteuid():
        print("       skipped: needs root", flush=True)
        return
    home = tempfile.mkdtemp(prefix="audit-", dir=os.getcwd())
    try:
        os.makedirs(os.path.join(home, "state", "audit"))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", os.path.join(home, "state", "audit")],
                       check=True)
        daemon = lone(home)
        check(ask(daemon).status == 200, "it does not work on a disk with room")
        with open(os.path.join(home, "state", "audit", "ballast"), "wb", buffering=0) as f:
            try:
                while True:
                    f.write(b"x" * 4096)
            except OSError:
                pass
        answer = None
        for _ in range(20):  # what is left of the log's last page
            before = time.monotonic()
            answer = ask(daemon)
            if answer.status != 200:
                break
        took = time.monotonic() - before
        check(answer.status == 503 and answer.error["code"] == "audit_unavailable", answer.json)
        check(log_of(home) in answer.error["message"] and took < 2, f"{took:.1f} s: {answer.json}")
        check(ask(daemon).status == 503, "it is retried")
        end_process(daemon.process)
    finally:
        subprocess.run(["umount", "-l", os.path.join(home, "state", "audit")], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def reconcile(a, b, before, req_id):
    """G11: nothing is missing in the other's log; in an older copy of it each half is."""
    command = [NEBULUS, "audit", "reconcile", log_of(a.home)]
    done = subprocess.run([*command, log_of(b.home)], capture_output=True, text=True, check=False)
    check(done.returncode == 0 and done.stdout.startswith("2 nodes"), done)
    done = subprocess.run([*command, before, "--json"], capture_output=True, text=True, check=False)
    findings = json.loads(done.stdout)["findings"]
    check(done.returncode == 1 and {f["req_id"] for f in findings} == {req_id}, done)
    check(sorted(f["what"].split()[0] for f in findings) == ["says", "sent"], findings)
    old = os.path.join(a.home, "old")  # and the other way round: the gateway's log without the request
    shutil.copytree(log_of(a.home), old)
    with open(os.path.join(old, "log"), "rb") as f:
        data = f.read()
    kept = at = 0
    while at < len(data) and req_id.encode() not in data[at + 9:at + 9 + int.from_bytes(data[at:at + 4], "little")]:
        at += 9 + int.from_bytes(data[at:at + 4], "little")
        kept = at
    with open(os.path.join(old, "log"), "wb") as f:
        f.write(data[:kept])
    done = subprocess.run([NEBULUS, "audit", "reconcile", old, log_of(b.home)], capture_output=True, text=True, check=False)
    check(done.returncode == 1 and "its gateway has no record of" in done.stdout and "has got" in done.stdout, done)
    done = subprocess.run([*command, log_of(a.home)], capture_output=True, text=True, check=False)
    check(done.returncode != 0 and "two nodes or more" in done.stderr, done)


def test_cluster_changes_while_an_answer_is_written():
    """Its record goes on in the log that it began in, however many others have begun since."""
    with node(emulate=PACED) as n:
        running = Stream("127.0.0.1", n.daemon.port, "/v1/completions",
                         {"prompt": "one two", "max_tokens": 120, "ignore_eos": True}).first_text()
        for name in ("one", "two", "three"):
            n.cli("cluster", "init", name, "--no-passphrase")
            n.cli("leave")
            os.remove(os.path.join(n.home, "config", "cluster-root.key"))
        check(n.daemon.stat("running") == 1, "it was over too soon")
        running.read()
        check(running.done, running.error)
        n.daemon.stop()
        intents, outcomes = ([r["req_id"] for r in records(n.home) if r["type"] == kind] for kind in ("intent", "outcome"))
        check(len(intents) == 1 and outcomes == intents, f"{intents} {outcomes}")
        for folder in glob.glob(os.path.join(n.home, "state", "audit", "0*")):
            check(verify(folder)[0], f"{folder} does not hold")
        n.start()


def test_two_nodes():
    """Each node logs its own half, and the cluster's root vouches for both."""
    with two_nodes(RECALL) as (a, b):
        text = passage()
        before = shutil.copytree(log_of(b.home), os.path.join(b.home, "before"))
        stream = a.ask(quotation(text, 600), "prime", "edge", max_tokens=24).read()
        check(stream.done, stream.error)
        here = [r for r in records(a.home) if r.get("req_id") == a.trace()["id"]]
        wait_until("the other half has ended", lambda: any(
            r["type"] == "outcome" and r["req_id"] == here[0]["req_id"] for r in records(b.home) if "req_id" in r))
        there = [r for r in records(b.home) if r.get("req_id") == here[0]["req_id"]]
        check([r["part"] for r in here if r["type"] == "intent"] == ["gateway"], here)
        check([r["part"] for r in there if r["type"] == "intent"] == ["place"], there)
        sent = sum(r["bytes"] for r in here if r["type"] == "kv_sent")
        came = sum(r["bytes"] for r in there if r["type"] == "kv_recv")
        check(sent and sent == came, f"{sent} bytes of rows were sent, {came} came")
        check(there[0]["agent"] == "owner", there)
        root = json.loads(a.get("/nebulus/v1/cluster/roster").json["roster"]["body"])["root"] if "roster" in a.get(
            "/nebulus/v1/cluster/roster").json else json.loads(a.get("/nebulus/v1/cluster/roster").json["body"])["root"]
        reconcile(a, b, before, here[0]["req_id"])
        for node in (a, b):
            end_process(node.process)
            check(verify(log_of(node.home), "--root", root)[0], f"{node.name}'s log does not hold under the root")
            check(not verify(log_of(node.home), "--root", "00" * 32)[0], "any root will do")


if __name__ == "__main__":
    TESTS = [test_one_node, test_prove, test_export, test_damage, test_damaged_log_stops_the_node, test_killed_anywhere,
             test_full_disk, test_cluster_changes_while_an_answer_is_written, test_two_nodes]
    run_tests([torture] if "torture" in sys.argv else TESTS, sys.argv[3:])

"""Nodes witness each other's audit logs: what one has signed cannot be taken back by it, whatever happens to its files (G8). They
mirror each other's records, too, from which a log that is damaged or gone comes back."""
import glob
import json
import os
import shutil
import subprocess
import sys

from harness import check, run_tests, wait_until
from pair import NEBULUS, RECALL, two_nodes

VERIFIER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "audit-verify", "audit-verify")


def audit_of(node):
    return node.get("/nebulus/v1/status").json["audit"]


def log_of(node):
    return sorted(glob.glob(os.path.join(node.home, "state", "audit", "0*")))[-1]


def ask(node, **members):
    return node.post("/v1/completions", {"prompt": "once upon a time", "max_tokens": 2, "temperature": 0, **members})


def cosigned(*nodes):
    wait_until("all is cosigned", lambda: all(audit_of(n)["records"] and not audit_of(n)["tail"] for n in nodes))


def again(node, **settings):
    """The same node, started anew."""
    node.__init__(node.home, node.name, RECALL, plan="off", **settings)


def verify(path, *options):
    """Whether both verifiers accept it, and what ours says."""
    ours = subprocess.run([NEBULUS, "audit", "verify", path, *options], capture_output=True, text=True, check=False)
    other = subprocess.run([sys.executable, "-B", VERIFIER, path, *options], capture_output=True, text=True, check=False)
    check((ours.returncode == 0) == (other.returncode == 0), f"{path}: they do not agree: {ours} {other}")
    return ours.returncode == 0, ours.stdout + ours.stderr


def offline(node, *arguments):
    """A command in the home of a node that is stopped."""
    return subprocess.run([NEBULUS, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "NEBULUS_HOME": node.home})


def root_of(node):
    return json.loads(node.get("/nebulus/v1/cluster/roster").json["roster"]["body"])["root"]


def id_of(node):
    return next(n["id"] for n in node.get("/nebulus/v1/nodes").json["nodes"] if n["state"] == "self")


def finding(node, about):
    return next(n["audit"]["finding"] for n in node.get("/nebulus/v1/nodes").json["nodes"] if n["name"] == about)


def mirrored(*nodes):
    """Another node has all records of each."""
    wait_until("all is mirrored", lambda: all(a["records"] and a["mirrored"] == a["records"] for a in map(audit_of, nodes)))


def mirror_of(node, log, at):
    """Where `at` keeps its mirror of that log."""
    return os.path.join(at.home, "state", "audit", "mirrors", id_of(node), os.path.basename(log))


def held_of(log, at):
    """What `at`, a witness, holds of that log."""
    with open(os.path.join(log, "key"), encoding="utf-8") as f:
        owner = f.read().split("/")[1]
    return os.path.join(at.home, "state", "audit", "witnessed", owner, os.path.basename(log))


def bytes_of(log):
    with open(os.path.join(log, "log"), "rb") as f:
        return f.read()


def damage(log, at):
    with open(os.path.join(log, "log"), "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def record_at(log, at):
    """The number of the record that has that byte of the log."""
    data, end, records = bytes_of(log), 0, 0
    while True:
        kind, end = data[end + 8], end + 9 + int.from_bytes(data[end:end + 4], "little")
        if end > at:
            return records
        records += kind != 64


def receipt_of(node, answer):
    path = os.path.join(node.home, "receipt.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(node.get(answer.headers["x-nebulus-receipt"]).json, f)
    return path


def refused(node, **members):
    answer = node.post("/nebulus/v1/audit/recover", members)
    check(answer.status >= 400, answer.json)
    return answer.error["message"]


def check_refuses(node, *words):
    trouble = wait_until("the loss is noticed", lambda: audit_of(node)["trouble"])
    check(all(word in trouble for word in words), f"{words}: {trouble}")
    answer = ask(node)
    check(answer.status == 503 and answer.error["code"] == "audit_unavailable", answer.json)
    check(all(word in answer.error["message"] for word in words), answer.json)


def recover(node):
    node.cli("audit", "recover")
    check(ask(node).status == 200, "it does not compute after it was recovered")
    cosigned(node)


def cut(log):
    """The log without its last records, as if they had never been; how many are left."""
    with open(os.path.join(log, "log"), "rb") as f:
        data = f.read()
    at, records, ends = 0, 0, []
    while at < len(data):
        kind, at = data[at + 8], at + 9 + int.from_bytes(data[at:at + 4], "little")
        records += kind != 64
        if kind == 64:
            ends.append((at, records))
    end, left = ends[len(ends) // 2]
    with open(os.path.join(log, "log"), "wb") as f:
        f.write(data[:end])
    os.remove(os.path.join(log, "checkpoint"))
    os.remove(os.path.join(log, "tree"))
    return left


def test_one_sleeps():
    """While a node is away the tail is shown; when it is back, all is cosigned. Whoever has the root can check it all."""
    with two_nodes(RECALL) as (prime, edge):
        check(ask(prime).status == 200, "no answer")
        cosigned(prime, edge)
        check(audit_of(prime)["witnesses"] == 1, audit_of(prime))
        for command in ("status", "nodes"):  # a record may have come in between
            wait_until("it is shown", lambda c=command: "all counter-signed" in prime.cli(c))
        edge.stop()
        check(ask(prime).status == 200, "serving depends on the other node")
        wait_until("the tail is seen", lambda: audit_of(prime)["tail"] >= 2)
        check("not counter-signed" in prime.cli("status") and "not counter-signed" in prime.cli("nodes"), "no tail is shown")
        again(edge)
        cosigned(prime, edge)
        root = root_of(prime)
        said = prime.cli("doctor")
        check("warn root key" in " ".join(said.split()) and "1 witnesses" in said and "secrets" not in said, said)
        os.chmod(os.path.join(prime.home, "config", "cluster-root.key"), 0o644)
        check("cluster-root.key is open to other users" in prime.cli("doctor"), "an open key is no worry")
        prime.stop()
        edge.stop()
        for node in (prime, edge):
            good, said = verify(log_of(node), "--root", root)
            check(good and "counter-signed by 1 other node\n" in said, said)
        witnesses = os.path.join(log_of(edge), "witnesses")
        with open(witnesses, encoding="utf-8") as f:
            whole = json.load(f)
        text = whole[0]["note"]
        for at in (text.index("\n") + 1, text.rindex(" ") + 9, len(text) - 5):
            with open(witnesses, "w", encoding="utf-8") as f:
                other = "A" if text[at] != "A" else "B"
                json.dump([{**whole[0], "note": text[:at] + other + text[at + 1:]}], f)
            check(not verify(log_of(edge))[0], f"byte {at} of a cosigned checkpoint is another one")
        with open(witnesses, "w", encoding="utf-8") as f:
            json.dump(whole, f)
        copy = os.path.join(edge.home, "copy")
        shutil.copytree(log_of(edge), copy)
        left = cut(copy)
        good, said = verify(copy)
        check(not good and "counter-signed" in said and f"at record {left}: it ends there" in said, said)
        os.remove(os.path.join(copy, "witnesses"))
        good, said = verify(copy)
        check(good and "--held NOTE" in said, "what is cut off cleanly is only known to the witnesses")
        held = held_of(log_of(edge), prime)
        good, said = verify(log_of(edge), "--held", held)
        check(good and "held elsewhere" in said, said)
        good, said = verify(copy, "--held", held)
        check(not good and f"at record {left}: it ends there" in said and held in said, said)
        check(not verify(copy, "--held", held_of(log_of(prime), edge))[0], "a note of another log will do")
        check(not verify(copy, "--held", copy + "-none")[0], "a note that is not there will do")
        done = offline(prime, "audit", "verify", copy)
        check(done.returncode == 1 and held in done.stderr, f"a witness does not use what it holds: {done}")
        done = offline(prime, "audit", "verify", log_of(edge))
        check(done.returncode == 0 and "held elsewhere" in done.stdout, done)


def test_lost_records():
    """A backup that was restored, a log that was deleted: the node computes nothing until the owner has given them up."""
    with two_nodes(RECALL) as (prime, edge):
        check(ask(edge).status == 200, "no answer")
        cosigned(prime, edge)
        edge.stop()
        log, backup = log_of(edge), os.path.join(edge.home, "backup")
        shutil.copytree(log, backup)
        again(edge)
        for _ in range(4):
            check(ask(edge).status == 200, "no answer")
        cosigned(edge)
        edge.stop()
        newest = os.path.join(edge.home, "newest")
        shutil.move(log, newest)
        shutil.copytree(backup, log)
        again(edge)
        check_refuses(edge, os.path.basename(log), "record ", "prime")
        wait_until("the other node knows", lambda: finding(prime, "edge") == "shrunk")
        check("edge has lost records" in prime.cli("nodes"), "it is not shown")
        edge.stop()
        again(edge)
        check(audit_of(edge)["trouble"], "a restart forgets it")
        edge.stop()  # the right files are found after all
        shutil.rmtree(log)
        shutil.copytree(newest, log)
        again(edge)
        cosigned(edge)
        check(ask(edge).status == 200 and not finding(prime, "edge"), "it does not go on with its own log")
        edge.stop()
        shutil.rmtree(log)
        again(edge)
        check_refuses(edge, os.path.basename(log), "record ", "prime")
        recover(edge)
        check(os.path.basename(log) in edge.cli("audit", "tail", "--json"), "the gap is not on record")
        edge.stop()
        again(edge)
        check(ask(edge).status == 200, "what was given up is missed again")


def test_fork():
    """G8: two histories of one log, signed by one key: the witness has the proof, and anybody can check it."""
    with two_nodes(RECALL) as (prime, edge):
        cosigned(prime, edge)
        edge.stop()
        log, backup = log_of(edge), os.path.join(edge.home, "backup")
        shutil.copytree(log, backup)
        again(edge)
        check(ask(edge).status == 200, "no answer")
        cosigned(edge)
        edge.stop()
        shutil.rmtree(log)
        shutil.copytree(backup, log)
        root, node = root_of(prime), id_of(prime)
        prime.stop()
        again(edge)
        for _ in range(4):
            check(ask(edge).status == 200, "a node alone cannot know")
        prime.__init__(prime.home, "prime", RECALL, plan="off", peers=edge.at)
        check_refuses(edge, os.path.basename(log), "record ", "prime")
        wait_until("the other node knows", lambda: finding(prime, "edge") == "forked")
        proof = wait_until("the proof is kept", lambda: glob.glob(os.path.join(prime.home, "state/audit/witnessed/*/*.fork")))[0]
        good, said = verify(proof, "--root", root)
        check(good and id_of(edge) in said and "forked" in said, said)
        check(not verify(proof, "--root", "00" * 32)[0], "any root will do")
        with open(proof, encoding="utf-8") as f:
            whole = json.load(f)
        honest = {**whole, "head": whole["held"]}
        for forged in (honest, {**whole, "growth": {**whole["growth"], "size": whole["growth"]["size"] - 1}},
                       {**whole, "head": whole["head"].replace("\n", "\n1", 1)}):
            with open(proof + "-forged", "w", encoding="utf-8") as f:
                json.dump(forged, f)
            check(not verify(proof + "-forged")[0], f"it proves nothing: {forged}")
        check('"finding":"forked"' in prime.cli("audit", "tail", "--json"), "it is not on record")
        check("signed two histories" in prime.cli("nodes"), "it is not shown")
        recover(edge)
        check(node not in verify(proof)[1], "the wrong node is named")


def test_mirror():
    """A node that was away catches up with the records, too: its mirror is a log that anybody can verify. Where there is no room
    for more, heads alone are witnessed, and that is shown."""
    with two_nodes(RECALL) as (prime, edge):
        check(ask(edge).status == 200, "no answer")
        mirrored(prime, edge)
        check("mirrored by 1 other node" in edge.cli("status") and "mirror of edge here" in prime.cli("nodes"), "it is not shown")
        log, mirror, root = log_of(edge), mirror_of(edge, log_of(edge), prime), root_of(prime)
        prime.stop()
        for _ in range(3):
            check(ask(edge).status == 200, "serving depends on the other node")
        again(prime, peers=edge.at)
        cosigned(prime, edge)
        mirrored(prime, edge)
        check("1 nodes mirror the audit log" in edge.cli("doctor"), edge.cli("doctor"))
        prime.stop()
        good, said = verify(mirror, "--root", root)
        check(good and id_of(edge) in said and "counter-signed by 1 other node\n" in said, said)
        check(bytes_of(log).startswith(bytes_of(mirror)), "the mirror has other bytes")
        check(all(not os.stat(path).st_mode & 0o077 for path in glob.glob(mirror + "/*")), "others can read the mirror")
        folder = os.path.dirname(mirror)
        os.mkdir(os.path.join(folder, "000000-00000000"))  # what is there from before takes all the room
        with open(os.path.join(folder, "000000-00000000", "log"), "wb") as f:
            f.truncate(1 << 20)
        before = os.path.join(prime.home, "state", "audit", "witnessed", os.path.basename(folder), "000000-00000000")
        with open(before, "w", encoding="utf-8") as f:
            f.write("a note that is none\n")
        again(prime, peers=edge.at, audit_mirrors=1)
        check(ask(edge).status == 200, "no answer")
        wait_until("it is full", lambda: audit_of(prime)["mirrors_full"])
        cosigned(prime, edge)
        check(audit_of(edge)["mirrored"] < audit_of(edge)["records"], "it was mirrored all the same")
        check("mirrored no further" in prime.cli("doctor") and "audit_mirrors" in prime.cli("nodes"), "it is not shown")
        edge.stop()
        shutil.rmtree(log)
        again(edge, peers=prime.at)
        check_refuses(edge, os.path.basename(log), "record ", "prime")
        done = subprocess.run([NEBULUS, "audit", "recover", "--from", "prime"], capture_output=True, text=True, check=False,
                              env={**os.environ, "NEBULUS_HOME": edge.home, "NEBULUS_API": f"127.0.0.1:{edge.port}"})
        check(done.returncode == 1 and "records again, of " in done.stderr, f"it has all records: {done}")
        check(bytes_of(log) == bytes_of(mirror) and ask(edge).status == 503, "it goes on without what is missing")
        edge.stop()
        again(edge, peers=prime.at)
        check_refuses(edge, os.path.basename(log), "record ")
        recover(edge)
        check(log_of(edge) != log and bytes_of(log) == bytes_of(mirror), "what was given up goes on")
        prime.stop()
        os.remove(before)
        again(prime, peers=edge.at)
        mirrored(edge)


def test_restore():
    """A log with a wrong byte, and one that is gone, stop their node; another node's mirror brings them back."""
    with two_nodes(RECALL) as (prime, edge):
        answer = ask(edge)
        mirrored(edge)
        receipt, root = receipt_of(edge, answer), root_of(prime)
        check("nothing to recover" in refused(edge, **{"from": "prime"}), "a log in order is restored")
        prime.stop()
        check(ask(edge).status == 200, "no answer")  # records that no mirror has
        edge.stop()
        log, at = log_of(edge), 1000
        whole = bytes_of(log)
        damage(log, at)
        again(edge)
        check_refuses(edge, log, f"record {record_at(log, at)} ", "recover --from")
        check("down" in refused(edge, **{"from": "prime"}), "a node that is down gives its mirror")
        check("no other node" in refused(edge, **{"from": "nobody"}), "a node that is none gives its mirror")
        again(prime, peers=edge.at)
        wait_until("the nodes see each other", lambda: edge.sees("prime"))
        said = edge.cli("audit", "recover", "--from", "prime")
        check("records again" in said and "damaged-" in said, said)
        check(log_of(edge) == log and bytes_of(log).startswith(whole), "it does not go on with the log that was whole")
        check(ask(edge).status == 200 and not audit_of(edge)["trouble"], "it does not compute")
        check(f"{os.path.basename(log)} are back, from prime" in edge.cli("audit", "tail"), "it is not on record")
        mirrored(edge)
        edge.stop()
        check(verify(log, "--root", root)[0] and verify(receipt, "--root", root)[0], "the log or a receipt does not hold")
        whole = bytes_of(log)
        shutil.rmtree(log)
        again(edge, peers=prime.at)
        check_refuses(edge, os.path.basename(log), "record ", "prime", "recover --from")
        edge.cli("audit", "recover", "--from", "prime")
        check(whole.startswith(bytes_of(log)) and bytes_of(log) == bytes_of(mirror_of(edge, log, prime)), "it has other bytes")
        check(ask(edge).status == 200 and log_of(edge) != log, "a log whose end nobody knows goes on")
        cosigned(edge)
        mirrored(edge)
        edge.cli("audit", "verify")
        check(verify(log, "--root", root)[0], verify(log, "--root", root)[1])
        edge.cli("audit", "receipt", answer.json["id"])
        edge.stop()
        again(edge, peers=prime.at)
        check(ask(edge).status == 200, "what came back is missed again")
        check(bytes_of(log) == bytes_of(mirror_of(edge, log, prime)), "a log whose end nobody knows goes on")


if __name__ == "__main__":
    run_tests([test_one_sleeps, test_lost_records, test_fork, test_mirror, test_restore], sys.argv[3:])

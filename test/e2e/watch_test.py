#!/usr/bin/python3
"""usage: watch_test.py NEBULUS MODELS_DIR [TEST...]

The live view of the cluster while a request runs over two nodes: on a terminal, in a pipe, as JSON. One of them writes as slowly
as a machine that is emulated, so that there is something to see.
"""
import json
import os
import re
import signal
import subprocess
import sys

from harness import check, run_tests, wait_until
from pair import MODELS, NEBULUS, some_nodes
from terminal import Terminal

SLOW = "m3-ultra:4@llama-3.1-8b"
TINY = os.path.join(MODELS, "random_f32.gguf")
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def env_of(node, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_") and k != "NO_COLOR"}
    return {**env, "NEBULUS_HOME": node.home, "NEBULUS_API": f"127.0.0.1:{node.port}", "TERM": "xterm", **more}


def jobs(view):
    """{phase, tokens} of the job that a screen shows, or None."""
    rows = [line for line in view or [] if re.search(r" prime +edge +", line)]
    found = rows and re.search(r"random_f32 +prime +edge +(\S+) +120 +(\d+) +(\S+) +\S+$", rows[0].rstrip())
    return (found[1], int(found[2])) if found else None


def watch_until(terminal, what, condition):
    def look():
        terminal.read()
        return condition(terminal.screen())
    return wait_until(what, look)


def check_terminal(edge):
    t = Terminal([NEBULUS, "nodes", "--watch"], env_of(edge), columns=140)
    _, before = watch_until(t, "the job is shown", lambda s: jobs(s) if jobs(s) and jobs(s)[1] else None)
    watch_until(t, "its tokens are counted on", lambda s: jobs(s) and jobs(s)[0] == "decode" and jobs(s)[1] > before)
    shown = t.screen()
    check(len([line for line in shown if line.startswith("cluster test")]) == 1, shown)
    check(any(re.match(r"prime +\w{8} +up", line) and "ms" in line for line in shown), shown)
    check(t.text.startswith(ENTER) and t.text.count(ENTER) == 1 and "\x1b[2m" in t.text, repr(t.text[:300]))
    check(not t.echoes(), "keys are echoed over the picture")
    t.resize(40, 6)
    small = watch_until(t, "the new size is heeded", lambda s: len(s) == 6 and s)
    check(all(len(line) <= 40 for line in small) and re.match(r"\.\.\. \d+ more lines", small[-1]), small)
    t.type("\x03")
    check(watch_until(t, "the terminal is given back", lambda s: s is None and t.echoes()), "no")
    check(t.wait() == 130 and t.text.rstrip("\r\n").endswith(LEAVE), repr(t.text[-200:]))


def check_plain_terminals(edge):
    """Without colours the picture is drawn all the same; without a cursor, and in a pipe, there are blocks of text."""
    t = Terminal([NEBULUS, "nodes", "-w"], env_of(edge, NO_COLOR="1"), columns=140)
    watch_until(t, "the job is shown", jobs)
    check(not re.search(r"\x1b\[[\d;]*m", t.text), repr(t.text[-500:]))
    os.kill(t.pid, signal.SIGTERM)
    check(t.wait() == -signal.SIGTERM and t.text.endswith(LEAVE), repr(t.text[-200:]))
    t = Terminal([NEBULUS, "nodes", "-w"], env_of(edge, TERM="dumb"))
    check(t.expect("cluster test") and t.expect("cluster test"), "no second block")
    check("\x1b" not in t.text, repr(t.text[-500:]))
    t.type("\x03")
    check(t.wait() == 130, "no 130")


def check_streams(edge):
    seen = []
    with subprocess.Popen([NEBULUS, "nodes", "--watch", "--json"], env=env_of(edge), stdout=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            seen.append(json.loads(line))
            if len(seen) == 2:
                p.send_signal(signal.SIGINT)
    check(p.returncode == 130 and len(seen) >= 2, f"{p.returncode} after {len(seen)} lines")
    first, second = (one["jobs"][0] for one in seen[:2])
    check(first["id"] == second["id"] and (first["prefill"], first["decode"]) == ("prime", "edge"), first)
    check(second["completion_tokens"] > first["completion_tokens"] and second["tokens_s"] > 0, second)
    check([one["state"] for one in seen[0]["nodes"]] == ["up", "self"] and "text" not in json.dumps(first), seen[0])
    text = []
    with subprocess.Popen([NEBULUS, "nodes", "--watch"], env=env_of(edge), stdout=subprocess.PIPE, text=True) as p:
        for line in p.stdout:
            text.append(line)
            if line.startswith("cluster test") and sum(one.startswith("cluster test") for one in text) == 2:
                p.send_signal(signal.SIGINT)
    check(p.returncode == 130 and "\x1b" not in "".join(text) and any(jobs([one]) for one in text), text)


def test_watch():
    with some_nodes(TINY, TINY, each=({}, {"emulate": SLOW})) as (prime, edge):
        stream = edge.ask([300 + 7 * i % 200 for i in range(120)], "prime", "edge", "wait",
                          max_tokens=1800, ignore_eos=True).first_text()
        check_terminal(edge)
        check_plain_terminals(edge)
        check_streams(edge)
        there = prime.get("/nebulus/v1/nodes").json
        check(there["jobs"] == [] and [(o["gateway"], o["phase"]) for o in there["orders"]] == [("edge", "standby")], there)
        check("standby" in prime.cli("nodes"), prime.cli("nodes"))
        status = Terminal([NEBULUS, "status", "--watch"], env_of(edge))
        watch_until(status, "the model is shown", lambda s: any(re.match("random_f32 +ready", line) for line in s or []))
        stream.close()
        wait_until("the job is gone", lambda: edge.get("/nebulus/v1/nodes").json["jobs"] == [])
        check("JOB" not in edge.cli("nodes"), "a job that is gone is shown")
        edge.stop()
        watch_until(status, "that the daemon is away is told", lambda s: s and "no daemon answers" in s[0])
        status.type("\x03")
        check(status.wait() == 130, "no 130")
        failed = subprocess.run([NEBULUS, "nodes", "--watch"], env=env_of(edge), capture_output=True, text=True, check=False)
        check(failed.returncode == 3 and failed.stdout == "", failed)


if __name__ == "__main__":
    run_tests([test_watch], sys.argv[3:])

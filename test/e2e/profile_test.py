#!/usr/bin/python3
"""Profiles: daemons measure their models, give way to requests, keep what they know, and tell each other.

usage: profile_test.py NEBULUS MODELS [TEST...]
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from harness import Daemon, check, daemon, run_tests, wait_until
from pair import MODELS, NEBULUS, RANDOM, events, prompt_of, two_nodes

SMALL = os.path.join(MODELS, "random.gguf")
SETTINGS = {"ctx": 1024, "kv_cells": 4096, "parallel": 2, "cluster": "off", "profile": "on"}


def profiles(d):
    return d.get("/nebulus/v1/profile").json["profiles"]


def measured(d, node=None):
    found = [p for p in profiles(d) if p["source"] == "measured" and not p["measuring"] and node in (None, p["node"])]
    return found[0] if found else None


def wait_measured(d, node=None):
    return wait_until("the model is measured", lambda: measured(d, node))


def cli(d, *words, code=0):
    env = {**os.environ, "NEBULUS_API": f"127.0.0.1:{d.port}", "NEBULUS_HOME": os.getcwd()}
    done = subprocess.run([NEBULUS, "profile", *words], env=env, capture_output=True, text=True, check=False, timeout=120)
    check(done.returncode == code, f"{words}: {done.returncode}: {done.stderr}")
    return done.stdout


def check_sound(p):
    costs = p["profile"]
    check(len(costs) == 5 and all(0 <= v < 10 for v in costs.values()), costs)
    check(costs["prefill_token"] > 0 and costs["decode_base"] > 0, costs)
    check(p["prefill"] and p["decode"] and all(s["tokens_s"] > 0 for s in p["prefill"] + p["decode"]), p)
    check(0 <= p["error"] < 1 and p["free_cells"] == 4096 and p["queued_tokens"] == 0, p)


def test_measured_and_kept():
    home = tempfile.mkdtemp(prefix="profile-", dir=os.getcwd())
    try:
        d = Daemon(NEBULUS, home, SMALL, threads=1, **SETTINGS)
        first = wait_measured(d)
        check_sound(first)
        stats = d.model()["stats"]
        check(stats["requests"] == stats["prefill_tokens"] == stats["decode_tokens"] == stats["cells_kept"] == 0, stats)
        check(d.status()["requests"]["active"] == 0 and d.model()["requests"] == 0, d.status())
        d.stop()
        check(d.log().count("was measured") == 1, d.log())
        d = Daemon(NEBULUS, home, SMALL, threads=1, **SETTINGS)  # reads it back
        check(measured(d) and measured(d)["profile"].keys() == first["profile"].keys(), profiles(d))
        d.stop()
        check(d.log().count("was measured") == 1, d.log())
        folder = os.path.join(home, "state", "profiles")
        name = os.path.join(folder, os.listdir(folder)[0])
        with open(name, encoding="utf-8") as f:
            kept = json.load(f)
        with open(name, "w", encoding="utf-8") as f:
            json.dump({**kept, "profile": [-1, *kept["profile"][1:]]}, f)
        d = Daemon(NEBULUS, home, SMALL, threads=1, **SETTINGS)  # absurd: measured anew
        wait_measured(d)
        d.stop()
        check("is ignored: absurd profile: prefill_base is -1 s" in d.log() and d.log().count("was measured") == 2, d.log())
        d = Daemon(NEBULUS, home, SMALL, threads=2, **SETTINGS)  # another machine, as it were
        wait_measured(d)
        d.stop()
        check(d.log().count("was measured") == 3 and len(os.listdir(folder)) == 2, d.log())
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_request_comes_first():
    with daemon(NEBULUS, RANDOM, **{**SETTINGS, "threads": 1}) as d:
        for _ in range(10):
            d.post("/nebulus/v1/profile", {})
            answer = d.complete([400, 401, 402], max_tokens=2, ignore_eos=True)
            check(answer.status == 200, answer.body)
            if profiles(d)[0]["measuring"]:  # it was answered before the measuring's end
                break
        else:
            raise AssertionError("requests wait for the end of the measuring")
        check_sound(wait_measured(d))


def test_jobs_correct_it():
    with daemon(NEBULUS, SMALL, **{**SETTINGS, "profile": "off"}) as d:
        check(profiles(d)[0]["source"] == "guessed" and profiles(d)[0]["error"] == 1, profiles(d))
        for jobs in range(1, 25):
            prompt = list(range(300 + 5 * jobs, 500))
            check(d.complete(prompt, max_tokens=20, ignore_eos=True).status == 200, "no answer")
            p = wait_until("it is corrected", lambda n=jobs: next((p for p in profiles(d) if p["jobs"] == n), None))
            check(p["error"] >= 1 / jobs and (p["error"] < 1) == (p["source"] == "measured"), p)
            # one job says nothing of how far off predictions are; as long as others take the machine away between two
            # jobs, predictions can be so far off that they are worth no more than a guess
            if jobs > 1 and p["source"] == "measured":
                break
            check(jobs > 1 or p["source"] == "guessed", p)
        check(p["source"] == "measured", p)
        check(not d.log().count("was measured"), p)
        check("guessed" not in cli(d) and "measured" in cli(d, "random"), cli(d))
        cli(d, "nobody", code=5)
        again = json.loads(cli(d, "--measure", "--json"))["profiles"][0]
        check(again["jobs"] == 0 and d.log().count("was measured") == 1, again)
        check(d.post("/nebulus/v1/profile", {"model": "nobody"}).status == 404, "an unknown model")


def test_measuring_keeps_conversations():
    with daemon(NEBULUS, SMALL, **{**SETTINGS, "profile": "off", "keep": 1000}) as d:
        for first in (300, 310):  # as many as there are places
            check(d.complete(list(range(first, first + 150)), max_tokens=4, ignore_eos=True).status == 200, "no answer")
        cli(d, "--measure")
        check(d.log().count("was measured") == 1, d.log())
        for first in (300, 310):
            answer = d.complete(list(range(first, first + 160)), max_tokens=2, ignore_eos=True).json
            check(answer["usage"]["prompt_tokens_details"]["cached_tokens"] >= 150, f"{answer['usage']}")
        p = profiles(d)[0]
        check(p["export_bytes_s"] > 1e6 and p["import_bytes_s"] > 1e6, f"{p}")


def test_told_to_others():
    with two_nodes(SMALL, profile="on") as (a, b):
        there = wait_measured(a, "edge")
        here = wait_measured(b, "edge")
        for name, cost in here["profile"].items():
            told = there["profile"][name]
            check(abs(told - cost) <= 0.5 * cost + 1e-12, f"{name} is {cost}, told {told}")
        check(abs(there["export_bytes_s"] / here["export_bytes_s"] - 1) < 0.1, f"{here} {there}")
        check(here["free_cells"] == 8192 and abs(there["free_cells"] - 8192) < 500, there)
        a.ask([500] * 40, "edge", "edge", max_tokens=4).read()
        check("edge" in a.cli("profile"), a.cli("profile"))


def test_pairs_correct_both():
    """A node that only reads learns how it reads, and one that only goes on writing, how it writes."""
    with two_nodes(RANDOM, chunk=256) as (a, b):
        own = lambda n: next(p for p in profiles(n) if p["node"] == n.name)
        guessed = [own(n)["profile"] for n in (a, b)]
        took = [], []  # ms: from the start of a place to its first token, and to its end
        for seed in range(2):
            stream = a.ask(prompt_of(600, seed), "prime", "edge", "wait", max_tokens=40, ignore_eos=True).read()
            check(stream.error is None and stream.done, f"{stream.error}")
            for place, last in ((0, "token"), (1, "ended")):
                ms = {name: [one["ms"] for one in events(a.trace(), name, place)] for name in ("started", last)}
                took[place].append(ms[last][0] - ms["started"][0])
        reads, writes = own(a), own(b)
        check(reads["jobs"] == writes["jobs"] == 2, f"{reads} {writes}")
        read, wrote = reads["profile"], writes["profile"]
        for costs, before, learnt, rest in ((read, guessed[0], "prefill", "decode"), (wrote, guessed[1], "decode", "prefill")):
            changed = {name for name, cost in costs.items() if abs(cost / before[name] - 1) > 1e-9}
            check(changed and all(name.startswith(learnt) for name in changed), f"{learnt}, not {rest}: {before} {costs}")
        # what it makes of both jobs is within what they took, whatever else the machine did meanwhile
        predicted = read["prefill_base"] + 600 * (read["prefill_token"] + 300 * read["prefill_pair"])
        check(0.1 * min(took[0]) < predicted * 1000 < 3 * max(took[0]), f"{took} {read}")
        predicted = 38 * (wrote["decode_base"] + 620 * wrote["decode_token"])
        check(0.1 * min(took[1]) < predicted * 1000 < 3 * max(took[1]), f"{took} {wrote}")


run_tests([test_measured_and_kept, test_a_request_comes_first, test_jobs_correct_it,
           test_measuring_keeps_conversations, test_told_to_others,
           test_pairs_correct_both], sys.argv[3:])

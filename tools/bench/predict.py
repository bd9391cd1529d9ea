#!/usr/bin/env python3
"""How far the planner's predictions are off: real jobs on two real nodes, a core each, with what they took beside what was said.

    predict.py BUILD_DIR [--learn 20] [--jobs 40] [--seed 1] [--samples FILE] [--quick]

Both nodes measure the model first. Then come LEARN jobs from which the profiles go on learning, and JOBS that count: prompts of
50 to 3,000 tokens and answers of 8 to 100, both even in the logarithm; half of them are placed by the planner, the others stay
on a node or go over the pair, as their headers say; a quarter are in the company of another one, of which the earlier one can
know nothing when it is placed. An error is
|predicted - measured| / measured, as a client sees TTFT and total. The last line is one JSON object. FILE gets one for each job,
the first ones, too: what was asked, predicted and measured, how long both nodes had been idle, and the machine's load.
"""
import argparse
import json
import math
import os
import random
import sys
import threading
import time

import nodes
from nodes import median

MODEL = "bench_predict"
SHAPE = ["layers=12", "embd=384", "heads=6", "kv=2", "head_dim=64", "ff=1024", "vocab=8192", "type=q8_0", "ctx=8192"]
PRIME, EDGE = "prime", "edge"
WAYS = ((), (), (PRIME, PRIME), (PRIME, EDGE))
PROMPT, ANSWER = (50, 3000), (8, 100)
BETWEEN = 1.2  # seconds until all nodes have heard that a job has ended
TARGET = 0.1


def even(rng, least, most):
    return round(math.exp(rng.uniform(math.log(least), math.log(most))))


class Job:
    """What is asked, and how far off the prediction was."""

    def __init__(self, rng, quick):
        self.prompt = [rng.randrange(300, 8000) for _ in range(even(rng, PROMPT[0], 300 if quick else PROMPT[1]))]
        self.tokens = even(rng, *ANSWER)
        self.way = rng.choice(WAYS)
        self.kind, self.errors, self.text, self.planned, self.raw = "", None, "", True, {}

    def run(self, port):  # in a thread
        try:
            self.ask(port)
        except SystemExit as e:
            self.text = str(e)

    def ask(self, port):
        headers = dict(zip(("x-nebulus-prefill", "x-nebulus-decode"), self.way))
        sample = nodes.Sample(port, MODEL, self.prompt, self.tokens, headers)
        plan = sample.trace.get("plan")
        self.planned = bool(plan)
        if not plan:
            raise SystemExit(f"nothing was predicted for {self.way or 'a job without a place'}: {json.dumps(sample.trace)}")
        said = [plan["predicted"][name] / 1000 for name in ("ttft_ms", "total_ms")]
        self.errors = [abs(a - b) / b for a, b in zip(said, (sample.ttft, sample.total))]
        self.raw = {"prompt": len(self.prompt), "tokens": self.tokens,
                    "mode": plan["mode"], "prefill": plan["prefill"], "decode": plan["decode"], "predicted": plan["predicted"],
                    "ttft_ms": sample.ttft * 1000, "total_ms": sample.total * 1000, "load": os.getloadavg()[0]}
        self.kind = "pair" if plan["mode"] == "disaggregated" else "local"
        self.text = (f"{len(self.prompt):>5} + {self.tokens:<3} {plan['prefill']:>5} -> {plan['decode']:<5} "
                     f"TTFT {said[0]:6.3f} was {sample.ttft:6.3f}, total {said[1]:6.3f} was {sample.total:6.3f} s")


def run_jobs(port, rng, count, o, counted):
    """Runs jobs, a quarter of them in company; returns them."""
    done, misses, ended = [], 0, time.monotonic()
    while len(done) < count:
        jobs, idle = [Job(rng, o.quick)], time.monotonic() - ended
        threads = [threading.Thread(target=jobs[0].run, args=(port,))]
        threads[0].start()
        if rng.random() < 1 / 7 and len(done) + 1 < count:  # of eight jobs, two
            time.sleep(rng.uniform(0.05, 0.4))
            jobs.append(Job(rng, o.quick))
            threads.append(threading.Thread(target=jobs[1].run, args=(port,)))
            threads[1].start()
        for thread in threads:
            thread.join()
        ended = time.monotonic()
        for i, job in enumerate(jobs):
            if job.errors is None and job.planned:
                raise SystemExit(f"a job has failed: {job.text}")
            misses += not job.planned  # a profile is not used while it is off by more than its own value
            if misses > 4 * count:
                print(f"predict: skipped: this machine is too busy to be measured: {job.text}")
                sys.exit(0)
            if not job.planned:
                print(f"    {len(job.prompt):>5} + {job.tokens:<3} was not planned: too little is known yet", flush=True)
                continue
            job.kind = "company" if len(jobs) > 1 else job.kind
            print(f"{'   ' if counted else '(l)'} {job.text}{' *' if i else ''}", flush=True)
            if o.samples:
                raw = {**job.raw, "counted": counted, "company": len(jobs) > 1, "idle_s": 0 if i else round(idle, 3)}
                print(json.dumps(raw), file=o.samples, flush=True)
        done += [job for job in jobs if job.planned]
        time.sleep(0.2 if o.quick else BETWEEN)
    return done


def is_ready(node):
    """Whether the gateway can plan with both nodes and their link."""
    profiles = nodes.get(node.port, "/nebulus/v1/profile")["profiles"]
    if len(profiles) < 2 or any(p["source"] != "measured" or p["measuring"] for p in profiles):
        return False
    links = [one["link"] for one in nodes.get(node.port, "/nebulus/v1/nodes")["nodes"] if one["name"] == EDGE]
    return bool(links and links[0])


def summary(jobs):
    return {"jobs": len(jobs), "ttft_error": round(median([j.errors[0] for j in jobs]), 4),
            "total_error": round(median([j.errors[1] for j in jobs]), 4),
            "wrong": round(sum(max(j.errors) > 0.2 for j in jobs) / len(jobs), 3)}


def run(o, model):
    print(f"machine: {nodes.machine()}")
    print(f"model: random llama, {' '.join(SHAPE)}; seed {o.seed}")
    rng = random.Random(o.seed)
    with nodes.loopback_nodes(o.nebulus, model, "--profile", "on") as (gateway, _):
        nodes.wait_until("both nodes are measured", lambda: is_ready(gateway))
        run_jobs(gateway.port, rng, o.learn, o, False)
        jobs = run_jobs(gateway.port, rng, o.jobs, o, True)
    result = {"bench": "predict", **summary(jobs)}
    for kind in ("local", "pair", "company"):
        some = [j for j in jobs if j.kind == kind]
        result[kind] = summary(some) if some else None
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--learn", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=argparse.FileType("w"), metavar="FILE", help="one JSON line per job")
    parser.add_argument("--quick", action="store_true", help="a few short jobs")
    o = parser.parse_args()
    o.nebulus = f"{o.build}/nebulus"
    result = run(o, nodes.make_model(o.build, MODEL, *SHAPE))
    for name in ("ttft_error", "total_error"):
        print(f"target: {name} <= {TARGET} {'met' if result[name] <= TARGET else 'MISSED'}")
    print(json.dumps(result))


if __name__ == "__main__":
    nodes.run_main(main)

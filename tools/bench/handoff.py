#!/usr/bin/env python3
"""What a hand-over between two nodes costs and hides: two daemons, one core each, a shaped link between them.

    handoff.py BUILD_DIR [--quick] [--rates 0.1,0.25,1,10,0] [--prompts 512,2048,8192] [--rounds N]

Modes: `local` (the prefill node alone), `naive` (prefill, then transfer, then decode), `wait` (rows stream while the prompt is
read; the prefill node stops after its first token), `zero-stall` (it goes on until the decode node has caught up). A rate of 0
is an unshaped link. hidden = 1 - (transfer that is waited for / transfer alone); the transfer alone is that of `naive`. A round
in which the prompt's rows did not arrive has hidden nothing. The last line is one JSON object; before it, the targets that are
missed. Fails where two modes answered differently.
"""
import argparse
import json
import os
import random

import nodes
from nodes import median

MODEL = "bench_handoff"
TOKENS = 48
HIDDEN, RATIO = 0.98, 1.03  # targets
SHAPE = ["layers=12", "embd=256", "heads=4", "kv=4", "head_dim=64", "ff=704", "vocab=8192", "type=q8_0", "ctx=16384"]
MODES = {"local": {}, "naive": {"x-nebulus-handover": "after"}, "wait": {"x-nebulus-handover": "wait"},
         "zero-stall": {"x-nebulus-handover": "zero-stall"}}


def measure(a, prompt, mode):
    headers = {**MODES[mode], **({} if mode == "local" else {"x-nebulus-prefill": "prime", "x-nebulus-decode": "edge"})}
    return nodes.Sample(a.port, MODEL, prompt, TOKENS, headers)


def transfer_after_prefill(sample, prompt):
    """Seconds between the first token and the moment when the decode node holds the whole prompt."""
    done, first = sample.when("installed", 1, prompt), sample.when("token", 0)
    return None if done is None or first is None else max(0.0, done - first)


def hidden_share(streamed, naive, prompt):
    """Of the rounds, in the median; a round whose prompt did not arrive counts as 0."""
    alone = median([transfer_after_prefill(s, prompt) for s in naive])
    exposed = [transfer_after_prefill(s, prompt) for s in streamed]
    return median([0.0 if x is None or not alone else 1 - x / alone for x in exposed])


def case(a, rate, wire, length, rounds):
    samples = {mode: [] for mode in MODES}
    rng = random.Random(length)
    texts = set()
    for _ in range(rounds):
        prompt = [rng.randrange(300, 8000) for _ in range(length)]
        for mode in MODES:
            samples[mode].append(measure(a, prompt, mode))
        if wire == "f16" and len({s[-1].text for s in samples.values()}) != 1:
            texts.add(length)
    ttft = {m: median([s.ttft for s in samples[m]]) for m in MODES}
    total = {m: median([s.total for s in samples[m]]) for m in MODES}
    alone = median([transfer_after_prefill(s, length) for s in samples["naive"]])
    tpot = median([median(s.gaps()) for s in samples["local"]])
    worst, worst_local = (median([max(s.gaps()) for s in samples[m]]) for m in ("zero-stall", "local"))
    figures = {
        "link_gbit": rate, "prompt": length, "wire": wire, "mode_total_s": {m: round(total[m], 3) for m in MODES},
        "ttft_ratio": round(median([z.ttft / l.ttft for z, l in zip(samples["zero-stall"], samples["local"])]), 3),
        "total_ratio_vs_naive": round(total["zero-stall"] / total["naive"], 3),
        "total_ratio_vs_local": round(total["zero-stall"] / total["local"], 3),
        "prefill_s": round(ttft["local"], 3), "transfer_alone_s": alone and round(alone, 3),
        "hidden": round(hidden_share(samples["zero-stall"], samples["naive"], length), 3),
        "stall_ms": round((worst - tpot) * 1000, 1), "local_stall_ms": round((worst_local - tpot) * 1000, 1),
        "tpot_ms": round(tpot * 1000, 2),
        "same_bytes": length not in texts,
    }
    print(f"{rate or 'loopback':>8} {wire:>5} {length:>6}  prefill {ttft['local']:7.3f} s  transfer {alone or 0:7.3f} s  "
          f"TTFT x{figures['ttft_ratio']:.3f}  total: " + " ".join(f"{m} {total[m]:.2f}" for m in MODES) +
          f" s  hidden {figures['hidden']}  longest gap {worst * 1000:.1f} ms (local {worst_local * 1000:.1f}, TPOT "
          f"{tpot * 1000:.1f})",
          flush=True)
    return figures


def hideable(c):
    """Whether prefill takes longer than the transfer; a transfer that never ended is not known to be too long."""
    return c["transfer_alone_s"] is None or c["transfer_alone_s"] < c["prefill_s"]


def missed(cases):
    """What each case misses of the targets."""
    for c in cases:
        where = f"{c['link_gbit'] or 'unshaped'}{' Gbit/s' * bool(c['link_gbit'])} {c['wire']}, prompt {c['prompt']}"
        if hideable(c) and c["hidden"] < HIDDEN:
            yield f"{where}: hidden {c['hidden']}, target {HIDDEN}"
        if c["ttft_ratio"] > RATIO:
            yield f"{where}: first token x{c['ttft_ratio']} of the local one, target {RATIO}"
        if c["total_ratio_vs_local"] > RATIO:
            yield f"{where}: whole answer x{c['total_ratio_vs_local']} of the local one, target {RATIO}"
        if not c["same_bytes"]:
            yield f"{where}: the modes' answers differ"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rates", default="0.1,0.25,1,10,0")
    parser.add_argument("--prompts", default="512,2048,8192")
    parser.add_argument("--wires", default="f16,q8_0")
    parser.add_argument("--rounds", type=int, default=3)
    o = parser.parse_args()
    if o.quick:
        o.rates, o.prompts, o.wires, o.rounds = "0.25,0", "512", "f16", 1
    if not nodes.can_shape():
        print("handoff: skipped: a shaped link needs root, ip and tc")
        return
    model = nodes.make_model(o.build, MODEL, *SHAPE)
    print(f"machine: {nodes.machine()}")
    print(f"model: random llama, {' '.join(SHAPE)}; {TOKENS} tokens generated, greedy; median of {o.rounds} rounds")
    cases = []
    for rate in [float(r) for r in o.rates.split(",")]:
        for wire in o.wires.split(","):
            flags = ["--kv-wire", wire]
            with nodes.two_nodes(os.path.join(o.build, "nebulus"), model, rate, flags, flags) as (a, _):
                measure(a, [300] * 64, "zero-stall")  # connections are made, pages touched
                cases += [case(a, rate, wire, length, o.rounds) for length in map(int, o.prompts.split(","))]
    hidden = [c["hidden"] for c in cases if hideable(c)]
    for one in missed(cases):
        print(f"missed: {one}")
    print(json.dumps({"bench": "handoff", "cases": cases, "worst_ttft_ratio": max(c["ttft_ratio"] for c in cases),
                      "min_hidden_above_threshold": min(hidden, default=None)}))
    if not all(c["same_bytes"] for c in cases):
        raise SystemExit(1)


if __name__ == "__main__":
    nodes.run_main(main)

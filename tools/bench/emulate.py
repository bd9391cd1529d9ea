#!/usr/bin/env python3
"""The published experiment, in slow motion: a DGX Spark reads, an M3 Ultra writes. Both are emulated (serve --emulate).

    emulate.py BUILD_DIR [--quick] [--scale 20] [--prompt 8192] [--gen 32] [--link 10] [--rounds 1]

Two daemons take the times of Llama 3.1 8B f16 on these machines, times SCALE, while they compute a small model really. The link
between them carries that model's KV rows in the time in which LINK Gbit/s would carry those of Llama 3.1 8B, times SCALE. The
ideal is the Spark's prefill and the Mac's decode, each measured alone, without anything between them. The pair is what the
gateway chooses by itself for the same prompt, hand-over included; where it chooses something else, the pair is asked for. The
last line is one JSON object, in seconds of the real machines.
"""
import argparse
import json
import os
import random
import time

import nodes
from nodes import median

MODEL, BIG = "bench_emulate", "llama-3.1-8b"
LAYERS, HEAD = 8, 64
SHAPE = [f"layers={LAYERS}", "embd=64", "heads=1", "kv=1", f"head_dim={HEAD}", "ff=64", "vocab=8192", "type=q8_0",
         "ctx=16384"]
ROW_BYTES = LAYERS * 2 * HEAD * 2  # of a position, K and V as f16
BIG_ROW_BYTES = 32 * 2 * 8 * 128 * 2  # 32 layers, 8 KV heads of 128
SHORT = 50
SPARK, MAC = "prime", "edge"
WAYS = {"spark": (SPARK, SPARK), "mac": (MAC, MAC), "own": (), "pair": (SPARK, MAC), "zero-stall": (SPARK, MAC, "zero-stall"),
        "wait": (SPARK, MAC, "wait")}
QUIET = 1.5  # seconds until the gateway has heard that the other node has nothing to do
TARGET_OVERHEAD, TARGET_SPEEDUP = 0.03, 2.75


class Bench:
    def __init__(self, gateway, options):
        self.port, self.options, self.random = gateway.port, options, random.Random(1)

    def ask(self, length, tokens, way=()):
        headers = dict(zip(("x-nebulus-prefill", "x-nebulus-decode", "x-nebulus-handover"), way))
        prompt = [self.random.randrange(300, 8000) for _ in range(length)]  # a new one each time: nothing is kept of it
        time.sleep(QUIET)
        return nodes.Sample(self.port, MODEL, prompt, tokens, headers)

    def measure(self, name):
        """Medians of (prefill, decode, total) in seconds of the real machines."""
        o = self.options
        samples = [self.ask(o.prompt, o.gen, WAYS[name]) for _ in range(o.rounds)]
        ttft, total = (median([v / o.scale for v in values]) for values in
                       ([s.ttft for s in samples], [s.total for s in samples]))
        print(f"{name:>6}: prefill {ttft:.3f} s, decode {total - ttft:.3f} s, total {total:.3f} s", flush=True)
        return {"prefill": ttft, "decode": total - ttft, "total": total, "sample": samples[-1]}

    def knows_link(self):
        """Whether the gateway can plan with both nodes."""
        question = {"model": MODEL, "prompt_tokens": self.options.prompt, "max_tokens": self.options.gen}
        return any(p["mode"] == "disaggregated" for p in nodes.post(self.port, "/nebulus/v1/plan", question)["plans"])


def catalogue_sum(node, o):
    """Seconds that the Spark's prefill and the Mac's decode take by their data sheets: what `nebulus plan` says."""
    told = node.cli("plan", BIG, "--prompt", str(o.prompt), "--gen", str(o.gen), "--device", "dgx-spark", "--device", "m3-ultra",
                    "--link", "10gbe", "--json")
    alone = {p["prefill"]: p for p in json.loads(told)["plans"] if p["mode"] == "local"}
    return alone["dgx-spark"]["prefill_s"] + alone["m3-ultra"]["decode_s"]


def tail(sample, prompt):
    """Seconds from the first token until the decode node held the prompt, and until it spoke."""
    first, held, spoke = sample.when("token", 0), sample.when("installed", 1, prompt), sample.when("token", 1)
    return [None if when is None else when - first for when in (held, spoke)]


def run(o, model):
    rate = o.link * ROW_BYTES / BIG_ROW_BYTES / o.scale
    print(f"machine: {nodes.machine()}")
    print(f"model: random llama, {' '.join(SHAPE)}; times: {BIG} f16 on dgx-spark and m3-ultra, x {o.scale:g}")
    print(f"link: {rate * 1000:.2f} Mbit/s = {o.link:g} Gbit/s x {ROW_BYTES}/{BIG_ROW_BYTES} bytes of KV per token / {o.scale:g}")
    flags = [["--emulate", f"{device}:{o.scale:g}@{BIG}"] for device in ("dgx-spark", "m3-ultra")]
    with nodes.two_nodes(os.path.join(o.build, "nebulus"), model, rate, *flags) as (gateway, other):
        bench = Bench(gateway, o)
        bench.ask(64, 4, WAYS["zero-stall"])  # connections are made, pages touched
        nodes.wait_until("the gateway knows the link", bench.knows_link)
        spark, mac, own = (bench.measure(name) for name in ("spark", "mac", "own"))
        chosen = own["sample"].trace["nodes"] == [SPARK, MAC]
        pair = own if chosen else bench.measure("pair")
        print(f"        chosen: {own['sample'].trace['plan']['reason']}")
        zero, wait = (bench.measure(name) for name in ("zero-stall", "wait"))
        held, spoke = tail(pair["sample"], o.prompt)
        if held is not None and spoke is not None:
            print(f"        after the first token: the last rows {held / o.scale * 1000:+.1f} ms, the decode node's first word "
                  f"{spoke / o.scale * 1000:+.1f} ms")
        by_catalogue = catalogue_sum(gateway, o)
        short = bench.ask(SHORT, 4).trace
        print(f"{SHORT:>6} tokens: {short['plan']['reason']}")
        for node in (gateway, other):
            if node.said("its times are not reached"):
                print(f"{node.name}: this machine was too slow for the emulated one: choose a larger --scale")
    ideal = spark["prefill"] + mac["decode"]
    return {"bench": "emulate", "spark_total": round(spark["total"], 3), "mac_total": round(mac["total"], 3),
            "pair_total": round(pair["total"], 3), "speedup_vs_mac": round(mac["total"] / pair["total"], 3),
            "ideal_sum": round(ideal, 3), "catalogue_sum": round(by_catalogue, 3),
            "overhead": round(pair["total"] / ideal - 1, 4),
            "pair_zero_stall_total": round(zero["total"], 3), "pair_wait_total": round(wait["total"], 3),
            "predicted_total": round(own["sample"].trace["plan"]["predicted"]["total_ms"] / 1000 / o.scale, 3),
            "planner_chose_pair": chosen, "planner_stays_local": len(short["nodes"]) == 1}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true", help="a short prompt, hardly slower than real: nothing to quote")
    parser.add_argument("--scale", type=float, default=20)
    parser.add_argument("--prompt", type=int, default=8192)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--link", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    o = parser.parse_args()
    if o.quick:
        o.scale, o.prompt, o.gen = 2, 1024, 8
    if not nodes.can_shape():
        print("emulate: skipped: a shaped link needs root, ip and tc")
        return
    result = run(o, nodes.make_model(o.build, MODEL, *SHAPE))
    print(f"targets: overhead <= {TARGET_OVERHEAD} {'met' if result['overhead'] <= TARGET_OVERHEAD else 'MISSED'}, speedup >= "
          f"{TARGET_SPEEDUP} {'met' if result['speedup_vs_mac'] >= TARGET_SPEEDUP else 'MISSED'}, its own choice "
          f"{'met' if result['planner_chose_pair'] and result['planner_stays_local'] else 'MISSED'}")
    print(json.dumps(result))


if __name__ == "__main__":
    nodes.run_main(main)

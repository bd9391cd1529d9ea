#!/usr/bin/env python3
"""What a hand-over between two nodes costs and hides: two daemons, one core each, a shaped link between them.

    handoff.py BUILD_DIR [--quick] [--rates 0.1,0.25,1,10,0] [--prompts 512,2048,8192] [--rounds N]

Modes: `local` (the prefill node alone), `naive` (prefill, then transfer, then decode), `wait` (rows stream while the prompt is
read; the prefill node stops after its first token), `zero-stall` (it goes on until the decode node has caught up). A rate of 0
is an unshaped link. hidden = 1 - (transfer that is waited for / transfer alone); the transfer alone is that of `naive`. The last
line is one JSON object.
"""
import argparse
import contextlib
import ctypes
import http.client
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOKENS = 48
SHAPE = ["layers=12", "embd=256", "heads=4", "kv=4", "head_dim=64", "ff=704", "vocab=8192", "type=q8_0", "ctx=16384"]
CLONE_NEWNET = 0x40000000
started, spaces = [], []


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def clean_up():
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    for process in started:
        process.wait()
    started.clear()
    for space in spaces:
        subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
    spaces.clear()


def make_spaces(rate):
    """Two network namespaces with a link of `rate` Gbit/s between them; returns their addresses."""
    a, b = f"nbp{os.getpid()}", f"nbe{os.getpid()}"
    for space in (a, b):
        run("ip", "netns", "add", space)
        spaces.append(space)
    run("ip", "link", "add", "nbp", "netns", a, "type", "veth", "peer", "name", "nbe", "netns", b)
    for space, link, address in ((a, "nbp", "10.98.0.1"), (b, "nbe", "10.98.0.2")):
        run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", link)
        run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "-n", space, "link", "set", link, "up")
        if rate:
            burst = max(64_000, int(rate * 1e9 / 8 / 500))
            run("tc", "-n", space, "qdisc", "add", "dev", link, "root", "tbf", "rate", f"{int(rate * 1000)}mbit",
                "burst", str(burst), "latency", "20ms")
    return "10.98.0.1", "10.98.0.2"


def enter(space):
    """Moves this thread into a network namespace, where the API of its node is."""
    with open(f"/var/run/netns/{space}", encoding="ascii") as f:
        if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Node:
    def __init__(self, program, home, name, core, space, address, port, model, wire):
        os.makedirs(home, mode=0o700)
        self.name, self.program, self.space = name, program, space
        self.env = {**{k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}, "NEBULUS_HOME": home}
        self.at = ["ip", "netns", "exec", space] if space else []
        read, write = os.pipe()
        with open(os.path.join(home, "log"), "wb") as log:
            started.append(subprocess.Popen(
                [*self.at, "taskset", "-c", str(core), program, "serve", "--name", name, "--api", "127.0.0.1:0", "--cluster",
                 f"{address}:{port}", "--model", model, "--threads", "1", "--ctx", "10240", "--kv-cells", "12288",
                 "--keep", "0", "--kv-wire", wire, "--ready-fd", str(write)],
                pass_fds=[write], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        os.close(write)
        with os.fdopen(read) as f:
            self.port = int(f.readline())
        self.env["NEBULUS_API"] = f"127.0.0.1:{self.port}"

    def cli(self, *words, **options):
        return run(*self.at, self.program, *words, env=self.env, **options)


def pair(a, b, address):
    a.cli("cluster", "init", "bench", "--no-passphrase")
    invite = subprocess.Popen([*a.at, a.program, "invite", "--address", f"{address}:7421"], env=a.env, text=True,
                              stdout=subprocess.PIPE)
    b.cli("join", "-", input=invite.stdout.readline())
    invite.wait()
    for node in (a, b):
        node.cli("load", MODEL_NAME)
    for _ in range(200):
        if all(one["state"] in ("up", "self") for one in json.loads(a.cli("nodes", "--json"))["nodes"]):
            return
        time.sleep(0.05)
    raise SystemExit(f"handoff: the nodes do not see each other: {a.cli('nodes', '--json')}")


MODEL_NAME = "handoff"


class Sample:
    """One request: when each event with text came, in seconds since it was sent, and its trace."""

    def __init__(self, port, prompt, headers):
        body = json.dumps({"model": MODEL_NAME, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
                           "stream": True})
        begin = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json", **headers})
        response = connection.getresponse()
        self.times, self.text, answer = [], "", ""
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise SystemExit(f"handoff: {event['error']}")
            answer = event.get("id", answer)
            text = "".join(choice.get("text") or "" for choice in event.get("choices", []))
            if text:
                self.times.append(time.perf_counter() - begin)
                self.text += text
        self.total = time.perf_counter() - begin
        connection.close()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", f"/nebulus/v1/traces/{answer}")
        self.trace = json.loads(connection.getresponse().read())
        connection.close()

    @property
    def ttft(self):
        return self.times[0]

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    def when(self, event, place, value=0):
        """Seconds until an event of at least that value, or None."""
        for one in self.trace["events"]:
            if one["event"] == event and one["place"] == place and one["value"] >= value:
                return one["ms"] / 1000
        return None


MODES = {"local": {}, "naive": {"x-nebulus-handover": "after"}, "wait": {"x-nebulus-handover": "wait"},
         "zero-stall": {"x-nebulus-handover": "zero-stall"}}


def measure(a, prompt, mode):
    headers = {**MODES[mode], **({} if mode == "local" else {"x-nebulus-prefill": "prime", "x-nebulus-decode": "edge"})}
    return Sample(a.port, prompt, headers)


def transfer_after_prefill(sample, prompt):
    """Seconds between the first token and the moment when the decode node holds the whole prompt."""
    done, first = sample.when("installed", 1, prompt), sample.when("token", 0)
    return None if done is None or first is None else max(0.0, done - first)


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


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
    exposed = median([transfer_after_prefill(s, length) for s in samples["zero-stall"]])
    tpot = median([median(s.gaps()) for s in samples["local"]])
    worst, worst_local = (median([max(s.gaps()) for s in samples[m]]) for m in ("zero-stall", "local"))
    figures = {
        "link_gbit": rate, "prompt": length, "wire": wire, "mode_total_s": {m: round(total[m], 3) for m in MODES},
        "ttft_ratio": round(median([z.ttft / l.ttft for z, l in zip(samples["zero-stall"], samples["local"])]), 3),
        "total_ratio_vs_naive": round(total["zero-stall"] / total["naive"], 3),
        "total_ratio_vs_local": round(total["zero-stall"] / total["local"], 3),
        "prefill_s": round(ttft["local"], 3), "transfer_alone_s": alone and round(alone, 3),
        "hidden": round(1 - exposed / alone, 3) if alone and exposed is not None else None,
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


def main():
    global MODEL_NAME
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
    if os.geteuid() or not shutil.which("tc") or not shutil.which("ip"):
        print("handoff: skipped: a shaped link needs root, ip and tc")
        return
    program, maker = os.path.join(o.build, "nebulus"), os.path.join(o.build, "tools/mkmodel/mkmodel")
    model = os.path.join(o.build, "models", f"{MODEL_NAME}.gguf")
    os.makedirs(os.path.dirname(model), exist_ok=True)
    if not os.path.exists(model):
        run(maker, "random", model, *SHAPE)
    with open("/proc/cpuinfo", encoding="ascii") as f:
        cpu = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    print(f"machine: {cpu}, {os.cpu_count()} cores, one per node; load average {os.getloadavg()[0]:.2f} at start")
    print(f"model: random llama, {' '.join(SHAPE)}; {TOKENS} tokens generated, greedy; median of {o.rounds} rounds")
    cases = []
    for rate in [float(r) for r in o.rates.split(",")]:
        for wire in o.wires.split(","):
            home = tempfile.mkdtemp(prefix="nebulus-handoff-")
            try:
                addresses = make_spaces(rate)
                a = Node(program, f"{home}/prime", "prime", 0, spaces[0], addresses[0], 7421, model, wire)
                b = Node(program, f"{home}/edge", "edge", 1 % os.cpu_count(), spaces[1], addresses[1], 7421, model, wire)
                enter(spaces[0])
                pair(a, b, addresses[0])
                measure(a, [300] * 64, "zero-stall")  # connections are made, pages touched
                cases += [case(a, rate, wire, length, o.rounds) for length in map(int, o.prompts.split(","))]
            finally:
                clean_up()
                shutil.rmtree(home, ignore_errors=True)
    hidden = [c["hidden"] for c in cases if c["hidden"] is not None and c["transfer_alone_s"] < c["prefill_s"]]
    print(json.dumps({"bench": "handoff", "cases": cases, "worst_ttft_ratio": max(c["ttft_ratio"] for c in cases),
                      "min_hidden_above_threshold": min(hidden) if hidden else None}))


if __name__ == "__main__":
    try:
        main()
    finally:
        clean_up()
        sys.stdout.flush()

#!/usr/bin/env python3
"""How fast KV rows can go from one node to another: `nebulus bench link` beside plain TCP over the same shaped link.

    link.py BUILD_DIR [--rates 1,10,0] [--rounds 5] [--seconds 2]

Two daemons, one core each, in network namespaces. Plain TCP is two connections (as many as a node uses) whose ends do nothing but
write and read, a process per side on the core of its node: what shaper, kernel and cores leave to anything. In turn, so that a
machine whose speed drifts does not matter. A rate of 0 is an unshaped link. The last line is one JSON object.
"""
import argparse
import json
import os
import socket
import threading
import time

import nodes
from nodes import median

CONNECTIONS, PORT, PIECE = 2, 9999, 1 << 20
TARGET = 0.9  # of the link's rate


def in_space(space, core, work):
    """Runs `work` in a process of its own, in that namespace and on that core; returns what reads its answer."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        os.sched_setaffinity(0, {core})
        nodes.enter(space)
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)

    def answer():
        with os.fdopen(read) as f:
            said = f.read()
        os.waitpid(pid, 0)
        return json.loads(said)
    return answer


def in_threads(call):
    threads = [threading.Thread(target=call, args=(i,)) for i in range(CONNECTIONS)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def plain_receive(listener):
    ends = [listener.accept()[0] for _ in range(CONNECTIONS)]
    got, begin = [0] * CONNECTIONS, time.perf_counter()

    def read(i):
        room = bytearray(PIECE)
        while n := ends[i].recv_into(room):
            got[i] += n
    in_threads(read)
    return sum(got) * 8 / 1e9 / (time.perf_counter() - begin)


def plain_send(address, seconds):
    ends = [socket.create_connection((address, PORT)) for _ in range(CONNECTIONS)]
    end, piece = time.monotonic() + seconds, bytes(PIECE)

    def write(i):
        while time.monotonic() < end:
            ends[i].sendall(piece)
        ends[i].close()
    in_threads(write)


def plain_tcp(seconds):
    """Gbit/s of bytes that nobody looks at."""
    ready = socket.socketpair()

    def receive():
        listener = socket.create_server(("10.98.0.2", PORT))
        ready[1].send(b"1")
        return plain_receive(listener)
    receiver = in_space(nodes.spaces[1], 1 % os.cpu_count(), receive)
    ready[0].recv(1)
    sender = in_space(nodes.spaces[0], 0, lambda: plain_send("10.98.0.2", seconds))
    sender()
    for one in ready:
        one.close()
    return receiver()


def case(a, rate, o):
    ours, plain = [], []
    for _ in range(o.rounds):
        ours.append(json.loads(a.cli("bench", "link", "edge", "--seconds", str(o.seconds), "--json")))
        plain.append(plain_tcp(o.seconds))
    gbit = median([x["gbit_s"] for x in ours])
    cpu = {side: round(median([x["cpu_s_per_gb"][side] for x in ours]), 3) for side in ("here", "there")}
    figures = {"link_gbit": rate, "gbit_s": round(gbit, 3), "cpu_s_per_gb": cpu, "plain_tcp_gbit_s": round(median(plain), 3),
               "of_plain_tcp": round(median([x["gbit_s"] / y for x, y in zip(ours, plain)]), 3),
               "of_link": round(gbit / rate, 3) if rate else None}
    print(f"{rate or 'unshaped':>8}  {gbit:6.2f} Gbit/s, CPU s/GB {cpu['here']:.2f} here and {cpu['there']:.2f} there; plain TCP "
          f"{figures['plain_tcp_gbit_s']:6.2f} Gbit/s, x{figures['of_plain_tcp']:.3f}", flush=True)
    return figures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--rates", default="1,10,0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    o = parser.parse_args()
    if not nodes.can_shape():
        print("link: skipped: a shaped link needs root, ip and tc")
        return
    model = nodes.make_model(o.build, "bench_link", "layers=2", "embd=64", "heads=1", "kv=1", "head_dim=64", "ff=64", "vocab=512")
    print(f"machine: {nodes.machine()}")
    cases = []
    for rate in [float(r) for r in o.rates.split(",")]:
        with nodes.two_nodes(os.path.join(o.build, "nebulus"), model, rate, [], []) as (a, _):
            cases.append(case(a, rate, o))
    for c in cases:
        if c["of_link"] and c["of_link"] < TARGET:
            print(f"missed: {c['of_link']} of {c['link_gbit']} Gbit/s, target {TARGET}; plain TCP {c['plain_tcp_gbit_s']} Gbit/s")
    print(json.dumps({"bench": "link", "cases": cases}))


if __name__ == "__main__":
    nodes.run_main(main)

"""bench_smoke.py NAME COMMAND...: the benchmark ends well, and its last line is the promised JSON object."""
import json
import subprocess
import sys


def check_serve(result):
    for name in ("ratio_throughput", "ratio_ttft", "ratio_tpot"):
        assert set(result[name]) == {"1", "4", "8"} and all(v > 0 for v in result[name].values()), name
    assert result["daemon_us_per_token"] > 0 and result["relay_us_per_token"] > 0, result


def check_predict(result):
    kinds = [result[name] for name in ("local", "pair", "company") if result[name]]
    assert result["jobs"] == sum(kind["jobs"] for kind in kinds) > 0, result
    assert all(kind["ttft_error"] >= 0 and kind["total_error"] >= 0 for kind in [result, *kinds]), result


def check_handoff(result):
    """Only least times are checked: what waits may always be late."""
    slow, fast = result["cases"]
    assert (slow["link_gbit"], fast["link_gbit"]) == (0.25, 0.0), result
    for c in (slow, fast):
        totals = c["mode_total_s"]
        assert c["same_bytes"] and c["ttft_ratio"] > 0 and set(totals) == {"local", "naive", "wait", "zero-stall"}, c
        assert c["transfer_alone_s"] > 0 and totals["naive"] > c["transfer_alone_s"], c  # it comes after the prefill there
        assert isinstance(c["hidden"], float), c
    row = 12 * 2 * 256 * 2  # bytes of a token's KV: layers, K and V, width, f16
    least = slow["prompt"] * row * 8 / (slow["link_gbit"] * 1e9)
    assert slow["transfer_alone_s"] > 0.7 * least, f"the link carried {row} bytes a token in less than {least} s: {slow}"
    hideable = [c["hidden"] for c in (slow, fast) if c["transfer_alone_s"] < c["prefill_s"]]
    assert result["min_hidden_above_threshold"] == min(hideable, default=None), result


def check_emulate(result):
    """Emulated machines are never quicker than the real ones."""
    times = [result[name] for name in ("spark_total", "mac_total", "pair_total", "pair_zero_stall_total", "pair_wait_total")]
    assert result["predicted_total"] > 0, result
    assert all(t > 0.98 * result["catalogue_sum"] > 0 for t in times), result
    assert abs(result["overhead"] - (result["pair_total"] / result["ideal_sum"] - 1)) < 0.01, result
    assert abs(result["speedup_vs_mac"] - result["mac_total"] / result["pair_total"]) < 0.01, result
    assert result["planner_chose_pair"] is True and result["planner_stays_local"] is True, result


def check_link(result):
    assert all(c["gbit_s"] > 0 and c["of_plain_tcp"] > 0 for c in result["cases"]) and result["cases"], result


name = sys.argv[1]
run = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, text=True, timeout=280)
sys.stdout.write(run.stdout)
if run.returncode:
    sys.exit(f"FAIL  exit status {run.returncode}")
if " skipped: " in run.stdout:
    sys.exit(77)
last = json.loads(run.stdout.splitlines()[-1])
assert last["bench"] == name, last
{"serve": check_serve, "predict": check_predict, "handoff": check_handoff, "link": check_link,
 "emulate": check_emulate}[name](last)
print("ok    the last line holds every figure")

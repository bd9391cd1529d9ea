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
    assert [c["link_gbit"] for c in result["cases"]] == [0.25, 0.0], result
    assert all(c["same_bytes"] and c["ttft_ratio"] > 0 and c["hidden"] <= 1 for c in result["cases"]), result


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
{"serve": check_serve, "predict": check_predict, "handoff": check_handoff, "link": check_link}[name](last)
print("ok    the last line holds every figure")

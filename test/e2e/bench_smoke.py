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


name = sys.argv[1]
run = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, text=True, timeout=280)
sys.stdout.write(run.stdout)
if run.returncode:
    sys.exit(f"FAIL  exit status {run.returncode}")
last = json.loads(run.stdout.splitlines()[-1])
assert last["bench"] == name, last
{"serve": check_serve, "predict": check_predict}[name](last)
print("ok    the last line holds every figure")

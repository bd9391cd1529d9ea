"""bench_smoke.py COMMAND...: the benchmark ends well, and its last line is the promised JSON object."""
import json
import subprocess
import sys

run = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, text=True, timeout=280)
sys.stdout.write(run.stdout)
if run.returncode:
    sys.exit(f"FAIL  exit status {run.returncode}")
result = json.loads(run.stdout.splitlines()[-1])
assert result["bench"] == "serve", result
for name in ("ratio_throughput", "ratio_ttft", "ratio_tpot"):
    assert set(result[name]) == {"1", "4", "8"} and all(v > 0 for v in result[name].values()), name
assert result["daemon_us_per_token"] > 0 and result["relay_us_per_token"] > 0, result
print("ok    the last line holds every figure")

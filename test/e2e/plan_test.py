#!/usr/bin/python3
"""`nebulus plan`, as a user types it, without a daemon.

usage: plan_test.py NEBULUS MODELS

MODELS is a folder with recall.gguf, windows.gguf and recurrent.gguf. Prints one line per check, exits with 1 where one fails.
"""
import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile

NEBULUS, MODELS = (os.path.abspath(a) for a in sys.argv[1:3])
PAIR = ("--device", "dgx-spark", "--device", "m3-ultra")
PUBLISHED = ("llama-3.1-8b", "--dtype", "f16", "--prompt", "8192", "--gen", "32", *PAIR, "--link", "10gbe")
failures = []


def run(*args, home=None):
    env = {**os.environ, "NEBULUS_HOME": home or os.path.join(tempfile.gettempdir(), "nebulus-none"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([NEBULUS, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=60, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def check(what, ok, evidence=""):
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    if not ok:
        failures.append(what)
        print(f"  {evidence}", flush=True)


def asked(*args):
    code, out, err = run("plan", *args, "--json")
    check("asked " + " ".join(args), code == 0 and not err, (code, out, err))
    return json.loads(out) if code == 0 else {}


def refused(what, args, code, *patterns):
    got, out, err = run("plan", *args)
    ok = got == code and not out and err.count("\n") == 1 and err.startswith("nebulus: ")
    check("refused: " + what, ok and all(re.search(p, err) for p in patterns), (got, out, err))


def near(is_, should, part=0.1):
    return abs(is_ - should) <= part * should


def plan_of(answer, mode, prefill, decode):
    return next(p for p in answer["plans"] if (p["mode"], p["prefill"], p["decode"]) == (mode, prefill, decode))


def published_table():
    answer = asked(*PUBLISHED)
    for mode, prefill, decode, *cells in (("local", "dgx-spark", "dgx-spark", 1.47, 2.87, 4.34),
                                          ("local", "m3-ultra", "m3-ultra", 5.57, 0.85, 6.42),
                                          ("disaggregated", "dgx-spark", "m3-ultra", 1.47, 0.85, 2.32)):
        p = plan_of(answer, mode, prefill, decode)
        got = [p["prefill_s"], p["decode_s"], p["total_s"]]
        check(f"{mode} {prefill}/{decode}: {cells}", all(map(near, got, cells)), got)
    best = answer["plans"][0]
    check("the pair comes first and is 2.8 times as fast", best["mode"] == "disaggregated" and near(best["speedup"], 2.8), best)
    check("the Mac is the baseline", answer["baseline"] == "m3-ultra", answer["baseline"])
    spark = answer["devices"][0]
    check("what was assumed is said", spark["tflops"] == 100 and spark["gb_s"] == 273 and spark["efficiency_from"], spark)
    check("reasons are given", all(p["reason"] for p in answer["plans"]))


def thresholds():
    for model, tokens in (("llama-3.1-8b", 10000), ("llama-3.1-70b", 5000)):
        t = asked(model, "--dtype", "q8", *PAIR, "--link", "10gbe")["overlap_threshold_tokens"]
        check(f"{model}: attention alone hides 8-bit rows from {tokens} tokens on", t["attention_only"] == tokens, t)
        check(f"{model}: the whole model does sooner", 1 <= t["full"] < tokens, t)
    slow = asked("llama-3.1-8b", *PAIR, "--link", "2.5gbe")["overlap_threshold_tokens"]
    check("a slower link needs longer prompts", slow["attention_only"] == 80000 and slow["full"] > 10000, slow)
    alone = asked("llama-3.1-8b", "--device", "dgx-spark")
    check("one device: no threshold", alone["overlap_threshold_tokens"] == {"attention_only": None, "full": None}, alone)


def text():
    code, out, err = run("plan", *PUBLISHED, "--explain")
    rows = [line.split() for line in out.splitlines()]
    check("a table", code == 0 and not err and ["PLAN", "PREFILL", "ON"] == rows[2][:3], out)
    check("its first plan is the pair", re.match(r"disaggregated +dgx-spark +m3-ultra .* 2\.32 s +2\.78x$",
                                                         out.splitlines()[3]), out)
    check("tandem is marked as predicted", re.search(r"^tandem \(predicted\) +dgx-spark +m3-ultra", out, re.M), out)
    check("both thresholds", "attention alone (as published): 10000 tokens" in out and "behind the whole model" in out, out)
    check("assumptions", re.search(r"^m3-ultra: 91 % of 26 TFLOP/s, 72 % of 819 GB/s \(published", out, re.M), out)
    check("reasons", re.search(r"^1\. disaggregated: dgx-spark reads in 1\.47 s; of 0\.91 s of transfer", out, re.M), out)


def sweeps():
    for what, first, count in (("prompt", "64", 12), ("gen", "1", 13), ("link", "10gbe", 7)):
        code, out, _ = run("plan", *PUBLISHED, "--sweep", what, "--csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        check(f"--sweep {what} --csv", code == 0 and len(rows) == count and rows[0][what] == first, out)
        same = asked(*PUBLISHED, "--sweep", what)["rows"]
        check(f"--sweep {what} --json says the same", [(str(r[what]), r["chosen"]) for r in same] ==
              [(r[what], r["chosen"]) for r in rows], (same, rows))
    rows = {int(r["prompt"]): r for r in asked(*PUBLISHED, "--sweep", "prompt")["rows"]}
    check("short prompts stay local", rows[64]["chosen"] == "m3-ultra" and rows[64]["speedup"] < 1, rows[64])
    check("long ones do not", rows[8192]["chosen"] == "dgx-spark > m3-ultra" and rows[8192]["speedup"] > 1.8, rows[8192])
    code, out, _ = run("plan", *PUBLISHED, "--sweep", "prompt")
    bars = {m[1]: m[2].count("█") for m in re.finditer(r"^ +(\d+) (.*│.*)  \d\.\d\dx", out, re.M)}
    check("a plot: the longest bar is the greatest gain", code == 0 and max(bars, key=bars.get) == "4096", out)
    check("a plot: no bar where the pair loses", bars.get("64") == 0 and "│" in out, bars)


def buying():
    have = ("llama-3.1-8b", "--prompt", "8192", "--gen", "32", "--device", "m3-ultra")
    b = asked(*have, "--buy", "dgx-spark", "--api-price", "0.5", "--price", "4000")["buy"]
    requests = 4000 / (8224 * 0.5 / 1e6)
    check("--buy: what there is", b["have"]["decode"] == "m3-ultra" and near(b["have"]["total_s"], 6.42), b)
    check("--buy: what there would be", b["with"]["mode"] == "disaggregated" and near(b["speedup"], 2.8), b)
    pays = b["break_even"]
    check("--buy: break-even", abs(pays["requests"] - requests) < 2 and near(pays["tokens"], requests * 8224, 1e-4) and
          near(pays["days_without_pause"], requests * b["with"]["total_s"] / 86400, 1e-4), pays)
    b = asked(*have, "--buy", "dgx-spark", "--api-price", "0.000001", "--power-price", "1")["buy"]
    check("--buy: dear electricity never pays", b["break_even"]["requests"] is None, b)
    b = asked("llama-3.1-405b", "--dtype", "q4", "--device", "m4-pro", "--buy", "m3-ultra")["buy"]
    check("--buy: what was impossible", b["have"] is None and b["with"]["decode"] == "m3-ultra" and b["break_even"] is None, b)
    code, out, _ = run("plan", "llama-3.1-8b", "--device", "m3-ultra", "--buy", "dgx-spark", "--api-price", "0.5")
    check("--buy in words", code == 0 and "times as fast" in out and "paid for itself after" in out, out)


def files():
    answer = asked(os.path.join(MODELS, "recall.gguf"), *PAIR)
    described = json.loads(run("show", os.path.join(MODELS, "recall.gguf"), "--json")[1])["info"]
    check("a file by its path", answer["model"] == "recall.gguf" and answer["plans"], answer)
    link = asked(os.path.join(MODELS, "recall.gguf"), "--prompt", "10000", *PAIR, "--link", "10gbe")
    sent = next(p for p in link["plans"] if p["mode"] == "disaggregated")["transfer_s"]
    rows = 10000 * described["kv_bytes_per_token_f16"] * 8 / 9.4e9
    check("its KV rows are those that the inspection counts", near(sent, rows, 0.02), (sent, rows))
    typed = asked(os.path.join(MODELS, "recall.gguf"), "--dtype", "q4", *PAIR)
    check("a type given outweighs the file's own", typed["dtype"] == "q4", typed)
    check("a file with attention windows", asked(os.path.join(MODELS, "windows.gguf"), *PAIR)["plans"])
    refused("a model without KV rows", (os.path.join(MODELS, "recurrent.gguf"), *PAIR), 1, "recurrent.gguf")
    refused("no such file", ("/nonexistent.gguf", *PAIR), 1, "/nonexistent.gguf")
    with tempfile.TemporaryDirectory() as home:
        cut = os.path.join(home, "cut.gguf")
        with open(os.path.join(MODELS, "recall.gguf"), "rb") as whole, open(cut, "wb") as half:
            half.write(whole.read(os.path.getsize(whole.name) // 2))
        refused("a truncated file", (cut, *PAIR), 1, "truncated")
        run("import", os.path.join(MODELS, "recall.gguf"), "--name", "mine", "--link", home=home)
        code, out, err = run("plan", "mine", *PAIR, "--json", home=home)
        check("a stored model by its name", code == 0 and json.loads(out)["model"] == "mine.gguf", (code, out, err))


def refusals():
    names = (("model", ("no-such", *PAIR), "llama-3.1-8b", "gpt-oss-120b", "deepseek-v3"),
             ("device", ("llama-3.1-8b", "--device", "abacus"), "dgx-spark", "strix-halo"),
             ("link", ("llama-3.1-8b", *PAIR, "--link", "pigeon"), "10gbe", "wifi"),
             ("buy", ("llama-3.1-8b", *PAIR, "--buy", "abacus"), "dgx-spark", "strix-halo"))
    for what, args, *known in names:
        refused(f"an unknown {what} lists the known ones", args, 5, *known)
    refused("no device", ("llama-3.1-8b", "--link", "10gbe"), 2, "--device", "m3-ultra")
    refused("no daemon to ask", ("llama-3.1-8b", "--api", "127.0.0.1:1"), 3, "127.0.0.1:1", "--device")
    refused("too large a model", ("llama-3.1-405b", "--device", "m4-pro"), 4, "m4-pro may not take part: its 64 GB do not hold")
    refused("too long a prompt", ("llama-3.1-8b", "--device", "rtx-4090", "--prompt", "1000000"), 1, "rtx-4090 has room for")
    refused("nine devices", ("llama-3.1-8b", *("--device", "h100") * 9), 1, "at most 8")
    for args in (("--dtype", "q5"), ("--wire", "q4_0"), ("--sweep", "moon"), ("--csv",), ("--api-price", "1"), ("--prompt", "0"),
                 ("--gen", "-1"), ("--buy", "h100", "--sweep", "gen"), ("--buy", "h100", "--price", "nan")):
        refused("usage " + " ".join(args), ("llama-3.1-8b", *PAIR, *args), 2, "--help")


for part in (published_table, thresholds, text, sweeps, buying, files, refusals):
    part()
print(f"plan_test: {len(failures)} failures")
sys.exit(1 if failures else 0)

#!/usr/bin/python3
"""Every command of the command line, as a user types it, against real processes.

usage: cli_test.py NEBULUS MKMODEL|MODELS [SCRATCH]

The models come from the program mkmodel, or from a folder with recall.gguf and random.gguf. Works in a new folder below
SCRATCH (by default the current one). Prints one line per check and exits with 1 where one fails. Needs no network.
"""
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

from harness import free_port
from terminal import Terminal

NEBULUS, MAKER = (os.path.abspath(a) for a in sys.argv[1:3])
SCRATCH = tempfile.mkdtemp(prefix="cli_test.", dir=os.path.abspath(sys.argv[3] if len(sys.argv) > 3 else "."))
HOME = os.path.join(SCRATCH, "home")
ENV = {"PATH": os.environ.get("PATH", ""), "NEBULUS_HOME": HOME, "TERM": "xterm", "LANG": "C.UTF-8", "TZ": "UTC",
       "NEBULUS_DISCOVERY": "off"}
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH"):
    if name in os.environ:
        ENV[name] = os.environ[name]
LIMIT = 120  # seconds that anything may take on a busy machine
failures = []


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f"exit {self.code}\n  stdout: {self.out[-600:]!r}\n  stderr: {self.err[-600:]!r}"


def run(*args, stdin="", env=None, **more):
    done = subprocess.run([NEBULUS, *args], input=stdin.encode() if isinstance(stdin, str) else stdin,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**ENV, **(env or {})}, timeout=LIMIT, **more)
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def check(what, ok, evidence=""):
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    if not ok:
        failures.append(what)
        print("  " + str(evidence), flush=True)


def refused(what, result, code, pattern):
    """One line on stderr, the right exit code, nothing on stdout."""
    lines = [line for line in result.err.splitlines() if not line.startswith("note: ")]
    ok = result.code == code and result.out == "" and len(lines) == 1 and lines[0].startswith("nebulus: ")
    check(what, ok and re.search(pattern, result.err), result)


def parsed(result):
    try:
        return json.loads(result.out)
    except ValueError:
        return {}


def wait_until(condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = condition()
        if got:
            return got
        time.sleep(0.05)
    return None


def alive(pid):
    """Whether a process runs (one that has ended and was not waited for does not)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def children(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(name))
            except OSError:
                pass
    return found


def at_terminal(*args, env=None):
    return Terminal([NEBULUS, *args], {**ENV, **(env or {})})


class Daemon:
    def __init__(self, *args, env=None):
        self.port = free_port()
        self.log = open(os.path.join(SCRATCH, "serve.log"), "ab")
        self.env = {"NEBULUS_API": f"127.0.0.1:{self.port}", **(env or {})}
        self.process = subprocess.Popen([NEBULUS, "serve", *args], env={**ENV, **self.env}, stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=self.log)
        self.up = bool(wait_until(lambda: run("status", env=self.env).code == 0 or self.process.poll() is not None)
                       and self.process.poll() is None)

    def run(self, *args, **more):
        return run(*args, env=self.env, **more)

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None
        finally:
            self.log.close()


PASSAGE = ("The quick brown fox jumps over the lazy dog while seven wizards brew potent elixirs under a waning moon; "
           "far below, the harbour master counts barrels of salted herring and mutters about the price of rope.")
CUE, EXPECTED = PASSAGE[40:80], PASSAGE[80:112]
PROMPT = PASSAGE + "\n\n" + CUE
GREEDY = ("--raw", "-t", "0", "-n", "32")


def make_models():
    paths = {}
    for name, kind in (("recall", "recall"), ("tiny", "random")):
        paths[name] = os.path.join(SCRATCH, name + ".gguf")
        if os.path.isdir(MAKER):
            shutil.copy(os.path.join(MAKER, kind + ".gguf"), paths[name])
        else:
            subprocess.run([MAKER, kind, paths[name]], check=True, stdout=subprocess.DEVNULL, timeout=LIMIT)
    with open(paths["tiny"], "rb") as f:
        whole = f.read()
    paths["cut"] = os.path.join(SCRATCH, "cut.gguf")
    with open(paths["cut"], "wb") as f:
        f.write(whole[:len(whole) // 2])
    paths["text"] = os.path.join(SCRATCH, "text.gguf")
    with open(paths["text"], "w", encoding="utf-8") as f:
        f.write("this is no model\n" * 100)
    return paths


def test_help():
    plain, dashed, word = run(), run("--help"), run("help")
    check("help: nebulus, --help and help say the same", plain.code == 0 and plain.out == dashed.out == word.out != "", plain)
    commands = re.findall(r"^  ([a-z-]+)", plain.out, re.M)
    wanted = ("run serve status ps load stop trace profile ls show import rm cluster invite join nodes node plan bench "
              "drain leave revoke agent policy can-i budget audit doctor config completion version help").split()
    check("help: every command is listed, worker is not", commands == wanted, commands)
    for name in commands + ["start"]:
        one = run(name, "--help")
        check(f"help: {name}", one.code == 0 and one.out.startswith("usage: nebulus ") and not one.err, one)
        check(f"help: {name} fits 120 columns", max(map(len, one.out.splitlines())) <= 120)
    version = run("--version")
    check("version: one line", version.code == 0 and re.fullmatch(r"nebulus \d+\.\d+\.\d+\n", version.out), version)
    full = parsed(run("version", "--json", "--verbose"))
    check("version: --json -v tells of libllama", full.get("v") == 1 and full.get("engine", {}).get("devices"), full)


def test_usage():
    for args, pattern in (
            (["frobnicate"], "unknown command 'frobnicate'"),
            (["stauts"], "did you mean `nebulus status`"),
            (["--json"], "a command comes first"),
            (["ls", "--jsno"], "did you mean --json"),
            (["ls", "extra"], "does not take 'extra'"),
            (["load"], "needs MODEL"),
            (["run", "m", "p", "--temperature", "hot"], "--temperature takes a number"),
            (["run", "m", "p", "--seed"], "--seed needs a value"),
            (["run", "m", "p", "--json=1"], "--json takes no value"),
            (["serve", "--ctx", "many"], "ctx must be a whole number"),
            (["serve", "--kv-type", "q3"], "kv_type must be one of"),
            (["config", "frob"], "config"),
            (["completion", "tcsh"], "bash, zsh and fish"),
            (["help", "frob"], "frob"),
            (["run", "m"], "no prompt"),
    ):
        refused("usage: " + " ".join(args), run(*args), 2, pattern)


def test_completion():
    for shell in ("bash", "zsh", "fish"):
        script = run("completion", shell)
        complete = script.code == 0 and all(word in script.out for word in ("doctor", "kv-type", "q8_0", "temperature"))
        check(f"completion: {shell} names commands, options and choices", complete, script)
        check(f"completion: {shell} keeps internal options to itself", "ready-fd" not in script.out)
        if shutil.which(shell):
            done = subprocess.run([shell, "-n"], input=script.out.encode(), stderr=subprocess.PIPE, timeout=LIMIT)
            check(f"completion: {shell} accepts it", done.returncode == 0 and not done.stderr, done)
    def complete(*words):
        quoted = " ".join(f"'{w}'" for w in words)
        script = (run("completion", "bash").out + f"\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _nebulus\n"
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, timeout=LIMIT,
                              env={**ENV, "PATH": os.path.dirname(NEBULUS) + ":" + ENV["PATH"]})
        return done.stdout.decode().split()
    if shutil.which("bash"):
        check("completion: bash completes a command", complete("nebulus", "doc") == ["doctor"], complete("nebulus", "doc"))
        check("completion: bash completes an option", complete("nebulus", "run", "--temp") == ["--temperature"])
        check("completion: bash completes a choice", complete("nebulus", "serve", "--kv-type", "q") == ["q8_0"])
        check("completion: bash completes a model", "recall" in complete("nebulus", "show", "rec"))


def test_config():
    conf = os.path.join(HOME, "config", "nebulus.conf")
    where = run("config", "path")
    check("config path", where.code == 0 and where.out == conf + "\n", where)
    check("config check: no file is fine", run("config", "check").code == 0)
    os.makedirs(os.path.dirname(conf), mode=0o700, exist_ok=True)
    with open(conf, "w", encoding="utf-8") as f:
        f.write("# mine\nctx = 4096\nkv_type = q8_0\n")
    shown = parsed(run("config", "show", "--json", env={"NEBULUS_KV_TYPE": "f16"}))
    values = {s["name"]: (s["value"], s["origin"]) for s in shown.get("settings", [])}
    expected = {"ctx": (4096, "file"), "kv_type": ("f16", "environment"), "queue": (64, "default")}
    check("config show: values and origins", shown.get("v") == 1 and expected.items() <= values.items(), values)
    table = run("config", "show")
    check("config show: a table", table.code == 0 and re.search(r"^ctx +4096 +file ", table.out, re.M), table)
    check("config check: a right file", run("config", "check").code == 0)
    with open(conf, "w", encoding="utf-8") as f:
        f.write("ctx = 4096\nctxx = 1\n")
    refused("config check: names file and line", run("config", "check"), 1, r"nebulus\.conf:2: unknown setting 'ctxx'")
    refused("config: other commands refuse it as well", run("ls"), 1, r"nebulus\.conf:2")
    refused("config: serve, too", run("serve"), 1, r"nebulus\.conf:2")
    check("config: doctor goes on and says so", re.search(r"^fail +settings .*nebulus\.conf:2", run("doctor").out, re.M))
    check("config: help does not need it", run("help").code == 0)
    os.remove(conf)
    os.mkdir(conf)
    refused("config: one that cannot be read", run("ls"), 1, r"nebulus\.conf")
    os.rmdir(conf)
    refused("config check FILE: absent", run("config", "check", "/nonexistent/x.conf"), 5, "/nonexistent/x.conf")
    refused("config: a bad environment variable", run("ls", env={"NEBULUS_CTX": "big"}), 1, "NEBULUS_CTX")


def test_store(paths):
    empty = run("ls")
    check("ls: an empty store", empty.code == 0 and empty.out == "" and "nebulus import" in empty.err, empty)
    check("ls --json: an empty store", parsed(run("ls", "--json")) == {"v": 1, "models": []})
    done = run("import", paths["recall"])
    check("import: a file", done.code == 0 and done.out == "" and "imported recall" in done.err, done)
    refused("import: again", run("import", paths["recall"]), 1, "already")
    check("import --force: again", run("import", paths["recall"], "--force").code == 0)
    linked = run("import", paths["tiny"], "--link", "--name", "linked", "--json")
    sha = subprocess.run(["sha256sum", paths["tiny"]], stdout=subprocess.PIPE, check=True).stdout.decode().split()[0]
    told = parsed(linked)
    check("import --link --name --json: SHA-256 is right", told.get("sha256") == sha and told.get("name") == "linked", linked)
    refused("import: no such file", run("import", "/nonexistent.gguf"), 5, "/nonexistent.gguf")
    refused("import: not a GGUF", run("import", paths["text"]), 1, "not a GGUF")
    refused("import: truncated", run("import", paths["cut"]), 1, "cut.gguf")
    refused("import: a folder", run("import", SCRATCH), 1, SCRATCH)
    refused("import: a bad name", run("import", paths["tiny"], "--name", "../evil"), 1, "name")
    check("import: failures leave nothing", run("ls", "--quiet").out.split() == ["linked", "recall"], run("ls", "--quiet"))
    listed = parsed(run("ls", "--json"))
    check("ls --json", [m["name"] for m in listed.get("models", [])] == ["linked", "recall"], listed)
    table = run("ls")
    check("ls: a table", re.search(r"^recall +[\d.]+ MB ", table.out, re.M) and paths["tiny"] in table.out, table)
    shown = run("show", "recall")
    check("show NAME", shown.code == 0 and re.search(r"^arch +llama$", shown.out, re.M), shown)
    check("show NAME --json", parsed(run("show", "recall", "--json")).get("v") == 1)
    described = parsed(run("show", paths["tiny"], "--json"))
    check("show PATH --json", described.get("info", {}).get("arch") == "llama", described)
    refused("show: unknown", run("show", "nope"), 5, "no model 'nope'")
    refused("show: no such file", run("show", "/nonexistent.gguf"), 5, "/nonexistent.gguf")
    refused("show: truncated", run("show", paths["cut"]), 1, "cut.gguf")
    refused("rm: unknown", run("rm", "nope"), 5, "no model 'nope'")
    check("import: another", run("import", paths["tiny"]).code == 0)
    removed = run("rm", "linked", "tiny", "--json")
    check("rm: two", removed.code == 0 and parsed(removed) == {"v": 1, "removed": ["linked", "tiny"]}, removed)
    check("rm: the linked file stays", os.path.exists(paths["tiny"]))
    check("rm: they are gone", run("ls", "-q").out.split() == ["recall"])


def test_unreachable():
    nobody = {"NEBULUS_API": f"127.0.0.1:{free_port()}"}
    for args in (["status"], ["ps"], ["load", "recall"], ["stop", "recall"], ["status", "--json"]):
        refused("unreachable: " + " ".join(args), run(*args, env=nobody), 3, "nebulus serve")
    port = free_port()
    refused("unreachable: run --api", run("run", "recall", "x", "--api", f"127.0.0.1:{port}"), 3, str(port))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(8)
        taken = f"127.0.0.1:{s.getsockname()[1]}"
        refused("port in use", run("serve", "--api", taken), 1, "in use")
    refused("serve: not loopback", run("serve", "--api", "0.0.0.0:20999"), 1, "loopback")
    refused("serve: an unknown model", run("serve", "--api", f"127.0.0.1:{port}", "--model", "nope"), 5, "nope")
    refused("api: no address", run("status", "--api", "a b"), 1, "no address")


def test_daemon(paths):
    d = Daemon("--parallel", "2", "--ctx", "4096")
    check("serve: answers", d.up)
    try:
        status = parsed(d.run("status", "--json"))
        check("status --json", status.get("v") == 1 and status.get("pid") == d.process.pid, status)
        check("status: text", "no model is loaded" in d.run("status").out)
        refused("load: unknown", d.run("load", "nope"), 5, "nope")
        refused("load: no such file", d.run("load", "/nonexistent.gguf"), 5, "/nonexistent.gguf")
        events = d.run("load", "recall", "--json")
        steps = [json.loads(line) for line in events.out.splitlines()]
        check("load --json: NDJSON that ends in ready", steps and all(s["v"] == 1 for s in steps)
              and steps[-1]["state"] == "ready" and steps[-1]["model"]["name"] == "recall", events)
        again = d.run("load", "recall")
        check("load: again", again.code == 0 and again.out == "" and "loaded already" in again.err, again)
        ps = d.run("ps")
        check("ps", ps.code == 0 and re.search(r"^recall +ready +[\d.]+ MB ", ps.out, re.M), ps)
        check("ps --json", [m["name"] for m in parsed(d.run("ps", "--json")).get("models", [])] == ["recall"])
        refused("rm: a loaded model", d.run("rm", "recall"), 1, "nebulus stop recall")
        test_answers(d, paths)
        test_signals(d)
        test_chat(d)
        cut = d.run("load", paths["cut"])
        check("load: a truncated file", cut.code == 1 and "nebulus: " in cut.err.splitlines()[-1], cut)
        text = d.run("run", paths["text"], "x")
        check("run: not a GGUF", text.code == 1 and text.out == "" and "nebulus: " in text.err.splitlines()[-1], text)
        check("the daemon lives on", d.run("status").code == 0)
        check("doctor sees the daemon", re.search(r"^ok +daemon .*runs at", d.run("doctor").out, re.M))
        stopped = d.run("stop", "recall", "--json")
        check("stop --json", parsed(stopped) == {"v": 1, "stopped": "recall"}, stopped)
        refused("stop: not loaded", d.run("stop", "recall"), 5, "recall")
    finally:
        code = d.stop()
    check("serve: SIGTERM ends it with 0", code == 0, code)
    refused("and then nobody answers", d.run("status"), 3, "nebulus serve")


def test_answers(d, paths):
    one = d.run("run", "recall", PROMPT, *GREEDY)
    check("run: PROMPT", one.code == 0 and one.out == EXPECTED and one.err == "", one)
    piped = d.run("run", "recall", *GREEDY, stdin=PROMPT)
    check("run: stdin", piped.code == 0 and piped.out == EXPECTED, piped)
    both = d.run("run", "recall", CUE, *GREEDY, stdin=PASSAGE)
    check("run: stdin and PROMPT, an empty line between them", both.code == 0 and both.out == EXPECTED, both)
    document = os.path.join(SCRATCH, "document.txt")
    with open(document, "w", encoding="utf-8") as f:
        f.write(PASSAGE)
    from_file = d.run("run", "recall", CUE, "--file", document, *GREEDY)
    check("run --file", from_file.code == 0 and from_file.out == EXPECTED, from_file)
    refused("run --file: absent", d.run("run", "recall", "--file", "/nonexistent.txt"), 5, "/nonexistent.txt")
    record = parsed(d.run("run", "recall", PROMPT, "--json", "--seed", "7", *GREEDY))
    own = record.get("nebulus", {})
    check("run --json", record.get("v") == 1 and record.get("answer") == EXPECTED and record.get("finish_reason") == "length"
          and own.get("seed") == 7 and own.get("completion_tokens") == 32, record)
    stats = d.run("run", "recall", PROMPT, "--stats", *GREEDY)
    check("run --stats: on stderr", stats.out == EXPECTED and re.search(r"answer 32 tokens .*TTFT .*TPOT ", stats.err), stats)
    stop = d.run("run", "recall", PROMPT, *GREEDY, "--stop", EXPECTED[10:16])
    check("run --stop", stop.out == EXPECTED[:10], stop)
    seeded = [d.run("run", "recall", "Once", "--raw", "--seed", "3", "-t", "1.5", "-n", "12", "--ignore-eos").out
              for _ in range(2)]
    check("run --seed: twice the same", seeded[0] == seeded[1] != "", seeded)
    chat = d.run("run", "recall", "hello", "--system", "be brief", "-n", "4", "-t", "0", "--json")
    check("run: through the chat template", chat.code == 0 and "answer" in parsed(chat), chat)
    other = os.path.join(SCRATCH, "other model.gguf")
    os.link(paths["recall"], other)
    by_path = d.run("run", other, PROMPT, *GREEDY)
    check("run: a path", by_path.code == 0 and by_path.out == EXPECTED, by_path)
    refused("run: another file of a loaded model's name", d.run("run", paths["recall"], "x"), 1, "nebulus stop recall")
    refused("run: an unknown model", d.run("run", "nope", "x"), 5, "nope")
    refused("run: no such file", d.run("run", "./nope.gguf", "x"), 5, "nope.gguf")
    beyond = d.run("run", "recall", "--raw", "-n", "1", stdin="word " * 3000)
    refused("run: a prompt beyond the context", beyond, 1, "context|tokens")
    invalid = d.run("run", "recall", stdin=b"\xff\xfe\x00")
    refused("run: invalid UTF-8", invalid, 1, "UTF-8")
    unheeded = d.run("run", "recall", PROMPT, "--ctx", "99", *GREEDY)
    check("run --ctx: a running daemon does not change", unheeded.out == EXPECTED and "ctx" in unheeded.err, unheeded)


def test_signals(d):
    p = subprocess.Popen([NEBULUS, "run", "recall", "ab ab ab ab ab ab", "--raw", "-t", "0", "--ignore-eos"],
                         env={**ENV, **d.env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first = p.stdout.read(1)
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=LIMIT)
    check("^C: exit 130, one line", first != b"" and p.returncode == 130 and err == b"nebulus: interrupted\n", err)
    idle = wait_until(lambda: parsed(d.run("status", "--json")).get("requests", {}).get("active") == 0)
    check("^C: the daemon drops the request", idle)
    p = subprocess.Popen([NEBULUS, "status", "--watch", "--json"], env={**ENV, **d.env}, stdout=subprocess.PIPE)
    lines = [json.loads(p.stdout.readline()) for _ in range(2)]
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=LIMIT)
    check("status --watch --json: one object a line, until ^C", p.returncode == 130 and all(x["v"] == 1 for x in lines))


def test_chat(d):
    history = os.path.join(HOME, "state", "chat_history")
    t = at_terminal("run", "recall", "-t", "0", "-n", "8", env=d.env)
    check("chat: a prompt", t.expect(r"/help lists commands.*\n[^\n]*>>> "))
    t.type("/help\r")
    check("chat: /help", t.expect(r"/clear(?s:.)*>>> "))
    t.type("/stats\r")
    check("chat: /stats before an answer", t.expect(r"nothing was answered yet(?s:.)*>>> "))
    t.type("gr\u00fc\u00dfe\r")
    check("chat: an answer, and a prompt again", t.expect(r"gr\u00fc\u00dfe\r\n(?s:.)*>>> "), repr(t.text))
    t.type("/stats\r")
    check("chat: /stats", t.expect(r"TTFT \d+ ms(?s:.)*>>> "))
    t.type('"""one\r')
    check("chat: several lines", t.expect(r"\.\.\. "))
    t.type('two"""\r')
    check("chat: are one message", t.expect(r">>> "))
    t.type("/system be brief\r")
    t.expect(r">>> ")
    t.type("/system\r")
    check("chat: /system", t.expect(r"be brief\r\n(?s:.)*>>> "))
    t.type("half a line\x03")
    check("chat: ^C drops the line", t.expect(r">>> "))
    t.type("/nonsense\r")
    check("chat: unknown commands", t.expect(r"unknown command /nonsense(?s:.)*>>> "))
    t.type("/clear\r")
    t.expect(r">>> ")
    t.type("\x04")
    check("chat: ^D leaves with 0", t.wait() == 0)
    check("chat: the history is private", stat.S_IMODE(os.stat(history).st_mode) == 0o600)
    t = at_terminal("run", "recall", "-t", "0", "--ignore-eos", env=d.env)
    t.expect(r">>> ")
    t.type("\x1b[A")
    check("chat: the history lasts", t.expect(r"/clear"), repr(t.text))
    t.type("\x15go\r")
    check("chat: a long answer begins", t.expect(r"go\r\n[^\r\n]"))
    t.type("\x03")
    check("chat: ^C stops it and stays", t.expect(r"\(stopped\)\r\n(?s:.)*>>> "), repr(t.text[-200:]))
    t.type("again\r")
    t.expect(r"again\r\n[^\r\n]")
    t.type("typed ahead\x03")
    shown = t.expect(r"(?s:.)*\(stopped\)\r\n(?s:.)*>>> ")
    check("chat: what is typed into an answer is not shown in it", shown and "typed" not in shown.group(0), shown)
    t.type("once more\r")
    t.expect(r"more\r\n[^\r\n]")
    os.kill(t.pid, signal.SIGSTOP) # so that both are there before either is read
    t.type("\x04")
    os.kill(t.pid, signal.SIGINT)
    os.kill(t.pid, signal.SIGCONT)
    check("chat: ^D typed into an answer leaves after it, with 0", t.wait() == 0)
    t = at_terminal("run", "recall", "-n", "4", env=d.env)
    t.expect(r">>> ")
    t.type("/bye\r")
    check("chat: /bye leaves with 0", t.wait() == 0)


def test_own_daemon(paths):
    nobody = {"NEBULUS_API": f"127.0.0.1:{free_port()}"}
    r = run("run", "recall", PROMPT, *GREEDY, "--ctx", "2048", env=nobody)
    check("run: starts a daemon and says so", r.code == 0 and r.out == EXPECTED and "starting one for this call" in r.err, r)
    r = run("run", paths["cut"], "x", env=nobody)
    check("run: a truncated file", r.code == 1 and r.out == "" and "cut" in r.err.splitlines()[-1], r)
    p = subprocess.Popen([NEBULUS, "run", "recall", "ab ab ab ab ab", "--raw", "-t", "0", "--ignore-eos"], env={**ENV, **nobody},
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    p.stdout.read(1)
    daemon = children(p.pid)
    workers = [w for c in daemon for w in children(c)]
    check("run: daemon and worker are its own", len(daemon) == 1 and len(workers) == 1, (daemon, workers))
    p.kill()
    p.communicate(timeout=LIMIT)
    check("run: they die with it", wait_until(lambda: not any(alive(x) for x in daemon + workers), 30))
    t = at_terminal("run", "recall", "-n", "4", env=nobody)
    check("run: a bar on the terminal", t.expect(r"recall +\d+% \u2595"), repr(t.text))
    check("run: and a chat with a daemon of its own", t.expect(r">>> "))
    daemon = children(t.pid)
    t.type("/bye\r")
    check("run: leaves with 0", t.wait() == 0)
    check("run: and takes the daemon along", daemon and wait_until(lambda: not any(alive(x) for x in daemon), 30))


def test_doctor():
    env = {"NEBULUS_API": f"127.0.0.1:{free_port()}"}
    r = run("doctor", env=env)
    words = {line.split()[0] for line in r.out.splitlines() if not line.startswith(" ")}
    check("doctor: ok here", r.code == 0 and words <= {"ok", "warn"}, r)
    shape = parsed(run("doctor", "--json", env=env))
    names = [c["name"] for c in shape.get("checks", [])]
    wanted = {"version", "engine", "device", "memory", "configuration", "data", "state", "disk", "models", "settings",
              "daemon", "templates"}
    check("doctor --json", shape.get("v") == 1 and shape.get("ok") is True and wanted <= set(names), shape)
    os.chmod(os.path.join(HOME, "data"), 0o755)
    check("doctor: an open folder", re.search(r"^warn +data .*755", run("doctor", env=env).out, re.M))
    os.chmod(os.path.join(HOME, "data"), 0o700)
    gone = os.path.join(SCRATCH, "gone.gguf")
    shutil.copy(os.path.join(SCRATCH, "tiny.gguf"), gone)
    run("import", "--link", gone)
    os.remove(gone)
    r = run("doctor", env=env)
    check("doctor: a broken link fails, with advice", r.code == 1 and "nebulus rm gone" in r.out, r)
    check("ls: a broken link", "missing" in run("ls").out)
    refused("run: a broken link", run("run", "gone", "x", "--api", env["NEBULUS_API"]), 3, "nebulus serve")
    run("rm", "gone")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(1)
        s.settimeout(LIMIT)
        taken = f"127.0.0.1:{s.getsockname()[1]}"
        p = subprocess.Popen([NEBULUS, "doctor"], env={**ENV, "NEBULUS_API": taken}, stdout=subprocess.PIPE)
        s.accept()[0].close()
        out = p.communicate(timeout=LIMIT)[0].decode()
    check("doctor: a port that another program holds", p.returncode == 1 and re.search(r"^fail +daemon", out, re.M), out)


def test_output():
    plain = run("ls")
    check("output: no colours in a pipe", "\x1b" not in plain.out + plain.err)
    t = at_terminal("ls")
    t.wait()
    check("output: colours on a terminal", "\x1b[" in t.text, repr(t.text))
    t = at_terminal("ls", env={"NO_COLOR": "1"})
    t.wait()
    check("output: NO_COLOR", "NAME" in t.text and "\x1b[" not in t.text, repr(t.text))
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([NEBULUS, "help"], stdout=full, stderr=subprocess.PIPE, env=ENV, timeout=LIMIT)
        check("output: a full disk is an error", done.returncode == 1 and done.stderr.startswith(b"nebulus: cannot write"), done)


def main():
    os.makedirs(HOME, mode=0o700)
    paths = make_models()
    test_help()
    test_usage()
    test_store(paths)
    test_completion()
    test_config()
    test_unreachable()
    test_doctor()
    test_output()
    test_daemon(paths)
    test_own_daemon(paths)
    if not failures: # else the daemon's log is of use
        shutil.rmtree(SCRATCH, ignore_errors=True)
    print(f"{len(failures)} checks failed, see {SCRATCH}" if failures else "all checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""usage: faults_test.py NEBULUS MODELS_DIR [TEST...]

What goes wrong in the field, done on purpose to a real daemon: dying workers, hostile model files, bad requests, full queues,
clients that leave or do not read. Each must cost only what it touches and be told in one clear error.
"""
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import threading
import time

from harness import PACED, check, daemon, end_process, free_port, in_parallel, run_tests, start_process, wait_until

NEBULUS, MODELS = sys.argv[1:3]
RECALL, RANDOM, SLOW = (os.path.join(MODELS, name) for name in ("recall.gguf", "random_f32.gguf", "handoff.gguf"))
PROMPT = [100 + i for i in range(20)]
SEED = 20240607


def check_error(error, *words):
    """An error object as clients know it, with one line that says something."""
    check(isinstance(error, dict) and {"message", "type", "param", "code"} <= set(error), f"no error object: {error}")
    check(error["message"] and "\n" not in error["message"], f"not one line: {error['message']!r}")
    for word in words:
        check(word.lower() in error["message"].lower(), f"'{error['message']}' does not speak of '{word}'")


def check_works(d):
    answer = d.complete(PROMPT, max_tokens=4, temperature=0)
    check(answer.status == 200, f"{answer.status}: {answer.body[:300]}")
    return answer.text


# ---- workers that die
def passage():
    with open(__file__, encoding="ascii") as f:
        return f.read()[:500]


def test_worker_killed_in_mid_stream():
    text = passage()
    with daemon(NEBULUS, RECALL, ctx=2048, parallel=4, threads=1) as d:
        before = check_works(d)
        pid = d.model()["pid"]
        streams = [d.stream(text + "\n" + text[60:100], max_tokens=300, temperature=0).first_text() for _ in range(3)]
        os.kill(pid, signal.SIGKILL)
        for s in streams:
            s.read()
            check(s.done and s.error is None, f"it did not go on with the next worker: {s.error}")
            check(s.text == text[100:400], f"it went on with something else: {s.text!r}")
        d.wait_ready()
        model = d.model()
        check(model["restarts"] >= 1 and model["pid"] not in (0, pid), f"not restarted: {model}")
        check(check_works(d) == before, "the restarted worker says something else")
        check("nebulus" in d.get("/metrics").body.decode(), "no metrics")


def test_worker_killed_before_the_answer():
    with daemon(NEBULUS, RANDOM, ctx=4096, parallel=2, threads=1) as d:
        answers = []
        client = threading.Thread(target=lambda: answers.append(d.complete(PROMPT, max_tokens=1500, ignore_eos=True)))
        client.start()
        wait_until("the request runs", lambda: d.status()["requests"]["active"] == 1)
        os.kill(d.model()["pid"], signal.SIGKILL)
        client.join()
        check(answers[0].status == 200 and answers[0].json["usage"]["completion_tokens"] == 1500, f"{answers[0].body[:200]}")
        d.wait_ready()
        check_works(d)


def test_worker_killed_while_loading():
    with daemon(NEBULUS, RECALL, wait=False, ctx=1024, threads=1) as d:
        d.wait_answering()
        killed = 0
        for _ in range(200):
            model = d.model()
            if killed == 2 or (model["state"] == "ready" and killed):
                break
            if model["pid"] and model["state"] == "loading":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(model["pid"], signal.SIGKILL)
                    killed += 1
                wait_until("the death is noticed", lambda pid=model["pid"]: d.model()["pid"] != pid)
            time.sleep(0.01)
        check(killed, "the model was ready before its worker could be killed")
        d.wait_ready()
        check(d.model()["restarts"] >= killed, f"{d.model()['restarts']} restarts after {killed} deaths")
        check_works(d)


def test_worker_killed_again_and_again():
    """A request goes on with the next worker, but not for ever; the daemon neither dies nor leaks it."""
    with daemon(NEBULUS, SLOW, ctx=4096, parallel=2, threads=1) as d:
        stream = d.stream(PROMPT, max_tokens=4000, ignore_eos=True).first_text()
        reader = threading.Thread(target=stream.read)
        reader.start()
        for _ in range(5):
            if not reader.is_alive():
                break
            os.kill(d.wait_ready()["pid"], signal.SIGKILL)
            wait_until("the death is noticed", lambda: d.model()["state"] != "ready")
        reader.join()
        check(not stream.done, "a stream that failed must not end as if it were whole")
        check_error(stream.error, "worker")
        d.wait_ready()
        check(d.status()["requests"]["active"] == 0, "a failed request is still counted as active")


def test_stopped_worker_does_not_stop_the_daemon():
    """SIGSTOP: the worker hangs. The daemon goes on answering, clients may leave, and shutting down works."""
    with daemon(NEBULUS, RANDOM, ctx=1024, parallel=2, threads=1, emulate=PACED) as d:
        stream = d.stream(PROMPT, max_tokens=900, ignore_eos=True).first_text()
        os.kill(d.model()["pid"], signal.SIGSTOP)
        for _ in range(20):
            check(d.get("/health").status == 200 and d.get("/v1/models").status == 200, "the daemon hangs with its worker")
        stream.close()
        wait_until("the client's request is forgotten", lambda: d.status()["requests"]["active"] == 0)


def test_stopped_worker_is_replaced():
    text = passage()
    with daemon(NEBULUS, RECALL, ctx=2048, parallel=4, threads=1) as d:
        pid = d.model()["pid"]
        streams = [d.stream(text + "\n" + text[60:100], max_tokens=300, temperature=0).first_text() for _ in range(3)]
        os.kill(pid, signal.SIGSTOP)
        for s in streams:
            s.read()
            check(s.done and s.error is None and s.text == text[100:400], f"it did not go on: {s.error} {s.text!r}")
        model = d.wait_ready()
        check(model["restarts"] == 1 and model["pid"] != pid, f"not restarted: {model}")
        told = d.log().count("was stopped by a signal (SIGSTOP) while it had requests; starting another")
        check(told == 1, f"the log does not say why: {d.log()}")
        check('nebulus_worker_restarts_total{model="recall"} 1' in d.get("/metrics").body.decode(), "no metrics")


def test_daemon_that_was_stopped_keeps_its_worker():
    """Both of them, as when a machine sleeps, and longer than a worker may be stopped. The daemon goes on first."""
    text = passage()
    with daemon(NEBULUS, RECALL, ctx=2048, parallel=4, threads=1) as d:
        model = d.model()
        stream = d.stream(text + "\n" + text[60:100], max_tokens=400, temperature=0).first_text()
        for how, pause in ((signal.SIGSTOP, 3), (signal.SIGCONT, 0)):
            for pid in (d.process.pid, model["pid"]):
                os.kill(pid, how)
            time.sleep(pause)
        stream.read()
        check(stream.error is None and stream.text == text[100:500], f"{stream.error} {stream.text!r}")
        now = d.model()
        check(now["pid"] == model["pid"] and now["restarts"] == 0, f"a healthy worker was killed: {now}\n{d.log()}")


# ---- model files
def mutants(good, chance):
    """Files that are nearly models: cut, overwritten, with numbers changed in the head, where the metadata and shapes stand."""
    head = min(len(good), 20000)
    yield b""
    yield b"GGUF"
    yield b"not a model at all\n" * 50
    yield bytes(chance.randrange(256) for _ in range(5000))
    yield b"GGUF" + (3).to_bytes(4, "little") + (2**63 - 1).to_bytes(8, "little") * 2
    for cut in (3, 24, 100, head // 2, len(good) // 2, len(good) - 1):
        yield good[:cut]
    for i in range(19):
        bad = bytearray(good)
        for _ in range(1 + i % 4):
            at = chance.randrange(4, head if i % 3 else 2000)
            if i % 2:
                bad[at] = chance.randrange(256)
            else:
                bad[at:at + 8] = chance.choice([2**64 - 1, 2**63, 2**31, 0, 1 << 40]).to_bytes(8, "little")
        yield bytes(bad)


def load(d, path):
    """Loads a file; returns (status, last event) of the answer."""
    answer = d.post("/nebulus/v1/load", {"model": path})
    return answer.status, json.loads(answer.body.decode().strip().split("\n")[-1])


def test_hostile_model_files():
    with open(os.path.join(MODELS, "random.gguf"), "rb") as f:
        good = f.read()
    print(f"       seed {SEED}")
    loaded = 0
    with daemon(NEBULUS, RANDOM, ctx=256, kv_cells=512, parallel=2, threads=1, max_models=2) as d:
        pid = d.model()["pid"]
        for i, data in enumerate(mutants(good, random.Random(SEED))):
            path = os.path.join(os.getcwd(), f"mutant-{os.getpid()}-{i}.gguf")
            with open(path, "wb") as f:
                f.write(data)
            status, last = load(d, path)
            if "error" in last:
                check_error(last["error"])
            else:
                check(status == 200 and last.get("state") == "ready", f"mutant {i}: {status} {last}")
                loaded += 1
                answer = d.post("/v1/completions", {"model": last["model"]["name"], "prompt": [1, 2, 3], "max_tokens": 3})
                check(answer.status == 200 or check_error(answer.error) is None, f"mutant {i}")
            d.post("/nebulus/v1/stop", {"model": f"mutant-{os.getpid()}-{i}"})
            os.remove(path)
            check(d.process.poll() is None, f"mutant {i} killed the daemon")
        good_one = next(m for m in d.status()["models"] if m["path"].endswith("random_f32.gguf"))
        check(good_one["pid"] == pid and good_one["restarts"] == 0, f"the good model's worker was touched: {good_one}")
        answer = d.post("/v1/completions", {"model": good_one["name"], "prompt": PROMPT, "max_tokens": 2})
        check(answer.status == 200, f"the good model does not answer: {answer.body}")
    print(f"       {i + 1} mutants, {loaded} still loaded")


def test_missing_model_files():
    with daemon(NEBULUS, RANDOM, ctx=256, threads=1) as d:
        for name in ("/none/there.gguf", "not-there", "../../etc/passwd", "/etc/passwd", "", "a" * 5000, "\u0000", MODELS):
            status, last = load(d, name)
            check(status in (400, 404), f"{name[:30]!r}: {status} {last}")
            check_error(last["error"])
        check_works(d)


# ---- starting
def refuses_to_start(arguments, home, *words):
    log_path = os.path.join(os.getcwd(), f"refused-{os.getpid()}.log")
    with open(log_path, "w+b") as log:
        env = {**os.environ, "NEBULUS_HOME": home}
        process = start_process([NEBULUS, "serve", *arguments], log, env)
        wait_until("it gives up", lambda: process.poll() is not None)
        code = end_process(process)
        log.seek(0)
        text = log.read().decode()
    os.remove(log_path)
    check(code not in (0, -signal.SIGSEGV, -signal.SIGABRT), f"{arguments}: it ended with {code}: {text}")
    for word in words:
        check(word in text, f"'{text}' does not speak of '{word}'")
    check(len(text.strip().splitlines()) <= 3, f"more than one clear line: {text}")


def test_cannot_start():
    home = os.path.join(os.getcwd(), f"home-start-{os.getpid()}")
    config = os.path.join(home, "config", "nebulus.conf")
    os.makedirs(os.path.dirname(config))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refuses_to_start(["--api", f"127.0.0.1:{port}"], home, str(port), "in use")
    here = f"127.0.0.1:{free_port()}"
    refuses_to_start(["--api", "0.0.0.0:0"], home, "loopback")
    refuses_to_start(["--api", "nonsense"], home, "nonsense")
    refuses_to_start(["--api", here, "--kv-type", "f64"], home, "f64")
    refuses_to_start(["--api", here, "--nonsense"], home, "nonsense")
    refuses_to_start(["--api", here, "--model", "/none/there.gguf"], home, "there.gguf")
    with open(config, "w", encoding="utf-8") as f:
        f.write("ctx = 512\nnonsense = 1\n")
    refuses_to_start(["--api", here], home, "nebulus.conf:2", "nonsense")
    os.remove(config)
    os.mkdir(config)
    refuses_to_start(["--api", here], home, "nebulus.conf")
    shutil.rmtree(home)


# ---- requests
def test_bad_requests():
    deep = b'{"prompt":' + b"[" * 500 + b"]" * 500 + b"}"
    cases = [
        (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b"{} {}", 400), (b'{"prompt":"a","prompt":"b"}', 400),
        (b'{"prompt":"\xff\xfe"}', 400), (b'{"prompt":"a\\ud800b"}', 400), (b'{"prompt":"a"}\0', 400), (deep, 400),
        (b'{"prompt":{}}', 400), (b'{"prompt":null}', 400), (b"{}", 400), (b'{"prompt":["a","b"]}', 400),
        (b'{"prompt":[-1]}', 400), (b'{"prompt":[99999999]}', 400), (b'{"prompt":[1.5]}', 400),
        (b'{"prompt":"a","max_tokens":"x"}', 400), (b'{"prompt":"a","max_tokens":-5}', 400),
        (b'{"prompt":"a","temperature":1e999}', 400), (b'{"prompt":"a","temperature":NaN}', 400),
        (b'{"prompt":"a","seed":99999999999999999999}', 400), (b'{"prompt":"a","stop":[1]}', 400),
        (json.dumps({"prompt": "a", "stop": ["s"] * 100}).encode(), 400), (b'{"prompt":"a","model":"none"}', 404),
        (b'{"prompt":"a","model":7}', 400), (b'{"prompt":"a","logit_bias":{"999999999":1}}', None),
        (json.dumps({"prompt": [100] * 2000}).encode(), 400),
    ]
    with daemon(NEBULUS, RANDOM, ctx=256, parallel=2, threads=1) as d:
        for body, status in cases:
            answer = d.request("POST", "/v1/completions", body)
            if status or answer.status != 200:
                check(answer.status == (status or 400), f"{body[:60]}: {answer.status} {answer.body[:200]}")
                check_error(answer.error)
                check("x-request-id" in answer.headers, f"{body[:60]}: no x-request-id")
        too_long = d.request("POST", "/v1/completions", json.dumps({"prompt": [100] * 2000}))
        check_error(too_long.error, "context")
        for method, path, status in (("GET", "/v1/completions", 405), ("POST", "/v1/none", 404), ("GET", "/", 404),
                                     ("DELETE", "/v1/models", 405), ("GET", "/v1/models/none", 404)):
            answer = d.request(method, path)
            check(answer.status == status, f"{method} {path}: {answer.status}")
            check_error(answer.error)
        check_works(d)


def raw(d, data, read=True):
    """Sends bytes as they are; returns what comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", d.port), timeout=60) as s:
        got = b""
        with contextlib.suppress(ConnectionError):
            s.sendall(data)
            while read and (part := s.recv(65536)):
                got += part
    return got


def test_huge_and_broken_http():
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
    with daemon(NEBULUS, RANDOM, ctx=256, parallel=2, threads=1) as d:
        got = raw(d, head + b"Content-Length: 99999999999\r\n\r\n{")
        check(got.startswith(b"HTTP/1.1 413"), got[:200])
        check_error(json.loads(got.split(b"\r\n\r\n", 1)[1])["error"])
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        got = raw(d, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 600)
        check(not got or got.startswith(b"HTTP/1.1 413"), got[:200])
        for broken in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", head + b"Content-Length: -1\r\n\r\n",
                       head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", head + b"A" * 200000):
            got = raw(d, broken + b"\r\n\r\n")
            check(not got or got.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), f"{broken[:40]}: {got[:100]}")
        check_works(d)


# ---- clients
def test_clients_that_do_not_read():
    """Their answers wait for them, in bounded memory; others are served all the while, and nothing is left when they go."""
    with daemon(NEBULUS, RANDOM, ctx=4096, parallel=4, threads=1) as d:
        before = d.status()["rss_bytes"]
        body = json.dumps({"prompt": PROMPT, "max_tokens": 1500, "ignore_eos": True, "stream": True}).encode()
        request = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                s = stack.enter_context(socket.socket())
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                s.connect(("127.0.0.1", d.port))
                s.sendall(request)
            wait_until("they are computed", lambda: d.model()["requests"] == 3)
            check_works(d)
            wait_until("their answers are complete", lambda: d.stat("running") == 0)
            more = d.status()["rss_bytes"] - before
            check(more < 20 << 20, f"the daemon holds {more} bytes more")
        d.wait_idle()


def test_many_clients_some_leave():
    """16 clients, of whom every other leaves at a moment of its own; the others get what they would get alone."""
    with daemon(NEBULUS, RECALL, ctx=512, parallel=4, queue=32, threads=1) as d:
        passage = "The ferry left at dawn with nine crates of lamp oil and a letter for the miller."
        prompt = passage + " Nothing else happened. " + passage[:40]
        alone = d.complete(prompt, max_tokens=20, temperature=0).text
        check(alone == passage[40:60], f"the model does not recall: {alone!r}")

        def stays():
            return d.complete(prompt, max_tokens=20, temperature=0).text

        def leaves(n):
            stream = d.stream(prompt, max_tokens=400, ignore_eos=True)
            for _, _event in zip(range(n), stream):
                pass
            stream.close()
        got = in_parallel([stays if i % 2 else (lambda i=i: leaves(i)) for i in range(16)])
        check(all(text == alone for text in got[1::2]), f"others' leaving changed answers: {got[1::2]}")
        d.wait_idle()
        check(d.model()["restarts"] == 0, "the worker was restarted")


def test_full_queue():
    with daemon(NEBULUS, RANDOM, ctx=2048, parallel=1, queue=2, threads=1, emulate=PACED) as d:
        held = [d.stream(PROMPT, max_tokens=2000, ignore_eos=True).first_text()]
        waiting = []
        for n in (2, 3):
            waiting.append(threading.Thread(target=lambda: d.complete(PROMPT, max_tokens=1)))
            waiting[-1].start()
            wait_until("it waits", lambda n=n: d.status()["requests"]["active"] == n)
        answer = d.complete(PROMPT, max_tokens=1)
        check(answer.status == 429, f"{answer.status}: {answer.body[:200]}")
        check_error(answer.error)
        check(int(answer.headers.get("retry-after", -1)) >= 0, f"no retry-after: {answer.headers}")
        held[0].close()  # makes room: those that waited are served
        for t in waiting:
            t.join()
        check_works(d)


def test_same_seed_same_text_in_company():
    with daemon(NEBULUS, RANDOM, ctx=512, parallel=8, threads=1) as d:
        def ask(seed, n):
            answer = d.complete(PROMPT[n:], max_tokens=40, temperature=1, seed=seed, ignore_eos=True)
            check(answer.status == 200, f"{answer.status}: {answer.body[:200]}")
            return answer.text
        alone = ask(5, 0)
        for _ in range(3):
            company = in_parallel([lambda: ask(5, 0)] + [lambda i=i: ask(100 + i, i) for i in range(8)])
            check(company[0] == alone, f"{company[0]!r} in company, {alone!r} alone")
        check(ask(6, 0) != alone, "the seed changes nothing")


run_tests([test_worker_killed_in_mid_stream, test_worker_killed_before_the_answer, test_worker_killed_while_loading,
           test_worker_killed_again_and_again, test_stopped_worker_does_not_stop_the_daemon,
           test_stopped_worker_is_replaced, test_daemon_that_was_stopped_keeps_its_worker, test_hostile_model_files,
           test_missing_model_files, test_cannot_start, test_bad_requests, test_huge_and_broken_http,
           test_clients_that_do_not_read, test_many_clients_some_leave, test_full_queue, test_same_seed_same_text_in_company],
          sys.argv[3:])

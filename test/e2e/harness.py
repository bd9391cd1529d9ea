"""What the end-to-end tests share: real daemons on free loopback ports, HTTP and SSE clients, and a runner.

Everything that a test starts is ended with it, whatever happens: processes get their own groups, which are killed at exit.
"""
import atexit
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

PATIENCE = 120.0  # seconds: how long a busy machine may take for anything; never a measure of quality

# `serve --emulate`: 30 ms per token, so that an answer is still being written when the next thing is done.
PACED = "m3-ultra@llama-3.1-8b"

started = []
held_ports = []


def kill_all():
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


atexit.register(kill_all)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: sys.exit(1))


def free_port():
    """A port of loopback for a server of this test. On Linux it stays bound here until the test ends, so that the kernel gives it
    to nobody else; a server that says SO_REUSEADDR (or SO_REUSEPORT) can still bind it."""
    s = socket.socket()
    if sys.platform == "linux":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held_ports.append(s)
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def start_process(arguments, log, env=None):
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True)
    started.append(process)
    return process


def end_process(process, how=signal.SIGTERM):
    """Ends a process and what is left of its group; returns its exit code."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        return process.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        started.remove(process)


def wait_until(what, condition, patience=PATIENCE, every=0.02):
    """Polls until condition() is true; returns its value."""
    end = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"this never came true: {what}")
        time.sleep(every)


def send(connection, method, path, body, headers):
    """A header whose value is a list comes as so many lines."""
    text = (json.dumps(body) if isinstance(body, (dict, list)) else body) or ""
    data = text.encode() if isinstance(text, str) else text
    connection.putrequest(method, path)
    for name, value in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
        for line in value if isinstance(value, list) else [value]:
            connection.putheader(name, line)
    connection.endheaders(data)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {k.lower(): v for k, v in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def text(self):
        choice = self.json["choices"][0]
        return choice["message"]["content"] if "message" in choice else choice["text"]


class Stream:
    """A streamed answer: iterate over its events; text gathers what they say."""

    def __init__(self, host, port, path, body, headers=None):
        self.connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        self.connection.request("POST", path, json.dumps({**body, "stream": True}),
                                {"content-type": "application/json", **(headers or {})})
        self.response = self.connection.getresponse()
        self.text, self.error, self.done, self.finish, self.usage = "", None, False, None, None

    def __iter__(self):
        heard = time.monotonic()
        while line := self.response.readline():
            check(time.monotonic() - heard < PATIENCE, f"the answer stands still after {self.text!r}")  # pings go on
            if not line.startswith(b"data: "):
                continue
            heard = time.monotonic()
            if line.strip() == b"data: [DONE]":
                self.done = True
                return
            event = json.loads(line[6:])
            self.error = event.get("error", self.error)
            self.usage = event.get("usage", self.usage)
            for choice in event.get("choices", []):
                self.text += choice.get("text") or choice.get("delta", {}).get("content") or ""
                self.finish = choice.get("finish_reason") or self.finish
            yield event

    def read(self):
        for _ in self:
            pass
        self.close()
        return self

    def first_text(self):
        """Reads until the first text has come."""
        for _ in self:
            if self.text:
                return self
        raise AssertionError(f"the stream ended without text: {self.error}")

    def close(self):
        sock = self.connection.sock
        self.response.close()
        if sock:
            sock.close()
        self.connection.close()


class Server:
    """Any server with OpenAI-shaped routes on a port of 127.0.0.1."""

    def __init__(self, port, process):
        self.port, self.process = port, process

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            send(connection, method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body):
        return self.request("POST", path, body)

    def complete(self, prompt, **members):
        return self.post("/v1/completions", {"prompt": prompt, **members})

    def stream(self, prompt, **members):
        return Stream("127.0.0.1", self.port, "/v1/completions", {"prompt": prompt, **members})


class Daemon(Server):
    """`nebulus serve` with a home of its own. Settings are given as name=value."""

    def __init__(self, binary, home, model=None, wait=True, words=(), **settings):
        os.makedirs(home, exist_ok=True)
        port = settings.pop("port", None) or free_port()
        settings.setdefault("discovery", "off")  # tests do not talk to the machine's network
        arguments = [binary, *words, "serve", "--api", f"127.0.0.1:{port}"]
        if model:
            arguments += ["--model", model]
        for name, value in {"profile": "off", **settings}.items():  # measuring would take time from the tests
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        self.log_path = os.path.join(home, "daemon.log")
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}
        env["NEBULUS_HOME"] = home
        with open(self.log_path, "ab") as log:
            super().__init__(port, start_process(arguments, log, env))
        if wait:
            self.wait_answering()
            if model:
                self.wait_ready()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_answering(self):
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
            with contextlib.suppress(OSError):
                return self.get("/health").status == 200
        wait_until("the daemon answers", answers)

    def status(self):
        return self.get("/nebulus/v1/status").json

    def model(self):
        models = self.status()["models"]
        return models[0] if models else None

    def stat(self, name):
        """A figure of its model's worker; 0 of one that has just started."""
        return (self.model()["stats"] or {}).get(name, 0)

    def wait_ready(self):
        def ready():
            model = self.model()
            if model and model["state"] == "failed":
                raise AssertionError(f"the model failed: {model['error']}\n{self.log()}")
            return model and model["state"] == "ready" and model
        return wait_until("the model is ready", ready)

    def wait_idle(self):
        def idle():
            status = self.status()
            stats = (status["models"][0]["stats"] if status["models"] else None) or {"running": 0, "waiting": 0}
            return status["requests"]["active"] == 0 and stats["running"] == 0 and stats["waiting"] == 0
        wait_until("no request is active and no sequence is running", idle)

    def stop(self):
        """Ends it politely; anything but exit code 0 is a failure."""
        code = end_process(self.process)
        check(code == 0, f"the daemon ended with {code}:\n{self.log()[-4000:]}")


@contextlib.contextmanager
def daemon(binary, model=None, **settings):
    """A daemon for one test, with a scratch home that is removed afterwards."""
    home = tempfile.mkdtemp(prefix="home-", dir=os.getcwd())
    d = Daemon(binary, home, model, **settings)
    try:
        yield d
        if d.process.poll() is not None:
            raise AssertionError(f"the daemon died with {d.process.returncode}:\n{d.log()[-4000:]}")
        d.stop()
    except BaseException:
        print(d.log()[-4000:], file=sys.stderr)
        raise
    finally:
        if d.process in started:
            end_process(d.process, signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def in_parallel(calls):
    """Runs the callables at the same time; returns their results in order, or raises the first exception."""
    results, errors = [None] * len(calls), []

    def work(i, call):
        try:
            results[i] = call()
        except BaseException as e:  # told to the caller below
            errors.append(e)
    threads = [threading.Thread(target=work, args=(i, call)) for i, call in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def run_tests(tests, wanted=()):
    """Runs the functions one after another, prints a line for each, and exits."""
    failed = 0
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        begin = time.monotonic()
        try:
            test()
            print(f"ok     {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {test.__name__} ({time.monotonic() - begin:.1f} s)\n{traceback.format_exc()}", flush=True)
    sys.exit(1 if failed else 0)

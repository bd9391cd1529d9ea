"""One node that belongs to no cluster, its command line and its agents."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

from harness import Daemon, check, end_process

NEBULUS, MODELS = sys.argv[1:3]
MODEL = os.path.join(MODELS, "random_f32.gguf")


class Node:
    """A daemon with a home that outlives it."""

    def __init__(self, **settings):
        self.home = tempfile.mkdtemp(prefix="home-", dir=os.getcwd())
        self.daemon, self.settings = None, {"ctx": 512, "threads": 1, **settings}
        self.start()

    def start(self):
        self.daemon = Daemon(NEBULUS, self.home, MODEL, **self.settings)

    def restart(self):
        self.daemon.stop()
        self.start()

    def cli(self, *words, code=0, key=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("NEBULUS_")}
        env.update({"NEBULUS_HOME": self.home, "NEBULUS_API": f"127.0.0.1:{self.daemon.port}"})
        if key:
            env["NEBULUS_KEY"] = key
        done = subprocess.run([NEBULUS, *words], env=env, capture_output=True, text=True, check=False, timeout=120,
                              stdin=subprocess.DEVNULL)
        check(done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def create(self, *words):
        key = self.cli("agent", "create", *words).stdout.strip()
        check(key.startswith("neb_") and len(key) == 47, f"this is no key: {key!r}")
        return key

    def apply(self, *rules):
        path = os.path.join(self.home, "policy.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"v": 1, "rules": rules}, f)
        self.cli("policy", "apply", path)

    def ask(self, key=None, headers=None, **members):
        headers = {**({"authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
        return self.daemon.request("POST", "/v1/completions", {"prompt": "one two", "max_tokens": 4, **members}, headers)


@contextlib.contextmanager
def node(**settings):
    n = Node(**settings)
    try:
        yield n
        n.daemon.stop()
    except BaseException:
        print(n.daemon.log()[-4000:], file=sys.stderr)
        raise
    finally:
        with contextlib.suppress(ValueError, ProcessLookupError):
            end_process(n.daemon.process)
        shutil.rmtree(n.home, ignore_errors=True)


def permit(name, **members):
    return {"id": name, "effect": "permit", **members}


def expect(answer, status, code=None):
    check(answer.status == status, f"{answer.status} instead of {status}: {answer.body}")
    if code:
        check(answer.error["code"] == code, f"{answer.error} instead of {code}")
    return answer

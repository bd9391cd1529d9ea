#!/usr/bin/python3
"""usage: with_daemon.py BINARY MODEL [name=value ...] -- COMMAND ...

Runs a command while a daemon serves MODEL. NEBULUS_TEST_URL and NEBULUS_TEST_MODEL tell the command where, NEBULUS_TEST_KEY is a
key of the owner. Exits as it does.
"""
import os
import subprocess
import sys

from harness import daemon


def main():
    split = sys.argv.index("--")
    binary, model, *settings = sys.argv[1:split]
    with daemon(binary, model, **dict(s.split("=", 1) for s in settings)) as d:
        env = {**os.environ, "NEBULUS_TEST_URL": f"http://127.0.0.1:{d.port}", "NEBULUS_TEST_MODEL": d.model()["name"],
               "NEBULUS_TEST_KEY": d.post("/nebulus/v1/agents/owner/rotate", {}).json["key"]}
        return subprocess.run(sys.argv[split + 1:], env=env, check=False).returncode


sys.exit(main())

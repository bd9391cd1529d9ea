#!/usr/bin/python3
"""usage: guarantees_test.py ROOT

docs/guarantees.md names G1 to G13, and no test that is not there.
"""
import glob
import os
import re
import sys

ROOT = sys.argv[1]


def source_of(name):
    found = [path for top in ("src", "test") for path in glob.glob(f"{ROOT}/{top}/**/{name}", recursive=True)]
    return found[0] if len(found) == 1 else None


def faults(text):
    for i in range(1, 14):
        if not re.search(rf"^\| G{i} \|", text, re.M):
            yield f"G{i} is missing"
    for line in re.findall(r"^\| .*\|$", text, re.M):
        if "`" not in line and not line.endswith("| Proof |"):
            yield f"nothing proves this: {line}"
    for name, test in re.findall(r"`(\w+_test\.(?:c|py)):(\w+)`", text):
        path = source_of(name)
        if not path:
            yield f"there is no {name}, or there are several"
            continue
        with open(path, encoding="utf-8") as f:
            defined = re.search(rf"^(?:def|static void) {test}\(", f.read(), re.M)
        if not defined:
            yield f"{name} has no {test}"


if __name__ == "__main__":
    with open(os.path.join(ROOT, "docs", "guarantees.md"), encoding="utf-8") as document:
        found = list(faults(document.read()))
    print("\n".join(found))
    sys.exit(1 if found else 0)

#!/usr/bin/env python3
"""Compares this project's chat template rendering with jinja2's, byte for byte.

usage: oracle_test.py RENDER [DIRECTORY]

RENDER is the program made from render.c; DIRECTORY (default: this one) holds *.jinja files, each rendered with every
conversation of cases/. The environment is the one that Hugging Face transformers gives its templates. Where jinja2
fails, our rendering must fail too. Needs python3-jinja2.
"""
import copy
import datetime
import json
import os
import pathlib
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1735787045  # 2025-01-02 03:04:05 UTC
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

# (template, case): why our bytes may differ there. Each entry must still differ, or the test fails.
KNOWN = {}


class Generation(jinja2.ext.Extension):
    """{% generation %} marks assistant text for training; it renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=strftime_now)
    return env


def flat(message):
    """Text parts become one string."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": "\n".join(part["text"] for part in content)}


def with_objects(message):
    """Tool arguments that are JSON text become objects."""
    calls = copy.deepcopy(message.get("tool_calls") or [])
    for call in calls:
        if isinstance(call["function"]["arguments"], str):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return {**message, "tool_calls": calls} if calls else message


def without_null(message):
    return {**message, "content": ""} if message.get("content", "") is None else message


def as_parts(message):
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def wants_parts(template):
    """Whether the template shows text only in lists of parts."""

    def shows(message):
        try:
            return "some text" in template.render(messages=[message], tools=None)
        except Exception:
            return False

    probe = {"role": "user", "content": "some text"}
    return not shows(probe) and shows(as_parts(probe))


def expected(env, source, case):
    """The rendered text, or None where jinja2 fails, and why. Messages take the forms that template.h describes."""
    variables = {"tools": None, "documents": None, **TOKENS, **case.get("args", {})}
    variables["add_generation_prompt"] = case["add_generation_prompt"]
    if "tools" in case:
        variables["tools"] = case["tools"]
    text = [flat(m) for m in case["messages"]]
    objects = [with_objects(m) for m in text]
    why = ""
    for messages in (objects, text, [without_null(m) for m in objects], [without_null(m) for m in text]):
        try:
            template = env.from_string(source)
            if wants_parts(template):
                messages = [as_parts(m) for m in messages]
            return template.render(messages=messages, **variables), ""
        except Exception as fault:  # whatever a template does wrong
            why = why or f"{type(fault).__name__}: {fault}"
    return None, why


def rendered(program, template, cases):
    """What RENDER prints for all cases of one template: one JSON object per line."""
    run = subprocess.run(
        [program, str(template), TOKENS["bos_token"], TOKENS["eos_token"], str(NOW), *map(str, cases)],
        stdout=subprocess.PIPE, env={**os.environ, "TZ": "UTC"}, timeout=120, check=True)
    return [json.loads(line) for line in run.stdout.decode("utf-8").split("\n") if line]


def show(text, at):
    return repr(text[max(0, at - 40):at + 60])


def difference(want, why, got):
    """None where both agree, else what differs."""
    text = got.get("text")
    if want == text:
        return None
    if text is None:
        return f"we fail: {got['error']}"
    if want is None:
        return f"jinja2 fails, we do not: {why}"
    at = next((i for i, (a, b) in enumerate(zip(want, text)) if a != b), min(len(want), len(text)))
    return f"character {at}:\n    jinja2 {show(want, at)}\n    ours   {show(text, at)}"


def main():
    program = sys.argv[1]
    directory = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE
    templates = sorted(directory.glob("*.jinja"))
    cases = sorted((HERE / "cases").glob("*.json"))
    if not templates or not cases:
        sys.exit(f"no templates in {directory} or no cases in {HERE / 'cases'}")
    counts = {"same": 0, "both fail": 0, "differ": 0}
    unexpected = 0
    for template in templates:
        source = template.read_text("utf-8")
        results = rendered(program, template, cases)
        if len(results) != len(cases):
            sys.exit(f"{template.name}: {len(results)} results for {len(cases)} cases")
        before = counts["same"]
        for path, got in zip(cases, results):
            want, why = expected(environment(), source, json.loads(path.read_text("utf-8")))
            fault = difference(want, why, got)
            counts["differ" if fault else "both fail" if want is None else "same"] += 1
            known = KNOWN.get((template.stem, path.stem))
            if bool(fault) != bool(known):
                unexpected += 1
                print(f"{template.stem} / {path.stem}: {fault or 'agrees, but is listed as a known difference'}")
        if counts["same"] == before:
            unexpected += 1
            print(f"{template.stem}: no case at all is rendered alike")
    print(f"{len(templates)} templates x {len(cases)} cases: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    sys.exit(1 if unexpected or not counts["same"] else 0)


if __name__ == "__main__":
    main()

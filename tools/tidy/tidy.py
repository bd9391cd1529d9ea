#!/usr/bin/python3
"""Holds the source tree to the project's rules. Standard library only.

usage: tidy.py [ROOT]            check every rule; one line per finding, exit 1 where there is any
       tidy.py --format [ROOT]   compare the C files with .clang-format; exit 77 (skipped) without clang-format

A rule is a generator that takes a File (or, for rules about the whole tree, the list of them) and yields (line, message).
tidy_test.py shows every rule a tree that breaks it.
"""
import collections
import difflib
import os
import re
import shutil
import subprocess
import sys

MAX_FUNCTION, MAX_SOURCE, MAX_TEST_SOURCE, MAX_HEADER, MAX_COLUMNS = 70, 600, 1000, 150, 130
SAME_ENOUGH = 0.85  # two functions of one name that resemble each other this much are one helper, written twice

CODE = (".c", ".h", ".py", ".mjs", ".js", ".sh", ".cmake", ".txt")
SKIPPED_DIRS = {".git", "build", "deps", "models", "node_modules", "corpus", "vectors", "__pycache__"}

# Who may include whom (the folders below src/). A room may always include itself.
ROOMS = {
    "base": (),
    "plan": ("base",),
    "net": ("base",),
    "engine": ("base",),
    "worker": ("engine", "plan", "base"),
    "trust": ("base",),
    "audit": ("trust", "base"),
    "discover": ("base",),
    "cluster": ("engine", "net", "base"),
    "serve": ("cluster", "audit", "trust", "plan", "discover", "engine", "net", "base"),
    "cli": ("serve", "cluster", "audit", "trust", "plan", "discover", "engine", "net", "base"),
    "main": ("cli", "serve", "cluster", "audit", "trust", "plan", "discover", "engine", "net", "base", "worker"),
}
LLAMA_HEADERS = re.compile(r"^(llama|gguf|ggml(-[a-z]+)*)\.h$")
BANNED = re.compile(r"\b(str(n?cpy|cat|tok)|v?sprintf|gets|alloca|atoi|atol|system|popen|tmpnam|mktemp|rand)\s*\(")
# Written in pieces so that this file does not break its own rules.
MACHINE_PATH = re.compile(r"(?<![\w.$})])/(work|home|root)" + r"/|/tmp/" + r"build")
MIRROR = re.compile(r"(deb|security|snapshot)\.debian\." + r"org|archive\.ubuntu\." + r"com|registry\.(npmjs\.org|yarnpkg)|"
                    r"pypi\." + r"org|pythonhosted\." + r"org|https?://[^/\s\"']*" + r"mirror")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "do", "else", "defined", "case"}


def blank(text):
    """The text with everything but its line breaks turned into spaces."""
    return re.sub(r"[^\n]", " ", text)


def strip_code(text):
    """C without comments, with empty strings and without preprocessor lines; every line keeps its number."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\''
    def keep(m):
        return m[0][0] + blank(m[0][1:-1]) + m[0][-1] if m[0][0] in "\"'" else blank(m[0])
    text = re.sub(pattern, keep, text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", lambda m: blank(m[0]), text, flags=re.M)


Function = collections.namedtuple("Function", "name static line lines body")


def functions_of(code):
    """The function definitions of stripped C code."""
    found, depth, head, opened = [], 0, 0, 0
    for i, c in enumerate(code):
        if c == "{":
            if depth == 0:
                opened = i
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                text = code[head:opened]
                m = re.search(r"(\w+)\s*\([^=]*\)\s*$", text, re.S)
                if m and m[1] not in KEYWORDS and "=" not in text:
                    start = head + len(text) - len(text.lstrip())
                    body = " ".join(code[opened:i + 1].split())
                    found.append(Function(m[1], re.search(r"\bstatic\b", text) is not None, code.count("\n", 0, start) + 1,
                                          code.count("\n", start, i) + 1, body))
                head = i + 1
        elif c == ";" and depth == 0:
            head = i + 1
    return found


class File:
    def __init__(self, root, path):
        self.root, self.path = root, path
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
            self.text = f.read()
        self.lines = self.text.split("\n")
        self.name = os.path.basename(path)
        self.is_h = path.endswith(".h")
        self.is_test = self.name.endswith("_test.c") or path.startswith("test/")
        self.code = strip_code(self.text) if path.endswith((".c", ".h")) else ""
        self.functions = functions_of(self.code)

    @property
    def room(self):
        parts = self.path.split("/")
        if parts[0] != "src":
            return None
        if len(parts) == 2:
            return "main"
        return "worker" if parts[1:3] == ["engine", "worker"] else parts[1]

    def find(self, pattern, text=None):
        text = self.text if text is None else text
        return [(text.count("\n", 0, m.start()) + 1, m) for m in pattern.finditer(text)]

    def includes(self):
        for line, m in self.find(re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)):
            yield line, m[1] == '"', m[2]


# ---- rules about one file
def rule_function_length(f):
    for fn in f.functions:
        if fn.lines > MAX_FUNCTION:
            yield fn.line, f"{fn.name} has {fn.lines} lines; the most is {MAX_FUNCTION}"


def rule_file_length(f):
    limit = MAX_HEADER if f.is_h else MAX_TEST_SOURCE if f.is_test else MAX_SOURCE
    count = f.text.count("\n")
    if f.name.endswith((".c", ".h")) and count > limit:
        yield 1, f"{count} lines; the most is {limit}"


def rule_line_length(f):
    if not f.name.endswith((".c", ".h", ".py", ".mjs")):
        return
    for n, line in enumerate(f.lines, 1):
        if len(line) > MAX_COLUMNS:
            yield n, f"{len(line)} columns; the most is {MAX_COLUMNS}"


def rule_whitespace(f):
    for n, line in enumerate(f.lines, 1):
        if line.rstrip() != line or ("\t" in line and f.name != "Makefile"):
            yield n, "a tab or trailing whitespace"
    if f.text and (not f.text.endswith("\n") or f.text.endswith("\n\n")):
        yield len(f.lines), "the file must end with exactly one newline"


def rule_rooms(f):
    room = f.room
    for line, quoted, target in f.includes():
        if not quoted or not room or "/" not in target:
            continue
        to = "worker" if target.startswith("engine/worker/") else target.split("/")[0]
        if to != room and to in ROOMS and to not in ROOMS.get(room, ()) and not (f.is_test and to == "worker"):
            yield line, f"{room} must not include {target} (rooms: {room} may see {', '.join(ROOMS.get(room, ())) or 'nothing'})"


def rule_room_known(f):
    if f.room and f.room not in ROOMS and f.name.endswith((".c", ".h")):
        yield 1, f"'{f.room}' is not a room of src/: name it in tidy.py's ROOMS, with what it may include"


def rule_llama_headers(f):
    for line, _, target in f.includes():
        if f.room not in (None, "worker") and LLAMA_HEADERS.match(target):
            yield line, f"only src/engine/worker may include {target}"


def rule_include_style(f):
    for line, quoted, target in f.includes():
        if quoted and (target.startswith(".") or (f.room and f.room != "main" and "/" not in target)):
            yield line, f'write the include from src/ down, not "{target}"'


def rule_pragma_once(f):
    if f.is_h and "#pragma once" not in f.lines:
        yield 1, "a header needs #pragma once"


def rule_getenv(f):
    for line, _ in f.find(re.compile(r"\b(secure_)?getenv\s*\("), f.code):
        if f.path != "src/base/env.c":
            yield line, "getenv belongs to src/base/env.c: use env_get"


def rule_banned(f):
    for line, m in f.find(BANNED, f.code):
        yield line, f"{m[1]} is banned"


def rule_void_call(f):
    for line, m in f.find(re.compile(r"\(void\)\s*(\w+)\s*\("), f.code):
        yield line, f"the result of {m[1]} is thrown away: handle it, or say in a branch why nothing can be done"


def rule_unfinished(f):
    for line, m in f.find(UNFINISHED):
        yield line, f"{m[1]}: finish it, or open an issue"


def rule_machine_path(f):
    for line, m in f.find(MACHINE_PATH):
        yield line, f"{m[0]}... is a path of one machine"


def rule_mirror(f):
    for line, m in f.find(MIRROR):
        yield line, f"{m[0]}: package hosts come from the machine's own configuration"
    if f.name == "package-lock.json" and '"resolved":' in f.text:
        yield 1, "write the lock file with npm install --omit-lockfile-registry-resolved"


def rule_test_beside_code(f):
    if f.room and f.name.endswith("_test.c") and not os.path.exists(os.path.join(f.root, f.path[:-len("_test.c")] + ".c")):
        yield 1, f"there is no {f.name[:-len('_test.c')]}.c beside it"


# ---- rules about the whole tree
def rule_fuzz_corpus(files):
    for f in files:
        name = f.name.removesuffix("_fuzz.c")
        corpus = os.path.join(f.root, "test/fuzz/corpus", name)
        if name == f.name:
            continue
        if f.path != f"test/fuzz/{f.name}":
            yield f, 1, "fuzz targets belong to test/fuzz, where they are registered"
        elif not os.path.isdir(corpus) or not os.listdir(corpus):
            yield f, 1, f"no seeds in test/fuzz/corpus/{name}"


def rule_duplicate_helper(files):
    seen = {}
    for f in files:
        for fn in f.functions:
            if not fn.static or (f.is_test and fn.lines < 5):
                continue
            for other, twin in seen.setdefault(fn.name, []):
                same = fn.body == twin.body
                if not same and fn.lines >= 5 and twin.lines >= 5:
                    same = difflib.SequenceMatcher(None, fn.body, twin.body, autojunk=False).ratio() > SAME_ENOUGH
                if other is not f and same:
                    yield f, fn.line, f"{fn.name} stands in {other.path}:{twin.line} too: share one"
            seen[fn.name].append((f, fn))


def rule_copied_body(files):
    seen = {}
    for f in files:
        for fn in f.functions:
            if fn.lines < 5:
                continue
            other, twin = seen.setdefault(fn.body, (f, fn))
            if other is not f and twin.name != fn.name:
                yield f, fn.line, f"{fn.name} is a copy of {twin.name} in {other.path}:{twin.line}"


FILE_RULES = [rule_function_length, rule_file_length, rule_line_length, rule_whitespace, rule_rooms, rule_room_known,
              rule_llama_headers, rule_include_style, rule_pragma_once, rule_getenv, rule_banned, rule_void_call,
              rule_unfinished, rule_machine_path, rule_mirror, rule_test_beside_code]
TREE_RULES = [rule_fuzz_corpus, rule_duplicate_helper, rule_copied_body]


def source_files(root):
    for where, dirs, names in os.walk(root):
        dirs[:] = sorted(d for d in dirs if d not in SKIPPED_DIRS and not d.startswith("build"))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(where, name), root)
            script = path.startswith("scripts/") and "." not in name
            if name.endswith(CODE) or script or name in ("Makefile", "package-lock.json"):
                yield path


def check(root):
    """Every finding as (path, line, rule, message)."""
    files = [File(root, path) for path in source_files(root)]
    for rule in FILE_RULES:
        for f in files:
            if rule is rule_mirror or f.name != "package-lock.json":  # npm writes that one
                yield from ((f.path, line, rule.__name__[5:], message) for line, message in rule(f))
    for rule in TREE_RULES:
        yield from ((f.path, line, rule.__name__[5:], message) for f, line, message in rule(files))


def check_format(root):
    if not shutil.which("clang-format"):
        print("SKIP: clang-format is not installed")
        return 77
    paths = [p for p in source_files(root) if p.endswith((".c", ".h"))]
    return subprocess.run(["clang-format", "--dry-run", "--Werror", "--ferror-limit=3", *paths], cwd=root, check=False).returncode


def main(arguments):
    root = next((a for a in arguments if not a.startswith("-")), os.path.join(os.path.dirname(__file__), "../.."))
    if "--format" in arguments:
        return check_format(root)
    findings = sorted(check(root))
    for path, line, rule, message in findings:
        print(f"{path}:{line}: {message} [{rule}]")
    print(f"tidy: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

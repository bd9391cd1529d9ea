#!/usr/bin/python3
"""Shows tidy.py one tree that keeps the rules and, for every rule, trees that break it: exactly that rule must speak."""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tidy  # noqa: E402

GOOD = {
    "src/main.c": '#include "cli/cli.h"\n#include "engine/worker/worker.h"\n\nint main(void) { return 0; }\n',
    "src/base/a.h": "#pragma once\n\nint a_open(void);\n",
    "src/base/a.c": '#include "base/a.h"\n\n// sprintf( in a comment and a brace {\n'
                    'int a_open(void) { return sizeof "gets(}" > 3; }\n',
    "src/base/a_test.c": '#include "base/a.h"\n\nstatic void setup(void) {}\n\nint main(void) { return a_open(); }\n',
    "src/base/env.c": "#include <stdlib.h>\n\nconst char *env_get(const char *n) { return getenv(n); }\n",
    "src/engine/worker/w.c": '#include "engine/protocol.h"\n#include <llama.h>\n\nstatic int same(void) { return 1; }\n',
    "src/serve/s.c": '#include "net/http.h"\n\n#define FAR \\\n    gets(\n\n'
                     'int run(void *unused) {\n    (void)unused;\n    return 0;\n}\n',
    "test/fuzz/json_fuzz.c": '#include "base/a.h"\n',
    "test/fuzz/corpus/json/1": "{}\t \n\n",
    "scripts/bootstrap": "#!/bin/sh\necho ok\n",
    "deps/x.c": "gets(x);\t\n",
}

HELPER = "static int helper(int a) {\n    int b = a;\n    b += 1;\n    b *= %d;\n    return b;\n}\n"
MIRROR = "https://" + "deb.debian." + "org/debian"
BROKEN = {
    "function_length": [{"src/base/b.c": "int f(void)\n{\n" + "    f();\n" * 80 + "}\n"},
                        {"src/base/b.c": "int f(int (*call)(void *),\n      int b) {\n" + "    f();\n" * 70 + "}\n"}],
    "file_length": [{"src/base/b.c": "int a;\n" * 601}, {"src/base/b.h": "#pragma once\n" + "int a;\n" * 150},
                    {"src/base/a_test.c": "int a;\n" * 1001}],
    "line_length": [{"src/base/b.c": "int a" + "a" * 130 + ";\n"}],
    "whitespace": [{"src/base/b.c": "\tint a;\n"}, {"src/base/b.c": "int a; \n"},
                   {"src/base/b.c": "int a;"}, {"src/base/b.c": "int a;\n\n"}],
    "rooms": [{"src/base/b.c": '#include "net/http.h"\n'}, {"src/net/b.c": '#include "engine/client.h"\n'},
              {"src/engine/b.c": '#include "trust/policy.h"\n'}, {"src/serve/b.c": '#include "engine/worker/worker.h"\n'},
              {"src/trust/b.c": '#include "net/http.h"\n'}, {"src/engine/b.c": '#include "engine/worker/worker.h"\n'},
              {"src/serve/b.c": '#include "cli/cli.h"\n'}, {"src/engine/worker/b.c": '#include "net/http.h"\n'}],
    "room_known": [{"src/misc/b.c": "int a;\n"}],
    "llama_headers": [{"src/serve/b.c": "#include <llama.h>\n"}, {"src/engine/b.c": "#include <ggml-backend.h>\n"}],
    "include_style": [{"src/base/b.c": '#include "a.h"\n'}, {"src/base/b.c": '#include "../base/a.h"\n'}],
    "pragma_once": [{"src/base/b.h": "#ifndef B_H\n#define B_H\n#endif\n"}, {"test/b.h": "int a;\n"}],
    "getenv": [{"src/cli/b.c": 'const char *f(void) { return getenv("A"); }\n'}],
    "banned": [{"src/cli/b.c": f"void f(char *a) {{ {name}(a); }}\n"} for name in
               ("strcpy", "strcat", "strncpy", "sprintf", "vsprintf", "gets", "strtok", "alloca", "atoi", "atol", "system",
                "popen", "tmpnam", "mktemp", "rand")],
    "void_call": [{"src/cli/b.c": "void f(void) {\n    (void)write(1, 0, 0);\n}\n"}],
    "unfinished": [{"src/cli/b.c": "// TO" + "DO: later\n"}, {"scripts/run": "#!/bin/sh\n# FIX" + "ME\n"}],
    "machine_path": [{"scripts/run": "cd /" + "work/main\n"}, {"src/cli/b.c": 'const char *p = "/' + 'root/x";\n'},
                     {"scripts/run": "cd /tmp/" + "build-x\n"}],
    "mirror": [{"scripts/run": f"curl {MIRROR}\n"}, {"test/e2e/package-lock.json": '{"resolved": "x"}\n'}],
    "test_beside_code": [{"src/base/b_test.c": "int a;\n"}],
    "fuzz_corpus": [{"test/fuzz/new_fuzz.c": "int a;\n"}, {"src/base/json_fuzz.c": "int a;\n"}],
    "duplicate_helper": [{"src/base/b.c": HELPER % 3, "src/net/c.c": HELPER % 3},
                         {"src/base/b.c": HELPER % 3, "src/net/c.c": HELPER % 4},
                         {"src/base/b.c": "static int same(void) { return 1; }\n"}],
    "copied_body": [{"src/base/b.c": HELPER % 3, "src/net/c.c": (HELPER % 3).replace("helper", "aide")}],
}


def write_tree(root, tree):
    for path, text in tree.items():
        os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
        with open(os.path.join(root, path), "w", encoding="utf-8") as f:
            f.write(text)


def rules_that_speak(tree):
    with tempfile.TemporaryDirectory() as root:
        write_tree(root, tree)
        return {rule for _, _, rule, _ in tidy.check(root)}


def main():
    faults = []
    spoken = rules_that_speak(GOOD)
    if spoken:
        faults.append(f"a good tree was disliked by {sorted(spoken)}")
    all_rules = {rule.__name__[5:] for rule in tidy.FILE_RULES + tidy.TREE_RULES}
    if all_rules != set(BROKEN):
        faults.append(f"rules without an example, or examples without a rule: {sorted(all_rules ^ set(BROKEN))}")
    for rule, trees in BROKEN.items():
        for n, tree in enumerate(trees):
            spoken = rules_that_speak({**GOOD, **tree})
            if spoken != {rule}:
                faults.append(f"{rule}, example {n}: spoke {sorted(spoken)}")
    for fault in faults:
        print(fault)
    print(f"tidy_test: {len(BROKEN)} rules, {sum(map(len, BROKEN.values()))} broken trees, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
"""usage: oracle_test.py NEBULUS LLAMA_SERVER MODELS_DIR small|full

Greedy text of our server equals llama-server's, prompt by prompt, on the same model with the same settings. llama-server computes
each prompt alone and from its beginning (no prefix cache).
"""
import concurrent.futures
import os
import random
import subprocess
import sys
import tempfile

from harness import PATIENCE, Server, check, daemon, end_process, free_port, run_tests, start_process, wait_until

NEBULUS, LLAMA_SERVER, MODELS, MODE = sys.argv[1:5]
FULL = MODE == "full"
CTX, TOKENS = (8192, 48) if FULL else (4096, 24)
THREADS = 1  # two would wait for each other on busy cores
WORDS = ("river stone harbour lantern winter ledger copper signal meadow orbit quiet engine paper thunder garden "
         "window mercury compass velvet anchor marble festival").split()


class LlamaServer(Server):
    def __init__(self, model, log):
        port = free_port()
        super().__init__(port, start_process(
            [LLAMA_SERVER, "--model", model, "--host", "127.0.0.1", "--port", str(port),
             "--ctx-size", str(CTX), "--parallel", "1",
             "--threads", str(THREADS), "--threads-batch", str(THREADS), "--batch-size", "512", "--ubatch-size", "512",
             "--flash-attn", "on", "--cache-type-k", "f16", "--cache-type-v", "f16", "--no-cache-prompt", "--no-webui",
             "--offline"], log))
        wait_until("llama-server answers", self.answers)

    def answers(self):
        check(self.process.poll() is None, f"llama-server ended with {self.process.returncode}")
        try:
            return self.get("/health").status == 200
        except OSError:
            return False


def passage_prompts(count, longest, chance):
    """Texts with a passage in them and, at their end, its beginning."""
    for i in range(count):
        words = [chance.choice(WORDS) for _ in range(10 + i * longest // max(1, count - 1) // 7)]
        text = " ".join(words) + f". Entry {i}: the {chance.choice(WORDS)} was moved by {chance.randrange(1000)} paces to the "
        passage = " ".join(chance.choice(WORDS) + str(chance.randrange(100)) for _ in range(12))
        yield f"{text}{passage}. " + " ".join(words[:8]) + f". And again: {passage[:40]}"


def token_prompts(count, longest, vocabulary, chance):
    for i in range(count):
        yield [chance.randrange(259, vocabulary) for _ in range(1 + i * longest // max(1, count - 1))]


def greedy(server, prompt):
    answer = server.complete(prompt, max_tokens=TOKENS, temperature=0, top_k=1, seed=1, cache_prompt=False, ignore_eos=True)
    check(answer.status == 200, f"{answer.status}: {answer.body[:300]}")
    return answer.text


def compare(model, prompts, asked_together, **settings):
    """Asks llama-server each prompt by itself, ours one by one or from several clients, and compares text by text."""
    path = os.path.join(MODELS, model)
    with tempfile.TemporaryFile() as log:
        theirs = LlamaServer(path, log)
        try:
            expected = [greedy(theirs, p) for p in prompts]
        finally:
            end_process(theirs.process)
    check(len(set(expected)) > len(prompts) // 3, f"the model says too little to compare: {sorted(set(expected))[:5]}")
    with daemon(NEBULUS, path, ctx=CTX, threads=THREADS, chunk=512, kv_type="f16", keep=0, log_level="warn", **settings) as d:
        if asked_together:
            with concurrent.futures.ThreadPoolExecutor(max_workers=5) as clients:
                ours = list(clients.map(lambda p: greedy(d, p), prompts))
        else:
            ours = [greedy(d, p) for p in prompts]
    wrong = [i for i, text in enumerate(expected) if ours[i] != text]
    for i in wrong[:3]:
        print(f"       prompt {i} ({len(prompts[i])} long):\n         theirs {expected[i]!r}\n         ours   {ours[i]!r}")
    check(not wrong, f"{len(wrong)} of {len(prompts)} answers differ from llama-server's")
    print(f"       {model}: {len(prompts)} answers equal, asked {'together' if asked_together else 'one by one'}", flush=True)


def test_recall_model():
    """Asked together: what recall says must not depend on the batch it was computed in."""
    prompts = list(passage_prompts(24 if FULL else 5, 3000 if FULL else 900, random.Random(1)))
    compare("recall.gguf", prompts, True, parallel=4)


def test_random_model():
    """Asked one by one: in a mixed batch the backend adds in another order, and a random model's near ties may turn."""
    prompts = list(token_prompts(40 if FULL else 20, 3000 if FULL else 2000, 512, random.Random(2)))
    compare("random_f32.gguf", prompts, False, parallel=8)


def test_quantized_model():
    """The 100M shape in Q4_0, as in the benchmark; here only where the full set is asked for."""
    path = os.path.join(MODELS, "bench-q4_0.gguf")
    if not os.path.exists(path):
        mkmodel = os.path.join(os.path.dirname(NEBULUS), "mkmodel")
        subprocess.run([mkmodel, "random", path + ".part", "preset=100m", "type=q4_0"], check=True, timeout=PATIENCE)
        os.rename(path + ".part", path)
    compare("bench-q4_0.gguf", list(token_prompts(20, 2000, 32000, random.Random(3))), False, parallel=8)


run_tests([test_recall_model, test_random_model] + ([test_quantized_model] if FULL else []))

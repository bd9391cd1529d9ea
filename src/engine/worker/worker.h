// The worker room's only door: what main.c calls. Nothing outside this folder includes llama.h.
#pragma once

// `nebulus worker`: serves the protocol of engine/protocol.h on the socket that is its file descriptor 3 until the
// daemon closes it. Returns the process's exit code.
int worker_main(int argc, char **argv);

// `nebulus worker --inspect FILE`: prints one JSON object about a GGUF file (architecture, shape, tokenizer, chat
// template kind, or
// {"error":..}) to stdout, reading metadata only. For import, show and doctor. `nebulus worker --devices` prints the
// backends and devices that libllama can use here.

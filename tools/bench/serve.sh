#!/bin/sh
# usage: tools/bench/serve.sh BUILD_DIR [--quick] [--threads N]
# Our server against llama-server on a random model of the 100M class in Q4_0. The last line is one JSON object.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd)
shift
die() { echo "bench-serve: $*" >&2; exit 1; }

peer=$top/deps/llama/usr/bin/llama-server
[ -x "$peer" ] || peer=$(command -v llama-server) || die "llama-server is missing: run scripts/bootstrap"
tool() { find "$build" -name "$1" -type f -perm -u+x | head -n 1; }
bench=$(tool bench_serve)
maker=$(tool mkmodel)
if [ ! -x "$bench" ] || [ ! -x "$maker" ]; then die "build first: cmake --build $build"; fi

model=$build/models/bench-q4_0.gguf
mkdir -p "$build/models"
if [ ! -s "$model" ]; then
    "$maker" random "$model.part" preset=100m type=q4_0 >/dev/null
    mv "$model.part" "$model"
fi
home=$(mktemp -d "$build/bench-home-XXXXXX")
trap 'rm -rf "$home"' EXIT
trap 'exit 130' INT TERM
"$bench" --nebulus "$build/nebulus" --llama-server "$peer" --model "$model" --home "$home" --threads "$(nproc)" "$@"

#!/usr/bin/env bash
# What BUILD.md's table wants from a GPU: updates, layers, loop, and a profile of the largest costs.
#
#   bash launch/benchmark_gpu.sh [OUT]     # lines of JSON go to OUT/, benchmarks/ if not given
#
# INTERPRETER names a Python that has the packages; otherwise .venv is set up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${INTERPRETER:-}" ]; then
    bash launch/setup_env.sh envs,dev,cuda
    INTERPRETER=.venv/bin/python
fi
out=${1:-benchmarks}
mkdir -p "$out"

measure() { # NAME ARGUMENTS...: the table on the screen, the last line to OUT/NAME.json
    local name=$1
    shift
    echo "== $*"
    "$INTERPRETER" -m experiments.benchmark "$@" | tee "$out/$name.txt" | head -n -1
    tail -n 1 "$out/$name.txt" >"$out/$name.json"
}

released=(--preset=released --batch=50 --length=50 --dtype=bfloat16)
measure suite suite --dtype=bfloat16 --chunk=100
measure profile profile "${released[@]}" --chunk=10
measure unroll update "${released[@]}" --chunk=100 --against=network.unroll=5
measure layers layers --preset=released --dtype=bfloat16 --images=2500
measure loop loop --preset=small --updates=300 --workers=2
echo "== all of it"
"$INTERPRETER" -m experiments.benchmarks.gpu_table "$out" | tee "$out/table.md"

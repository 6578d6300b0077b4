#!/usr/bin/env bash
# What BUILD.md's table wants from a GPU, within nine minutes: updates beside what bounds them, the
# gain of several seeds, the loop, and the largest costs of a profile.
#
#   bash launch/benchmark_gpu.sh [OUT]     # benchmarks/ if not given
#
# INTERPRETER names a Python that has the packages; otherwise .venv is set up. MINUTES is the time
# for all of it, without that. What is not reached is named in the table. A second call goes on:
# compiled programs are kept, and later lines of JSON take the place of earlier ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${INTERPRETER:-}" ]; then
    bash launch/setup_env.sh envs,dev,cuda
    INTERPRETER=.venv/bin/python
fi
out=${1:-benchmarks}
mkdir -p "$out"
end=$(($(date +%s) + 60 * ${MINUTES:-9} - 15))

run() { # MODULE ARGUMENTS...: until the time is over
    local left=$((end - $(date +%s)))
    echo "== $* (${left} s left)" >&2
    [ "$left" -gt 0 ] || return 0
    timeout "$left" "$INTERPRETER" -m "$@" || echo "== ended with $?" >&2
}

run experiments.benchmarks.gpu "$out/rows.jsonl"
run experiments.benchmarks.gpu "$out/rows.jsonl" --flags="no command buffers"
run experiments.benchmark profile --preset=released --dtype=bfloat16 | tail -n 1 >"$out/profile.json"
run experiments.benchmark loop --preset=small --updates=300 --workers=2 | tail -n 1 >"$out/loop.json"
run experiments.benchmark layers --preset=released --dtype=bfloat16 --images=2500 |
    tail -n 1 >"$out/layers.json"
echo "== all of it"
"$INTERPRETER" -m experiments.benchmarks.gpu_table "$out" | tee "$out/table.md"

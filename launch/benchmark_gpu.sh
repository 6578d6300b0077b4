#!/usr/bin/env bash
# What BUILD.md's table wants from a GPU, within nine minutes: updates beside what bounds them, the
# gain of several seeds, env_steps of the planar suite, the loop, and the largest costs of a profile.
#
#   bash launch/benchmark_gpu.sh [OUT]     # benchmarks/ if not given
#
# INTERPRETER names a Python that has the packages; otherwise .venv is set up. MINUTES is the time
# for all of it, without that. What is not reached is named in the table. A second call with the
# same OUT measures what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${INTERPRETER:-}" ]; then
    bash launch/setup_env.sh +train,cuda || [ $? -eq 3 ] # nothing here needs to render
    INTERPRETER=.venv/bin/python
fi
out=${1:-benchmarks}
mkdir -p "$out"
end=$(($(date +%s) + 60 * ${MINUTES:-9}))

run() { # SPARE MODULE ARGUMENTS...: until all but SPARE seconds are over
    local left=$((end - $(date +%s) - $1))
    shift
    echo "== $* (${left} s)" >&2
    [ "$left" -gt 0 ] || return 0
    timeout -k 5 "$left" "$INTERPRETER" -m "$@" || echo "== ended with $?" >&2
}

keep() { # NAME: the last line of the input becomes OUT/NAME, if it is an object of JSON
    tail -n 1 >"$out/$1.new"
    if [ "$(head -c 1 "$out/$1.new")" = "{" ]; then mv "$out/$1.new" "$out/$1"; else rm "$out/$1.new"; fi
}

run 320 experiments.benchmarks.gpu "$out/rows.jsonl"
[ -e "$out/playing.json" ] || run 265 experiments.benchmarks.playing | keep playing.json
[ -e "$out/loop.json" ] ||
    run 180 experiments.benchmark loop --preset=planar --source=planar/reach \
        --target=planar/reach_downhill --updates=300 | keep loop.json
[ -e "$out/profile.json" ] || XLA_FLAGS="--xla_gpu_enable_command_buffer= ${XLA_FLAGS:-}" \
    run 110 experiments.benchmark profile --preset=released --batch=50 --length=50 --dtype=bfloat16 |
    keep profile.json # a command buffer hides the names of its operations
run 60 experiments.benchmarks.gpu "$out/rows.jsonl" --flags="no command buffers"
run 15 experiments.benchmarks.gpu "$out/rows.jsonl" --flags="loops in command buffers"
run 15 experiments.benchmarks.gpu "$out/rows.jsonl" # rows that the first call did not reach
echo "== all of it"
"$INTERPRETER" -m experiments.benchmarks.gpu_table "$out" | tee "$out/table.md"

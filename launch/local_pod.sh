#!/usr/bin/env bash
# One run over N processes of this machine, on the CPU. This is a pod for trying things out:
# what works here works on hosts that are connected by a network.
#
#   bash launch/local_pod.sh N -- TRAIN FLAGS
#
# From an empty machine to a finished run, four steps:
#
#   bash launch/setup_env.sh
#   .venv/bin/python -m experiments.collect --task=planar/reach_desk --policy=random \
#       --episodes=40 --out=data/reach_desk
#   bash launch/local_pod.sh 2 -- --config=experiments/configs/planar.py:reach_desk \
#       --config.data=data/reach_desk --workdir=runs/pod
#   cat runs/pod/summary.json
#
# Paths in the flags are relative to the repository. Each line of output begins with the index of its
# process, [0] or [1]. SIGTERM or Ctrl-C goes to all processes: they save and end at the same update,
# and the same command goes on.
#
# Exit status: 0 when all finished. The first status that is neither 0, 143 nor 130 when one
# failed; its log lines say why. Otherwise 143 (stopped by SIGTERM) or 130 (by Ctrl-C).
#
# INTERPRETER names a Python that has the packages, .venv/bin/python if not given. JAX_PLATFORMS is
# cpu if not given: one process already uses all accelerators of a machine. JAX_NUM_CPU_DEVICES, the
# cores that each process takes as devices, is 1 if not given.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'local_pod: %s\n' "$*" >&2; exit 1; }

[[ $# -ge 2 && $1 =~ ^[1-9][0-9]*$ && $2 == -- ]] \
    || die "write the number of processes, --, and the flags of experiments.train."
count=$1
shift 2
for flag in "$@"; do
    [[ $flag != --hosts && $flag != --hosts=* ]] || die "--hosts is chosen here; leave it out."
done
python=${INTERPRETER:-.venv/bin/python}
command -v "$python" >/dev/null || die "there is no $python; run: bash launch/setup_env.sh"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}

listen='import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
port=$("$python" -c "$listen")
pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT

asked='' interrupted=0 hosts=() printers=()
pass_on() { # SIGNAL
    asked=$1 interrupted=1
    kill -s "$1" "${hosts[@]}" 2>/dev/null || true # some may have ended
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

await() { # PROCESS: waits to its end, and returns its exit status
    local status
    while true; do
        interrupted=0 status=0
        wait "$1" || status=$?
        ((interrupted)) || return "$status"
    done
}

# Each process gets a group of its own. A terminal's Ctrl-C then reaches this script alone, which
# passes it on, so that no process gets it twice.
set -m
for ((index = 0; index < count; index++)); do
    mkfifo "$pipes/$index"
    sed -u "s/^/[$index] /" <"$pipes/$index" &
    printers+=($!)
    "$python" -m experiments.train "$@" --hosts="127.0.0.1:$port,$count,$index" \
        </dev/null >"$pipes/$index" 2>&1 &
    hosts+=($!)
    [[ -z $asked ]] || kill -s "$asked" $!
    printf 'host %d is process %d\n' "$index" $! >&2
done

failed=0 stopped=0
for process in "${hosts[@]}"; do
    status=0
    await "$process" || status=$?
    case $status in
    0) ;;
    130 | 143) ((stopped == 143)) || stopped=$status ;;
    *) ((failed)) || failed=$status ;;
    esac
done
for process in "${printers[@]}"; do await "$process" || true; done
((failed)) && exit "$failed"
exit "$stopped"

#!/usr/bin/env bash
# Runs one line of a file of commands. The other launchers call it on each host.
#
#   bash launch/run_line.sh FILE LINE [FLAGS]   # LINE counts from 1; FLAGS follow the command
#
# `experiments.study commands STUDY --root=DIR` writes such a file, one run a line. A single run is
# a file of one line. `python` in a line is the one of .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'run_line: %s\n' "$*" >&2; exit 1; }

[[ $# -ge 2 && $2 =~ ^[1-9][0-9]*$ ]] || die "write a file of commands and the number of a line."
file=$1 number=$2
shift 2
path=$file
[[ $file == /* ]] || path=$OLDPWD/$file
[[ -f $path ]] || die "there is no file $file."
line=$(sed -n "${number}p" "$path")
[[ $line =~ [^[:space:]] ]] || die "$file has no line $number, or an empty one."
[[ -x .venv/bin/python ]] || die "there is no .venv; run: bash launch/setup_env.sh"
export PATH="$PWD/.venv/bin:$PATH"
if [[ $line == *"-m experiments.collect "* ]]; then # one process collects a dataset
    [[ ${SLURM_NNODES:-1} == 1 ]] || die "a dataset is collected on one node: sbatch --nodes=1."
    set --
fi
# The command takes the place of this shell, so that signals reach it and no one else.
eval "exec $line \"\$@\""

#!/usr/bin/env bash
# The speed of an update now against another commit: interleaved measurements.
#
#   bash launch/compare_commits.sh 3aad25f --preset=released --batch=16 --length=16 --chunk=2
#
# Flags after the commit go to `experiments.benchmark update`. ROUNDS (3) measurements of each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'compare_commits: %s\n' "$*" >&2; exit 1; }

[[ $# -ge 1 ]] || die "write the other commit, then flags of experiments.benchmark update."
commit=$1
shift
git rev-parse --quiet --verify "$commit^{commit}" >/dev/null || die "there is no commit $commit."
bash launch/setup_env.sh
python=$PWD/.venv/bin/python
there=$(mktemp -d)
trap 'git worktree remove --force "$there/other"; rm -rf "$there"' EXIT
git worktree add --quiet --detach "$there/other" "$commit"

measure() { # FOLDER NAME: appends the seconds of one measurement to NAME
    (cd "$1" && "$python" -m experiments.benchmark update --repeats=3 "${@:3}") | tail -n 1 \
        | "$python" -c 'import json, sys; print(json.load(sys.stdin)["seconds"])' \
        | tee -a "$there/$2" | sed "s/^/$2: /"
}

for _ in $(seq "${ROUNDS:-3}"); do
    measure "$there/other" before "$@"
    measure . now "$@"
done
"$python" - "$there" <<'PYTHON'
import statistics
import sys
from pathlib import Path

before, now = (
    statistics.median(map(float, Path(sys.argv[1], name).read_text().split()))
    for name in ("before", "now")
)
print(f"medians: before {before:.4g} s, now {now:.4g} s, ratio {now / before:.3f}")
PYTHON

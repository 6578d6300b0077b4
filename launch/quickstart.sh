#!/usr/bin/env bash
# From nothing to pictures: set-up, a small offline dataset of walker_downhill collected at random,
# every phase of CoWorld's curriculum with walker_walk as the source, evaluation.
#
#   bash launch/quickstart.sh
#
# Safe to run again: a finished dataset is kept, an interrupted training run resumes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data=data/quickstart
workdir=runs/quickstart

bash launch/setup_env.sh

if [[ -f $data/dataset.json ]]; then
    echo "quickstart: the dataset in $data is kept"
else
    .venv/bin/python -m experiments.collect --task=dmc/walker_downhill --policy=random \
        --episodes=10 --profile=fast --seed=0 --out="$data"
fi

.venv/bin/python -m experiments.train --config=experiments/configs/dmc.py:quickstart \
    --config.source=dmc/walker_walk --config.target=dmc/walker_downhill \
    --config.data="$data" --workdir="$workdir"

echo "quickstart: done; summary in $workdir/summary.json, pictures:"
find "$workdir" \( -name '*.png' -o -name '*.gif' \) | LC_ALL=C sort | sed 's/^/  /'

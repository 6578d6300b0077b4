#!/usr/bin/env bash
# From nothing to pictures: set-up, a small offline dataset, every phase of CoWorld's curriculum,
# evaluation.
#
#   bash launch/quickstart.sh         # walker_downhill helped by walker_walk, in MuJoCo
#   bash launch/quickstart.sh planar  # a planar pair, which needs no simulator and no graphics
#
# On other systems than Linux, and where nothing renders without a screen, the first shows the
# planar pair too, and says so.
# Safe to run again: a finished dataset is kept, an interrupted training run resumes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pair=${1:-walker}
if [[ $pair == walker && $(uname) != Linux ]]; then
    echo "quickstart: the simulators are set up on Linux alone, so the planar pair is shown instead"
    pair=planar
fi
case $pair in
walker)
    bash launch/setup_env.sh +envs,dev || {
        [[ $? -eq 3 ]] || exit 1
        echo "quickstart: MuJoCo cannot draw here, so the planar pair is shown instead"
        pair=planar
    }
    ;;
planar)
    bash launch/setup_env.sh +dev || [[ $? -eq 3 ]]
    ;;
*)
    echo "quickstart: unknown pair $pair; use walker or planar" >&2
    exit 1
    ;;
esac

case $pair in
walker)
    data=data/quickstart workdir=runs/quickstart
    collect=(--task=dmc/walker_downhill --episodes=10 --profile=fast)
    train=(--config=experiments/configs/dmc.py:quickstart
        --config.source=dmc/walker_walk --config.target=dmc/walker_downhill)
    ;;
planar)
    data=data/quickstart_planar workdir=runs/quickstart_planar
    collect=(--task=planar/reach_desk --episodes=40)
    train=(--config=experiments/configs/planar.py:reach_desk
        --config.schedule.pretrain_updates=600 --config.schedule.warmup_target_updates=300
        --config.schedule.warmup_source_updates=100 --config.schedule.rounds=2
        --config.schedule.target_updates=300 --config.schedule.source_updates=100
        --config.run.eval_every=1000 --config.run.checkpoint_every=1000
        --config.run.eval_episodes=4)
    ;;
esac

if [[ -f $data/dataset.json ]]; then
    echo "quickstart: the dataset in $data is kept"
else
    .venv/bin/python -m experiments.collect "${collect[@]}" --policy=random --seed=0 --out="$data"
fi

.venv/bin/python -m experiments.train "${train[@]}" --config.data="$data" --workdir="$workdir"

echo "quickstart: done; summary in $workdir/summary.json, pictures:"
find "$workdir" \( -name '*.png' -o -name '*.gif' \) | LC_ALL=C sort | sed 's/^/  /'

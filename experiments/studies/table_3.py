"""Table 3: DeepMind Control, medium-replay, six pairs."""

from experiments.studies.table_2 import BASELINES
from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

TASKS = (
    "walker_downhill",
    "walker_uphill",
    "walker_nofoot",
    "cheetah_downhill",
    "cheetah_uphill",
    "cheetah_nopaw",
)

STUDY = Study(
    title="Table 3: DeepMind Control from medium-replay data",
    question=(
        "How does CoWorld compare with the baselines where the target differs in its dynamics?"
    ),
    negative=NO_HIGHER_MEAN,
    arms=(
        *BASELINES,
        Arm("LOMPO Finetune", "lompo_finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("dmc", name) for name in TASKS),
    seeds=3,
    size="paper",
    table="table_3",
    baseline="CoWorld",
)

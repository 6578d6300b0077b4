"""Table 9: DeepMind Control, medium-expert, six pairs."""

from experiments.studies.table_3 import TASKS
from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

STUDY = Study(
    title="Table 9: DeepMind Control from medium-expert data",
    question="Does CoWorld beat the other methods on DeepMind Control, from medium-expert data?",
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("Offline DV2", "offline_dv2"),
        Arm("DrQ+BC", "drq_bc"),
        Arm("LOMPO", "lompo"),
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(Pair("dmc", f"{name}-expert", until="expert") for name in TASKS),
    seeds=3,
    size="paper",
    table="table_9",
    baseline="CoWorld",
)

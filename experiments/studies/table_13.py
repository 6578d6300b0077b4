"""Table 13: which of several sources is chosen."""

from experiments.studies.figure_4 import TASKS as ROBODESK
from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Table 13: the source that is chosen",
    question=(
        "Which source does CoWorld choose, and how often? Whether it is the best single one is the "
        "question of figure_3, which has an arm for each source."
    ),
    refuted="the source that is chosen most is not the one that Table 13 names.",
    arms=(Arm("CoWorld (Multi-Source)", "coworld", ending="-multi"),),
    pairs=(
        *(Pair("metaworld", name) for name in TASKS),
        *(Pair("robodesk", name) for name in ROBODESK),
    ),
    seeds=3,
    size="paper",
    table="table_13",
)

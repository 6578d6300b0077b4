"""Table 13: which of several sources is chosen."""

from experiments.studies.figure_4 import PAIRS as ROBODESK
from experiments.studies.table_2 import TASKS
from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Table 13: the source that is chosen",
    question=(
        "Which source does CoWorld choose, and how often? Whether it is the best single one is the "
        "question of figure_3, which has an arm for each source."
    ),
    negative=(
        "on more than half of the pairs, the source with the greatest share of the updates is not"
        " the one that Table 13 names."
    ),
    arms=(Arm("CoWorld (Multi-Source)", "coworld", ending="-multi"),),
    pairs=(*(Pair("metaworld", name) for name in TASKS), *ROBODESK),
    seeds=3,
    size="paper",
    table="table_13",
)

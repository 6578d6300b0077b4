"""Which coupling helps, and which one does harm, on the planar suite?"""

from experiments.studies.figure_5a import ABLATIONS
from experiments.studies.planar import COWORLD, offline_pair
from experiments.studying.study import Study

STUDY = Study(
    title="Ablations on the planar suite",
    question=(
        "Which coupling lowers the return on reach_desk? planar_transfer found CoWorld's largest "
        "effect there, in units of the score, and it was a loss. This pair was chosen when it had "
        "the seeds 0 to 7, so that this study takes the seeds 8 to 27. Its CoWorld runs of the "
        "seeds 8 to 19 are also in planar_transfer. Four comparisons are made, each at 95 %: one "
        "interval of four lies above 0 by chance in up to 10 % of such studies."
    ),
    refuted=(
        "no coupling does harm: without each of them, the interval of the difference to CoWorld "
        "includes 0 or lies below it."
    ),
    arms=tuple(arm._replace(settings=(*arm.settings, *COWORLD)) for arm in ABLATIONS),
    pairs=(offline_pair("reach_desk"),),
    seeds=20,
    first_seed=8,
    size="planar",
    minutes=8.0,
    hours=8.0,
    baseline="CoWorld",
    found=(
        "What was found with 12 or 13 of 20 seeds: without A the return is higher, by 2.4 "
        "[0.4, 4.4]. Without B or C the intervals of the difference include 0. Without the max of "
        "C the critic's values fall far below the returns, and the return is lower. The other "
        "seeds may change this: an interval that just leaves out 0 often does not stay so.",
        "Limit: the data of reach_desk are 13 episodes of random play, see planar_transfer.",
    ),
)

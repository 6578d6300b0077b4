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
        "seeds 8 to 19 are also in planar_transfer. Four comparisons are made, each at 95 %: at "
        "least one interval lies above 0 by chance in up to 10 % of such studies."
    ),
    negative=(
        "no coupling is shown to do harm. For each coupling, the difference of the arm without it "
        "to CoWorld has an interval that includes 0 or lies below it."
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
        "What was found with 20 seeds: coupling A does harm here. Without it the return is 6.79 "
        "in place of 4.22, a difference of 2.57 [1.21, 3.93]. At 98.75 %, which allows for four "
        "comparisons, the interval leaves out 0 too. dreamer, which has no couplings, reaches "
        "7.49 (planar_transfer). Without B or C the intervals of the difference include 0. "
        "Without the max of C the critic's values fall far below the returns, and the return is "
        "lower: the max is needed.",
        "A possible cause: A pulls the softmax of the target's embeddings to that of the "
        "source's encoder. Their KL ends at 0.03 nats; without A it is 0.69. With A, the "
        "target's world model fits its training batches worse. Half the squared error of the "
        "rewards is 0.00025 with A and 0.00016 without; that of the images is 9.98 and 9.63. "
        "This may be because the embeddings hold less of a frame. Without B, or C, both errors "
        "are as in CoWorld. Against it: the reward error of finetune is lower than CoWorld's "
        "(planar_transfer), and so is its return. The source's encoder has seen another palette, "
        "camera and zoom. Whether a source that has seen the target's look would do less harm is "
        "not known. planar_beta tested a tenth of A's weight with other seeds; a higher return is "
        "not shown.",
        "Limits: one pair, whose data are 13 episodes of random play (see planar_transfer), and "
        "short runs.",
    ),
)

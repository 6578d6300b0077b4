"""Does CoWorld do better where coupling A is weaker?"""

from experiments.studies.planar import COWORLD, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="The scale of the alignment on the planar suite",
    question=(
        "Does CoWorld reach a higher return on reach_desk with beta_2 0.15 than with the paper's "
        "1.5? planar_ablation found that coupling A does harm there, with the seeds 8 to 27. With "
        "A the target's world model fits its training batches worse. A tenth of the weight may "
        "keep the embeddings near those of the source and leave room for what a frame shows. This "
        "study takes the seeds 28 to 47, which none before it has used."
    ),
    negative=(
        "the interval of the difference of beta 0.15 to CoWorld includes 0 or lies below it."
    ),
    arms=(
        Arm("CoWorld", "coworld", COWORLD),
        Arm("beta 0.15", "coworld", (*COWORLD, "coupling.alignment_scale=0.15")),
    ),
    pairs=(offline_pair("reach_desk"),),
    seeds=20,
    first_seed=28,
    size="planar",
    minutes=5.0,
    hours=2.0,
    baseline="CoWorld",
    found=(
        "What was found with 20 seeds: a negative result. With beta_2 0.15 the return is 4.96 in "
        "place of 4.41. The difference is 0.56 [-1.38, 2.49], and its interval includes 0. A "
        "tenth of the weight may remove a part of the harm; 20 seeds do not show it. In "
        "planar_ablation, the return without A was higher by 2.57 [1.21, 3.93].",
        "The world model fits its training batches a little better with the smaller weight. Half "
        "the squared error of the rewards is 0.000204 in place of 0.000249 (0.000159 without A in "
        "planar_ablation); that of the images is 9.89 in place of 10.0 (9.63 without A). The KL of "
        "the softmaxes is 0.15 nats in place of 0.03 (0.69 without A). So a tenth of the weight "
        "still does most of the alignment.",
        "Limits: one pair, whose data are 13 episodes of random play, other seeds than those of "
        "planar_ablation, and short runs.",
    ),
)

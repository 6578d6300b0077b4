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
)

"""Does CoWorld beat what it is made of, on one pair of each kind of gap?"""

from experiments.studies.planar import COWORLD, DREAMER, FINETUNE, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="Transfer on the planar suite",
    question=(
        "With the same offline data, does CoWorld reach a higher return in the target than an "
        "offline DreamerV2 without couplings, and than fine-tuning a source agent? One pair of "
        "each kind of gap: dynamics (reach_downhill), task (arm), look (reach_desk)."
    ),
    refuted=(
        "the interval of the probability of improvement of coworld over dreamer includes 0.5 or "
        "lies below it."
    ),
    arms=(
        Arm("coworld", "coworld", COWORLD),
        Arm("dreamer", "dreamer", DREAMER),
        Arm("finetune", "finetune", FINETUNE),
        Arm("offline_dv2", "offline_dv2", ("model_updates=2000", "updates=1500"), seeds=5),
        Arm("drq_bc", "drq_bc", seeds=5),
        Arm("bc", "bc", seeds=5),
    ),
    pairs=tuple(offline_pair(name) for name in ("reach_downhill", "arm", "reach_desk")),
    seeds=20,
    size="planar",
    minutes=6.0,
    baseline="dreamer",
)

"""Does CoWorld beat an offline DreamerV2? One pair of each kind of gap."""

from experiments.studies.planar import COWORLD, DREAMER, FINETUNE, OFFLINE_DV2, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="Transfer on the planar suite",
    question=(
        "With the same offline data, does CoWorld reach a higher return in the target than an "
        "offline DreamerV2 without couplings? One pair of each kind of gap: dynamics "
        "(reach_downhill), task (arm), look (reach_desk). Fine-tuning a source agent and three "
        "offline methods stand beside them."
    ),
    refuted=(
        "the interval of the probability of improvement of coworld over dreamer includes 0.5 or "
        "lies below it."
    ),
    arms=(
        Arm("coworld", "coworld", COWORLD),
        Arm("dreamer", "dreamer", DREAMER),
        Arm("finetune", "finetune", FINETUNE),
        Arm("offline_dv2", "offline_dv2", OFFLINE_DV2, seeds=10),
        Arm("drq_bc", "drq_bc", seeds=10),
        Arm("bc", "bc", seeds=10),
    ),
    pairs=tuple(offline_pair(name) for name in ("reach_downhill", "arm", "reach_desk")),
    seeds=20,
    size="planar",
    minutes=6.0,
    baseline="dreamer",
)

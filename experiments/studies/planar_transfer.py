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
    hours=12.0,
    baseline="dreamer",
    found=(
        "What was found so far: the couplings do not raise the return, and on reach_desk they "
        "lower it. With couplings the target's values v_T are lower on all three pairs. Coupling C "
        "pulls them down where they lie above v_S, with the strength α = 2 in units of reward, "
        "whatever the scale of the rewards is; those of reach_desk are a tenth of its source's. "
        "planar_ablation asks which coupling does the harm. Fine-tuning is far better on "
        "reach_downhill, where the scene and the task are those of the source, and worse on "
        "reach_desk.",
        "Limits: the data end where an evaluation reaches a third of the reference. On arm and "
        "reach_desk that third (27.7 and 2.93) is hardly more than random play (21.5 and 2.8), so "
        "their datasets hold few episodes, and most of them are random. On arm no method gets far. "
        "The runs are short, and their settings were fixed before the first of them.",
    ),
)

"""Does each method learn from a medium-expert dataset?

R3M's own weights are a file of the user's. Here ``r3m_bc`` stands on a ResNet-18 with random
weights, which ``python tests/weights.py`` writes: it shows that the policy learns from embeddings,
and says nothing about R3M.
"""

from experiments.studies.planar import COWORLD, DREAMER, FINETUNE, OFFLINE_DV2, offline_pair
from experiments.studying.study import Arm, Study

_RANDOM_R3M = ("weights=.cache/r3m_18.pt", "run.embeddings=phase", "run.eval_every=2000")

STUDY = Study(
    title="Every method on one planar pair",
    question=(
        "Does each method, trained on a medium-expert dataset of planar/reach_downhill, earn more "
        "there than random play? The margin, set before the first run: a quarter of the way from "
        "random play to the scripted controller, a return of 16. CoWorld, dreamer, finetune and "
        "offline_dv2 have the lengths of planar_transfer, the other methods those of their size."
    ),
    negative=(
        "a method whose mean over seeds is below 16. Such a method is looked into, and what is "
        "found is written here."
    ),
    arms=(
        Arm("offline_dv2", "offline_dv2", OFFLINE_DV2),
        Arm("drq_bc", "drq_bc"),
        Arm("cql", "cql"),
        Arm("bc", "bc"),
        Arm("curl", "curl"),
        Arm("r3m_bc on random weights", "r3m_bc", _RANDOM_R3M),
        Arm("lompo", "lompo"),
        Arm("lompo_finetune", "lompo_finetune"),
        Arm("finetune", "finetune", FINETUNE),
        Arm("multitask", "multitask"),
        Arm("coworld", "coworld", COWORLD),
        Arm("dreamer", "dreamer", DREAMER),
    ),
    pairs=(offline_pair("reach_downhill", until="expert"),),
    seeds=3,
    size="planar",
    minutes=8.0,
    hours=6.0,
    baseline="bc",
    found=(
        "What was found with 3 seeds: every method has a mean return above 16, as was asked. For "
        "CoWorld this is not certain: its mean is 32 [-58, 122], and one of its seeds stays at "
        "random play (-8, 61 and 45). The intervals of all other methods lie above 16.",
        "The highest means are those of finetune (92), multitask (87) and curl (86). curl and "
        "finetune are certainly higher than bc, by 22 [15, 29] and 28 [7, 49]; cql is lower, by 33 "
        "[11, 55]. At the end cql's values lie 107 [48, 166] below the return that its episodes "
        "pay. The mean of CoWorld is lower than that of an offline DreamerV2 (dreamer, 66 "
        "[23, 108]), but the intervals overlap.",
        "Limits: one pair, 3 seeds that share one dataset (467 episodes with the mean return 44), "
        "short runs of small networks. With one pair the interquartile mean says no more than the "
        "return. finetune, multitask, lompo_finetune and CoWorld also use a simulator of the "
        "source. The wall times in the JSON file include pauses of the machine.",
    ),
)

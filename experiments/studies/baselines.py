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
)

"""Does each method learn from a medium-expert dataset?

R3M's own weights are a file of the user's. Here ``r3m_bc`` stands on a ResNet-18 with random
weights, which ``python tests/weights.py`` writes: it shows that the policy learns from embeddings,
and says nothing about R3M.
"""

from experiments.studies.planar import offline_pair
from experiments.studying.study import Arm, Study

# The agents of DreamerV2 as the size `planar` had them when these runs began; it is smaller now.
_WIDE = ("network.depth=6", "learning.batch=16")
_RANDOM_R3M = ("weights=.cache/r3m_18.pt", "run.embeddings=phase", "run.eval_every=2000")

STUDY = Study(
    title="Every method on one planar pair",
    question=(
        "Does each method, trained on a medium-expert dataset of planar/reach_downhill, earn more "
        "there than random play? The margin, set before the first run: a quarter of the way from "
        "random play to the scripted controller, a return of 16. The agents of DreamerV2 have "
        "the depth 6 and the batch 16 that size planar had when the first runs were made. So had "
        "the agent that collected the dataset 43661b91; a new collection uses the present size."
    ),
    negative=(
        "a method whose mean over seeds is below 16. Such a method is looked into, and what is "
        "found is written here."
    ),
    arms=(
        Arm("offline_dv2", "offline_dv2"),
        Arm("drq_bc", "drq_bc"),
        Arm("cql", "cql"),
        Arm("bc", "bc"),
        Arm("curl", "curl"),
        Arm("r3m_bc on random weights", "r3m_bc", _RANDOM_R3M),
        Arm("lompo", "lompo"),
        Arm("lompo_finetune", "lompo_finetune", ("online.network.depth=6",)),
        Arm("finetune", "finetune", _WIDE),
        Arm("multitask", "multitask", _WIDE),
        Arm("coworld", "coworld", _WIDE),
        Arm("dreamer", "dreamer", ("domain=target", "updates=4000", "model_updates=1000", *_WIDE)),
    ),
    pairs=(offline_pair("reach_downhill", until="expert"),),
    seeds=3,
    size="planar",
    minutes=20.0,
    baseline="bc",
)

"""Does each method learn from a medium-expert dataset?"""

from experiments.studies.planar import offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="Every method on one planar pair",
    question=(
        "Does each method, trained on a medium-expert dataset of planar/reach_downhill, earn more "
        "there than random play? The margin, set before the first run: a quarter of the way from "
        "random play to the scripted controller, a return of 16."
    ),
    refuted=(
        "a method whose mean over seeds is below 16. Such a method is looked into, and what is "
        "found is written here."
    ),
    arms=(
        Arm("offline_dv2", "offline_dv2"),
        Arm("drq_bc", "drq_bc"),
        Arm("cql", "cql"),
        Arm("bc", "bc"),
        Arm("curl", "curl"),
        Arm("lompo", "lompo"),
        Arm("lompo_finetune", "lompo_finetune"),
        Arm("finetune", "finetune"),
        Arm("multitask", "multitask"),
        Arm("coworld", "coworld"),
        Arm("dreamer", "dreamer", ("domain=target", "updates=4000", "model_updates=1000")),
    ),
    pairs=(offline_pair("reach_downhill", until="expert"),),
    seeds=3,
    size="planar",
    minutes=20.0,
    baseline="bc",
)

"""Does CoWorld do better where coupling C is as weak as in the paper's domains?"""

from experiments.studies.planar import COWORLD, DREAMER, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="The scale of the value constraint on the planar suite",
    question=(
        "Does CoWorld reach a higher return with alpha 0.03 than with alpha 2? Coupling C lowers a "
        "value with the strength alpha, in units of reward. The paper's alpha is small beside the "
        "greatest possible value: 2 of 1,000 in Meta-World, 1 of 200 in DeepMind Control. The size "
        "planar takes Meta-World's alpha, 2. Its greatest value is 20 on reach_downhill and 2 on "
        "reach_desk, so that alpha is 10 % and 100 % of it. With 0.03 it is 0.15 % and 1.5 %. The "
        "question was asked when planar_transfer had the seeds 0 to 7, so that this study takes "
        "the seeds 8 to 27. Its runs of CoWorld and dreamer with the seeds 8 to 19 are also there."
    ),
    negative=(
        "the interval of the probability of improvement of alpha 0.03 over CoWorld includes 0.5 or "
        "lies below it."
    ),
    arms=(
        Arm("CoWorld", "coworld", COWORLD),
        Arm("alpha 0.03", "coworld", (*COWORLD, "coupling.value_constraint_scale=0.03")),
        Arm("dreamer", "dreamer", DREAMER),
    ),
    pairs=(offline_pair("reach_desk"), offline_pair("reach_downhill")),
    seeds=20,
    first_seed=8,
    size="planar",
    minutes=3.0,
    hours=3.0,
    baseline="CoWorld",
)

"""Does CoWorld do better where coupling C is as weak as in the paper's domains?"""

from experiments.studies.planar import COWORLD, DREAMER, offline_pair
from experiments.studying.study import Arm, Study

STUDY = Study(
    title="The scale of the value constraint on the planar suite",
    question=(
        "Coupling C pulls a value down with the strength alpha, in units of reward. The paper's "
        "alpha is 0.2 to 0.5 % of the greatest possible value: 2 of 10 / (1 - 0.99) in "
        "Meta-World, 1 of 2 / (1 - 0.99) in DeepMind Control. The size planar has Meta-World's 2, "
        "but a greatest value of 1 / (1 - 0.95) on reach_downhill and of a tenth of that on "
        "reach_desk: 10 and 100 %. Does CoWorld reach a higher return with 0.03, which is 0.15 "
        "and 1.5 %?"
    ),
    refuted=(
        "the interval of the probability of improvement of alpha 0.03 over alpha 2 includes 0.5 or "
        "lies below it."
    ),
    arms=(
        Arm("alpha 2", "coworld", COWORLD),
        Arm("alpha 0.03", "coworld", (*COWORLD, "coupling.value_constraint_scale=0.03")),
        Arm("dreamer", "dreamer", DREAMER),
    ),
    pairs=(offline_pair("reach_desk"), offline_pair("reach_downhill")),
    seeds=20,
    size="planar",
    minutes=3.0,
    baseline="alpha 2",
)

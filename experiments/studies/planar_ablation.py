"""Which coupling helps, and which one hurts, on the planar suite?"""

from experiments.studies.figure_5a import ABLATIONS
from experiments.studies.planar import COWORLD, offline_pair
from experiments.studying.study import Study

STUDY = Study(
    title="Ablations on the planar suite",
    question=(
        "What does each coupling add? The pair is the one on which planar_transfer had found the "
        "largest effect of CoWorld, in units of the score, with eight seeds: there it does harm."
    ),
    refuted=(
        "leaving out a part does not lower the return: the interval of its difference to "
        "CoWorld includes 0 or lies above it."
    ),
    arms=tuple(arm._replace(settings=(*arm.settings, *COWORLD)) for arm in ABLATIONS),
    pairs=(offline_pair("reach_desk"),),
    seeds=20,
    size="planar",
    minutes=8.0,
    baseline="CoWorld",
)

"""Is the useful one of three sources chosen?"""

from experiments.studies.planar import COWORLD, offline_pair
from experiments.studying.study import Arm, Study

SOURCES = {
    "reach": "planar/reach",
    "push_touch": "planar/push_touch",
    "reach_desk": "planar/reach_desk",
}

STUDY = Study(
    title="Choosing among sources on the planar suite",
    question=(
        "Of three sources for reach_downhill, only reach has its task and look. How often is it"
        " chosen, and does the choice earn as much as the best single source?"
    ),
    refuted=(
        "reach is chosen in at most half of the updates, or the interval of the best single "
        "source's difference to multi-source lies above 0."
    ),
    arms=(
        Arm("multi-source", "coworld", (f"source={','.join(SOURCES.values())}", *COWORLD)),
        *(Arm(name, "coworld", (f"source={task}", *COWORLD)) for name, task in SOURCES.items()),
    ),
    pairs=(offline_pair("reach_downhill"),),
    seeds=5,
    size="planar",
    minutes=12.0,
)

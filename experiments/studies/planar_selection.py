"""Is the useful one of three sources chosen, or a blind one for its flat softmax?

No setting trains one of several sources less than the others. The arm ``with a blind source`` has
one in its place whose own pictures give its encoder nothing to learn from: ``reach+zoom=0.01``
is the task reach, drawn so small that all its pictures look alike. Its encoder was expected to stay
as flat as it began; the metrics ``target/model/entropy_*`` show how flat it is. The greatest
possible entropy is 4.852, of 128 equal shares.

What it shows: whether a source that knows nothing of pictures is chosen for its flat softmax. What
it does not show: how a source would do that was merely trained for a shorter time, which knows
something. From the first co-training on, coupling B shows the target's frames to all sources.
"""

from experiments.studies.planar import COWORLD, offline_pair
from experiments.studying.study import Arm, Study

SOURCES = {
    "reach": "planar/reach",
    "push_middle": "planar/push_middle",
    "reach_desk": "planar/reach_desk",
}
BLIND = "planar/reach+zoom=0.01"


def several(name: str, *tasks: str) -> Arm:
    """CoWorld that chooses among sources."""
    return Arm(name, "coworld", (f"source={','.join(tasks)}", *COWORLD))


STUDY = Study(
    title="Choosing among sources on the planar suite",
    question=(
        "Of three sources for reach_downhill, only reach has its task and look. How often is it"
        " chosen, and does the choice earn as much as the best single source? An encoder that has"
        " learnt little has a flat softmax, which is near to any other: is a blind source, whose"
        " pictures show nothing, chosen in the place of reach_desk?"
    ),
    negative=(
        "of the choice: reach is chosen in at most half of the updates of multi-source, or the"
        " interval of the best single source's difference to multi-source lies above 0. Of the"
        " second question: the blind source is chosen in less than a third of the updates."
    ),
    arms=(
        several("multi-source", *SOURCES.values()),
        several("with a blind source", SOURCES["reach"], SOURCES["push_middle"], BLIND),
        *(Arm(name, "coworld", (f"source={task}", *COWORLD)) for name, task in SOURCES.items()),
    ),
    pairs=(offline_pair("reach_downhill"),),
    seeds=5,
    size="planar",
    minutes=12.0,
    hours=3.0,
    found=(
        "What was found with 5 seeds: a negative result on both questions. reach is never chosen "
        "in multi-source: push_middle is, in all updates, and its softmax was the flattest in "
        "all of them. No single source is shown to be better than the choice among three: all "
        "intervals of the differences include 0.",
        "The blind source is chosen in 30 % [17, 43] of the updates, and not in the third that "
        "was set. It is the flattest source in 25 % of them, which are the warm-up: there it is "
        "chosen in every seed. So a source that knows nothing of pictures is chosen for its flat "
        "softmax as long as it has not been trained together with the target. Then coupling B "
        "shows it the target's frames, and its softmax becomes less flat. In four seeds another "
        "source is chosen from then on, nearly always push_middle. In one seed the blind source "
        "stayed chosen for one more round, in which push_middle was flatter: flatness does not "
        "explain every choice.",
        "What follows: in multi-source the flattest source was always chosen, with a blind "
        "source in about 95 % of the updates. The target's own softmax is flat (4.74 of at most "
        "4.85 nats), so that the distance to it is small for a flat source.",
        "Limits: one target, whose data are 49 episodes, and short runs.",
    ),
)

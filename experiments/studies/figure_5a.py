"""Figure 5a: CoWorld without each of its parts."""

from experiments.studying.study import Arm, Pair, Study

ABLATIONS = (
    Arm("CoWorld", "coworld"),
    Arm("w/o A", "coworld", ("coupling.state_alignment=False",)),
    Arm("w/o B", "coworld", ("coupling.reward_alignment=False",)),
    Arm("w/o C", "coworld", ("coupling.value_constraint=False",)),
    Arm("w/o max", "coworld", ("coupling.constraint_max=False",)),
)

STUDY = Study(
    title="Figure 5a: ablations",
    question="What does each coupling add, on push_green?",
    negative=(
        "leaving a part out costs nothing: the interval of its difference to CoWorld includes 0 "
        "or lies above it."
    ),
    arms=ABLATIONS,
    pairs=(Pair("robodesk", "push_green"),),
    seeds=3,
    size="paper",
    baseline="CoWorld",
)

"""Figure 11: the target's frames as both encoders embed them, with and without coupling A."""

from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 11: the target's frames in both encoders",
    question=(
        "Do the source's and the target's encoder map the target's frames to the same place? The "
        "source's own frames are not shown: coupling A never compares them."
    ),
    negative=(
        "on a pair, the KL of the embeddings' softmaxes is not smaller with coupling A than without"
        " it: the two intervals overlap."
    ),
    arms=(
        Arm("w/o A", "coworld", ("coupling.state_alignment=False",)),
        Arm("CoWorld", "coworld"),
    ),
    pairs=(Pair("metaworld", "button-press"), Pair("dmc", "walker_downhill")),
    seeds=3,
    size="paper",
    latents=True,
    baseline="CoWorld",
)

"""Figure 11: the latents of both domains before and after alignment."""

from experiments.studying.study import Arm, Pair, Study

STUDY = Study(
    title="Figure 11: the alignment of latents",
    question="Do both encoders map the target's frames to the same place?",
    refuted="the distance of the embeddings is not smaller with coupling A than without it.",
    arms=(
        Arm("w/o A", "coworld", ("coupling.state_alignment=False",)),
        Arm("CoWorld", "coworld"),
    ),
    pairs=(Pair("metaworld", "button-press"), Pair("dmc", "walker_downhill")),
    seeds=1,
    size="paper",
    latents=True,
    baseline="CoWorld",
)

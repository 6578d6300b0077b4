"""Table 11: against behaviour cloning on R3M's features."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

# The user's own file, as R3M's authors publish it (see `coworld_jax.methods.r3m_bc`).
WEIGHTS = ("weights=r3m_50.pt",)

STUDY = Study(
    title="Table 11: R3M",
    question="Does CoWorld beat behaviour cloning on the features of a pre-trained vision model?",
    negative=NO_HIGHER_MEAN,
    arms=(
        Arm("R3M (our data)", "r3m_bc", WEIGHTS),
        Arm("DV2 Finetune", "finetune"),
        Arm("CoWorld", "coworld"),
    ),
    pairs=tuple(
        Pair("metaworld", task) for task in ("button-press-topdown", "drawer-close", "handle-press")
    ),
    seeds=3,
    size="paper",
    table="table_11",
    baseline="CoWorld",
)

"""Table 2: Meta-World, medium-replay, six pairs."""

from experiments.studying.study import NO_HIGHER_MEAN, Arm, Pair, Study

TASKS = (
    "door-close",
    "button-press",
    "window-close",
    "handle-press",
    "drawer-close",
    "button-press-topdown",
)
# The paper gives no scale; this one is that of Kirkpatrick et al. (2017) on Atari.
EWC = ("ewc_scale=400.0",)

BASELINES = (
    Arm("Offline DV2", "offline_dv2"),
    Arm("DrQ+BC", "drq_bc"),
    Arm("CQL", "cql"),
    Arm("CURL", "curl"),
    Arm("LOMPO", "lompo"),
    Arm("DV2 Finetune", "finetune"),
)

STUDY = Study(
    title="Table 2: Meta-World from medium-replay data",
    question="How does CoWorld compare with every baseline on six pairs of Meta-World tasks?",
    negative=NO_HIGHER_MEAN,
    arms=(
        *BASELINES,
        Arm("DV2 Finetune + EWC", "finetune", EWC),
        Arm("LOMPO Finetune", "lompo_finetune"),
        Arm("CoWorld (Best-Source)", "coworld"),
        Arm("CoWorld (Multi-Source)", "coworld", ending="-multi"),
    ),
    pairs=tuple(Pair("metaworld", name) for name in TASKS),
    seeds=3,
    size="paper",
    table="table_2",
    baseline="CoWorld (Best-Source)",
)

"""The table of methods: a method is entered here and nowhere else."""

from coworld_jax.method import Entry
from coworld_jax.methods.coworld import CoWorldSettings, coworld_domains, make_coworld
from coworld_jax.methods.dreamer import DreamerSettings, dreamer_domains, make_dreamer
from coworld_jax.methods.finetune import FinetuneSettings, finetune_domains, make_finetune
from coworld_jax.methods.lompo import LompoSettings, lompo_domains, make_lompo
from coworld_jax.methods.lompo_finetune import (
    LompoFinetuneSettings,
    lompo_finetune_domains,
    make_lompo_finetune,
)
from coworld_jax.methods.multitask import MultitaskSettings, make_multitask, multitask_domains
from coworld_jax.methods.offline_dv2 import (
    OfflineDV2Settings,
    make_offline_dv2,
    offline_dv2_domains,
)

METHODS = {
    "coworld": Entry(CoWorldSettings, make_coworld, coworld_domains),
    "dreamer": Entry(DreamerSettings, make_dreamer, dreamer_domains, may_grow=("updates",)),
    "finetune": Entry(FinetuneSettings, make_finetune, finetune_domains),
    "lompo": Entry(LompoSettings, make_lompo, lompo_domains, may_grow=("updates",)),
    "lompo_finetune": Entry(LompoFinetuneSettings, make_lompo_finetune, lompo_finetune_domains),
    "multitask": Entry(MultitaskSettings, make_multitask, multitask_domains),
    "offline_dv2": Entry(
        OfflineDV2Settings, make_offline_dv2, offline_dv2_domains, may_grow=("updates",)
    ),
}

DEFAULT = "coworld"
"""The method of a run that names none."""

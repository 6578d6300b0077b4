"""The table of methods: a method is entered here and nowhere else."""

from coworld_jax.method import Entry
from coworld_jax.methods.bc import BcSettings, bc_domains, make_bc
from coworld_jax.methods.coworld import CoWorldSettings, coworld_domains, make_coworld
from coworld_jax.methods.cql import CqlSettings, cql_domains, make_cql
from coworld_jax.methods.curl import CurlSettings, curl_domains, make_curl
from coworld_jax.methods.dreamer import DreamerSettings, dreamer_domains, make_dreamer
from coworld_jax.methods.drq_bc import DrqBcSettings, drq_bc_domains, make_drq_bc
from coworld_jax.methods.finetune import FinetuneSettings, finetune_domains, make_finetune
from coworld_jax.methods.multitask import MultitaskSettings, make_multitask, multitask_domains
from coworld_jax.methods.r3m_bc import R3mBcSettings, make_r3m_bc, r3m_bc_domains

METHODS = {
    "bc": Entry(BcSettings, make_bc, bc_domains, may_grow=("updates",)),
    "coworld": Entry(CoWorldSettings, make_coworld, coworld_domains),
    "cql": Entry(CqlSettings, make_cql, cql_domains, may_grow=("updates",)),
    "curl": Entry(CurlSettings, make_curl, curl_domains, may_grow=("updates",)),
    "dreamer": Entry(DreamerSettings, make_dreamer, dreamer_domains, may_grow=("updates",)),
    "drq_bc": Entry(DrqBcSettings, make_drq_bc, drq_bc_domains, may_grow=("updates",)),
    "finetune": Entry(FinetuneSettings, make_finetune, finetune_domains),
    "multitask": Entry(MultitaskSettings, make_multitask, multitask_domains),
    "r3m_bc": Entry(R3mBcSettings, make_r3m_bc, r3m_bc_domains, may_grow=("updates",)),
}

DEFAULT = "coworld"
"""The method of a run that names none."""

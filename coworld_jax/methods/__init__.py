"""The table of methods: a method is entered here and nowhere else.

A method of one's own needs no line here: ``--config.method=module:name`` finds the `Entry` called
``name`` in a module that Python can import.
"""

import importlib

from coworld_jax.config import closest
from coworld_jax.method import Entry
from coworld_jax.methods.bc import BcSettings, bc_domains, make_bc
from coworld_jax.methods.coworld import (
    COWORLD_BEGINNING,
    CoWorldSettings,
    coworld_domains,
    make_coworld,
)
from coworld_jax.methods.cql import CqlSettings, cql_domains, make_cql
from coworld_jax.methods.curl import CurlSettings, curl_domains, make_curl
from coworld_jax.methods.dreamer import DreamerSettings, dreamer_domains, make_dreamer
from coworld_jax.methods.drq_bc import DrqBcSettings, drq_bc_domains, make_drq_bc
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
from coworld_jax.methods.r3m_bc import R3mBcSettings, make_r3m_bc, r3m_bc_domains

METHODS = {
    "bc": Entry(BcSettings, make_bc, bc_domains, may_grow=("updates",)),
    "coworld": Entry(CoWorldSettings, make_coworld, coworld_domains, beginning=COWORLD_BEGINNING),
    "cql": Entry(CqlSettings, make_cql, cql_domains, may_grow=("updates",)),
    "curl": Entry(CurlSettings, make_curl, curl_domains, may_grow=("updates",)),
    "dreamer": Entry(DreamerSettings, make_dreamer, dreamer_domains, may_grow=("updates",)),
    "drq_bc": Entry(DrqBcSettings, make_drq_bc, drq_bc_domains, may_grow=("updates",)),
    "finetune": Entry(FinetuneSettings, make_finetune, finetune_domains),
    "lompo": Entry(LompoSettings, make_lompo, lompo_domains, may_grow=("updates",)),
    "lompo_finetune": Entry(LompoFinetuneSettings, make_lompo_finetune, lompo_finetune_domains),
    "multitask": Entry(MultitaskSettings, make_multitask, multitask_domains),
    "r3m_bc": Entry(R3mBcSettings, make_r3m_bc, r3m_bc_domains, may_grow=("updates",)),
    "offline_dv2": Entry(
        OfflineDV2Settings, make_offline_dv2, offline_dv2_domains, may_grow=("updates",)
    ),
}

DEFAULT = "coworld"
"""The method of a run that names none."""


def find_method(name: str) -> Entry:
    """The entry of a method, by its name in the table or as ``module:name``.

    Raises:
        ValueError: there is none; the nearest name of the table is given.
    """
    if name in METHODS:
        return METHODS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"Unknown method {name}: {closest(name, METHODS)}")
    try:
        entry = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"method {name}: {error}. Its folder must be the current one, or in PYTHONPATH."
        ) from error
    except AttributeError as error:
        raise ValueError(f"method {name}: {error}.") from error
    if not isinstance(entry, Entry):
        raise ValueError(f"method {name} is {entry!r}, but a coworld_jax.method.Entry is needed.")
    return entry

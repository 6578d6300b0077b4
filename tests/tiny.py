"""The smallest configuration and data on which each method still runs, shared by the tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from weights import r3m_weights

from coworld_jax import parallel
from coworld_jax.agents import lompo, offline_dv2
from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.model_free.settings import (
    CriticConfig,
    NoiseConfig,
    OptimisationConfig,
    PixelNetworkConfig,
)
from coworld_jax.config import Config, EpisodesConfig, RunConfig
from coworld_jax.method import Domain, Method, TrainState, init_train_state
from coworld_jax.methods import METHODS
from coworld_jax.methods.bc import BcSettings
from coworld_jax.methods.coworld import CoWorldSettings
from coworld_jax.methods.coworld.settings import CurriculumConfig
from coworld_jax.methods.cql import CqlSettings
from coworld_jax.methods.curl import CurlSettings
from coworld_jax.methods.dreamer import DreamerSettings
from coworld_jax.methods.drq_bc import DrqBcSettings
from coworld_jax.methods.finetune import FinetuneSettings
from coworld_jax.methods.lompo import LompoSettings
from coworld_jax.methods.lompo_finetune import LompoFinetuneSettings, OnlineAgentConfig
from coworld_jax.methods.multitask import MultitaskSettings
from coworld_jax.methods.offline_dv2 import OfflineDV2Settings
from coworld_jax.methods.r3m_bc import R3mBcSettings
from coworld_jax.schedule import OnlineConfig
from coworld_jax.store import EpisodeStore, draw_rows, read_rows
from coworld_jax.training.scan import run_updates
from coworld_jax.types import Batch

ACTION = 3
TIME, BATCH = 4, 2

NETWORK = NetworkConfig(
    groups=3,
    deter=8,
    hidden=8,
    depth=1,
    units=8,
    reward_layers=1,
    critic_layers=1,
    actor_layers=1,
    continue_layers=1,
)
LEARNING = LearningConfig(batch=BATCH, length=TIME, horizon=3)

SETTINGS = CoWorldSettings(
    network=NETWORK,
    learning=LEARNING,
    schedule=CurriculumConfig(
        prefill_episodes=2,
        train_every=5,
        pretrain_updates=4,
        warmup_rounds=1,
        warmup_target_updates=2,
        warmup_source_updates=2,
        rounds=2,
        target_updates=2,
        source_updates=2,
    ),
)

CONFIG = Config(
    method="coworld",
    settings=SETTINGS,
    source=("dmc/walker_walk",),
    target="dmc/walker_downhill",
    schedule=EpisodesConfig(episode_steps=10),
    run=RunConfig(chunk=2, eval_every=100, eval_episodes=1, checkpoint_every=2, profile="fast"),
)


# Chunks of TIME rows; with fewer channels, CURL's encoder would put out zeros alone.
_PIXELS = {
    "updates": 8,
    "network": PixelNetworkConfig(channels=4, trunk=4, hidden=8),
    "learning": OptimisationConfig(batch=BATCH),
}

_ONLINE = OnlineConfig(prefill_episodes=2, train_every=5)
_COMMON = {"network": NETWORK, "learning": LEARNING, "schedule": _ONLINE}

_CATEGORICAL = offline_dv2.NetworkConfig(
    heads=3, groups=2, classes=3, deter=8, hidden=8, depth=1, units=8, reward_layers=1,
    critic_layers=1, actor_layers=1,
)  # fmt: skip

_LOMPO = {
    "network": lompo.NetworkConfig(
        heads=3, stoch=3, deter=8, hidden=8, depth=1, units=8, reward_layers=1, critic_layers=1,
        actor_layers=1,
    ),
    "learning": lompo.LearningConfig(batch=BATCH, length=TIME, agent_batch=4),
    "imagination": lompo.ImaginationConfig(horizon=2),
    "buffers": lompo.BuffersConfig(
        real_steps=12, imagined_steps=32, first_steps=20, refresh_every=2
    ),
}  # fmt: skip

OTHERS = {
    "bc": BcSettings(**_PIXELS),
    "cql": CqlSettings(candidates=2, **_PIXELS),
    "curl": CurlSettings(**_PIXELS),
    "dreamer": DreamerSettings(updates=4, model_updates=2, **_COMMON),
    "drq_bc": DrqBcSettings(critic=CriticConfig(n_step=1), noise=NoiseConfig(updates=8), **_PIXELS),
    "finetune": FinetuneSettings(
        source_updates=2, model_updates=2, target_updates=2, ewc_scale=1.0, ewc_sequences=4,
        ewc_modules=("world_model", "actor", "critic"), **_COMMON,
    ),
    "lompo": LompoSettings(model_updates=2, updates=4, **_LOMPO),
    "lompo_finetune": LompoFinetuneSettings(
        source_updates=2, model_updates=2, updates=2,
        online=OnlineAgentConfig(NETWORK, LEARNING, _ONLINE), **_LOMPO,
    ),
    "multitask": MultitaskSettings(updates=4, reward_head="separate", **_COMMON),
    "r3m_bc": R3mBcSettings(
        weights=r3m_weights(), updates=8, hidden=8, learning=_PIXELS["learning"]
    ),
    "offline_dv2": OfflineDV2Settings(
        model_updates=2, updates=4, network=_CATEGORICAL,
        learning=offline_dv2.LearningConfig(batch=BATCH, length=TIME, horizon=2),
    ),
}  # fmt: skip
"""The other methods, every part of them switched on."""


def cases(names: Iterable[str], quick: Container[str]) -> list[Any]:
    """The names as parameters of a test; it is slow with all but the quick ones."""
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in names]


def of_method(method: str) -> Config:
    """The tiny configuration of a method."""
    if method == CONFIG.method:
        return CONFIG
    return replace(CONFIG, method=method, settings=OTHERS[method])


def with_weights(settings: Any) -> Any:
    """``settings``, with the tests' file where they name one of weights."""
    return replace(settings, weights=r3m_weights()) if hasattr(settings, "weights") else settings


def with_settings(config: Config = CONFIG, **sections: object) -> Config:
    """``config`` with other settings: sections, or dictionaries of fields of sections."""
    changed = {}
    for name, value in sections.items():
        old = getattr(config.settings, name)
        changed[name] = replace(old, **value) if isinstance(value, dict) else value
    return replace(config, settings=replace(config.settings, **changed))


def domains(sources: int = 1, state_size: int = 0, target: bool = True) -> dict[str, Domain]:
    """Domains of `ACTION` coordinates and ten steps an episode."""
    names = ["source"] if sources == 1 else [f"source{index}" for index in range(sources)]
    return {name: Domain(ACTION, state_size, 10) for name in [*names, "target"][: sources + target]}


def build(config: Config = CONFIG, sources: int = 1, state_size: int = 0) -> Method:
    """The method; sources read states where these have a size."""
    if state_size:
        config = with_settings(config, source_observation="state")
    return METHODS[config.method].make(config.settings, domains(sources, state_size))


@functools.cache
def _init(config: Config, sources: int, state_size: int) -> Callable[[jax.Array], Any]:
    """The method's ``init``, compiled once for all tests of a process."""
    return jax.jit(build(config, sources, state_size).init)


def make(config: Config = CONFIG, sources: int = 1, state_size: int = 0) -> tuple[Method, Any]:
    """The method and what it has learnt before its first update.

    Each call makes a method of its own, so that its updates are traced anew. ``init`` is compiled
    once per process: a test that replaces a part of it must call ``build(...).init``.
    """
    init = _init(config, sources, state_size)
    return build(config, sources, state_size), init(jax.random.key(7))


def start(
    config: Config = CONFIG, sources: int = 1, state_size: int = 0
) -> tuple[Method, TrainState]:
    """The method and what a run of it begins with; a scan overwrites it, so call it again."""
    init = _init(config, sources, state_size)
    method = build(config, sources, state_size)
    return method, init_train_state(method._replace(init=init), jax.random.key(7))


def scan(
    method: Method,
    update: str,
    updates: int,
    state: TrainState,
    resident: Mapping[str, EpisodeStore],
    streamed: Mapping[str, Batch],
    mesh: parallel.Mesh | None = None,
    mapping: str = "jit",
) -> tuple[TrainState, dict[str, jax.Array]]:
    """``updates`` updates in one call, as training makes them."""
    shape = (updates, method.length, method.batch)
    program = functools.partial(run_updates, method.updates[update], shape=shape)
    arguments = (state, resident, streamed, jnp.int32(0))
    return parallel.compile_program(program, arguments, mesh, mapping)(*arguments)


def counted(update: Callable[..., Any]) -> tuple[Callable[..., Any], list[int]]:
    """``update`` jitted, and a list that grows whenever it is traced."""
    traces: list[int] = []

    def run(*arguments: Any) -> Any:
        traces.append(1)
        return update(*arguments)

    return jax.jit(run), traces


def is_key(leaf: jax.Array) -> bool:
    """Whether ``leaf`` holds PRNG keys."""
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def copied(tree: Any) -> Any:
    """``tree`` on the host, where no program can overwrite it."""
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.array(leaf), tree)


@functools.cache
def categorical() -> Config:
    """Categorical latents, layer-norm GRU, discount head, mixed actor gradient."""
    return with_settings(
        network={
            "latent": "categorical",
            "groups": 2,
            "classes": 3,
            "cell": "layer_norm",
            "discount_head": True,
        },
        learning={"dynamics_share": 0.5},
    )


def store(seed: int, episodes: int = 3, rows: int = 6, state_size: int = 0) -> EpisodeStore:
    """Random episodes on the device."""
    rng = np.random.default_rng(seed)
    total = episodes * rows
    return EpisodeStore(
        image=jnp.asarray(rng.integers(0, 256, (total, 64, 64, 3), np.uint8)),
        action=jnp.asarray(rng.uniform(-1, 1, (total, ACTION)).astype(np.float32)),
        reward=jnp.asarray(rng.normal(size=total).astype(np.float32)),
        discount=jnp.asarray((rng.uniform(size=total) > 0.1).astype(np.float32)),
        state=jnp.asarray(rng.normal(size=(total, state_size)), jnp.float32),
        starts=jnp.arange(episodes, dtype=jnp.int32) * rows,
        lengths=jnp.full((episodes,), rows, jnp.int32),
        episodes=jnp.int32(episodes),
    )


def sample(episodes: EpisodeStore, key: jax.Array, time: int, count: int) -> Batch:
    """``count`` random chunks of ``time`` rows."""
    return read_rows(episodes, draw_rows(episodes, key, time, count))


def batch(seed: int, state_size: int = 0) -> Batch:
    """One random batch, ``[T, B, ...]``."""
    rng = np.random.default_rng(seed)
    return Batch(
        image=jnp.asarray(rng.integers(0, 256, (TIME, BATCH, 64, 64, 3), np.uint8)),
        action=jnp.asarray(rng.uniform(-1, 1, (TIME, BATCH, ACTION)).astype(np.float32)),
        reward=jnp.asarray(rng.normal(size=(TIME, BATCH)).astype(np.float32)),
        discount=jnp.ones((TIME, BATCH), jnp.float32),
        state=jnp.asarray(rng.normal(size=(TIME, BATCH, state_size)), jnp.float32),
    )


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Two trees of arrays agree, relatively and absolutely."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, tolerance, tolerance), found, expected
    )

"""The smallest configuration and data on which the method still runs, shared by the tests."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.config import (
    Config,
    LearningConfig,
    NetworkConfig,
    RunConfig,
    ScheduleConfig,
)
from coworld_jax.coworld import CoWorld, CoWorldState, init_coworld, make_coworld
from coworld_jax.store import EpisodeStore
from coworld_jax.types import Batch

ACTION = 3
TIME, BATCH = 4, 2

CONFIG = Config(
    source=("dmc/walker_walk",),
    target="dmc/walker_downhill",
    network=NetworkConfig(
        groups=3,
        deter=8,
        hidden=8,
        depth=1,
        units=8,
        reward_layers=1,
        critic_layers=1,
        actor_layers=1,
        continue_layers=1,
    ),
    learning=LearningConfig(batch=BATCH, length=TIME, horizon=3),
    schedule=ScheduleConfig(
        episode_steps=10,
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
    run=RunConfig(chunk=2, eval_every=100, eval_episodes=1, checkpoint_every=2, profile="fast"),
)


_init = jax.jit(init_coworld, static_argnums=(0, 1))


def make(
    config: Config = CONFIG, sources: int = 1, state_size: int = 0
) -> tuple[CoWorld, CoWorldState]:
    """The method and a fresh state; call it again for a state that may be donated."""
    method = make_coworld(config, ACTION, 4, state_size)
    return method, _init(method, sources, jax.random.key(7))


@functools.cache
def categorical() -> Config:
    """Categorical latents, layer-norm GRU, discount head, mixed actor gradient."""
    network = replace(
        CONFIG.network,
        latent="categorical",
        groups=2,
        classes=3,
        cell="layer_norm",
        discount_head=True,
    )
    return replace(CONFIG, network=network, learning=replace(CONFIG.learning, dynamics_share=0.5))


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

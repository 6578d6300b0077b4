"""Filtering by the smallest world model, as tests of it and of its loops need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from coworld_jax.agents.dreamer import agent as agents
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState
from coworld_jax.agents.dreamer.world_model import Observation

T, B = 4, 2
KINDS = {"gaussian": lambda: tiny.SETTINGS, "categorical": lambda: tiny.categorical().settings}


class Case(NamedTuple):
    """An agent with data, and filtering as one compiled function of data."""

    agent: Agent
    state: AgentState
    embed: jax.Array  # [T, B, E]
    action: jax.Array  # [T, B, A]
    noise: jax.Array  # [T, B, groups]
    observe: Callable[..., Observation]


def make_case(kind: str) -> Case:
    """That of one of `KINDS`."""
    settings = KINDS[kind]()
    agent = agents.make_agent(settings.network, settings.learning, tiny.ACTION)
    # Compiled as a whole: hundreds of small programs otherwise.
    state = jax.jit(lambda key: agents.init_agent(agent, key))(jax.random.key(7))
    model, params = agent.model, state.world_model
    rng = np.random.default_rng(0)
    return Case(
        agent,
        state,
        jnp.asarray(rng.normal(size=(T, B, model.rssm.embed)), jnp.float32),
        jnp.asarray(rng.uniform(-1, 1, (T, B, tiny.ACTION)), jnp.float32),
        world_model.latent_noise(model, jax.random.key(0), T, B),
        jax.jit(lambda embed, action, noise: world_model.observe(
            model, params, embed, action, noise
        )),
    )  # fmt: skip

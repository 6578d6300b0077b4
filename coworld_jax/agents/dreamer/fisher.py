"""The diagonal Fisher information of an agent's modules, from squared gradients of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from coworld_jax.agents.dreamer import behavior
from coworld_jax.agents.dreamer.agent import Agent, AgentState
from coworld_jax.agents.dreamer.updates import (
    BehaviorExtra,
    ModelExtra,
    actor_loss,
    critic_loss,
    see,
    world_model_loss,
)
from coworld_jax.agents.gradient import Params, averaged
from coworld_jax.types import Batch

MODULES = ("world_model", "actor", "critic")


def squared_gradients(
    agent: Agent,
    state: AgentState,
    batch: Batch,
    key: jax.Array,
    modules: Sequence[str],
    axis_name: str | None = None,
) -> dict[str, Params]:
    """Mean over sequences of ``(∂ loss / ∂ θ_i)²``, each of the loss of one sequence alone.

    Args:
        batch: ``[T, B, ...]``: B sequences.
        key: consumed.
        modules: some of `MODULES`.
        axis_name: mapped axis over which the batch is split.

    Returns:
        Trees like the parameters of the modules, not negative.

    Sequences are taken one after the other, so that B gradients are never in memory at once.
    Reference: Kirkpatrick et al. (2017), with losses in the place of log-likelihoods.
    """
    count = batch.reward.shape[1]
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
    start = {name: jax.tree.map(jnp.zeros_like, getattr(state, name)) for name in modules}

    def add(total: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        sequence, index = inputs
        single = jax.tree.map(lambda leaf: leaf[:, None], sequence)
        grads = gradients(agent, state, single, jax.random.fold_in(key, index), modules)
        return jax.tree.map(lambda old, new: old + jnp.square(new), total, grads), None

    sequences = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), batch)
    total, _ = jax.lax.scan(add, start, (sequences, first + jnp.arange(count)))
    return averaged(jax.tree.map(lambda leaf: leaf / count, total), axis_name)


def gradients(
    agent: Agent, state: AgentState, batch: Batch, key: jax.Array, modules: Sequence[str]
) -> dict[str, Params]:
    """Gradient of each module's own loss on a batch."""
    key_model, key_behavior = jax.random.split(key)
    seen = see(agent, state, batch, key_model)
    (_, (observed, _)), model = jax.value_and_grad(world_model_loss, has_aux=True)(
        state.world_model, agent, seen, ModelExtra()
    )
    found = {"world_model": model}
    if "actor" in modules or "critic" in modules:
        steps = agent.learning.horizon - 1
        noise = behavior.rollout_noise(
            agent.model, jax.random.split(key_behavior), steps, batch.discount.shape
        )
        post = jax.lax.stop_gradient(observed.post)
        start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), post)
        extra, discount = BehaviorExtra(), batch.discount.reshape(-1)
        (_, (imagined, _)), found["actor"] = jax.value_and_grad(actor_loss, has_aux=True)(
            state.actor, agent, state, start, discount, noise, extra
        )
        found["critic"], _ = jax.grad(critic_loss, has_aux=True)(
            state.critic, agent, imagined, extra
        )
    return {name: found[name] for name in modules}

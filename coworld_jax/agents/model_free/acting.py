"""Players that see the last frames as one observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from coworld_jax.agents.model_free.actor_critic import (
    PixelAgent,
    PixelState,
    encode,
    mean_action,
    noisy_action,
)
from coworld_jax.agents.model_free.data import enlarge
from coworld_jax.agents.model_free.settings import FramesConfig, NoiseConfig
from coworld_jax.method import Player, State


class StackMemory(NamedTuple):
    """What is remembered between two frames."""

    stack: jax.Array  # uint8 [B, S, S, 3 * stack], oldest frame first
    fresh: jax.Array  # bool [B], before the first frame


class Choose(Protocol):
    """A policy: the player's parameters and a stack, uint8 ``[B, S, S, C]``, to ``[B, A]``."""

    def __call__(
        self, params: Any, stack: jax.Array, key: jax.Array, *, explore: bool
    ) -> jax.Array: ...


class Critic(NamedTuple):
    """Action values of a player."""

    discount: float  # per env_step
    judge: Callable[[State, jax.Array, jax.Array], jax.Array]  # state, stack, action [B, A] -> [B]


def start(frames: FramesConfig, batch: int) -> StackMemory:
    """Before the first frame of an episode."""
    return StackMemory(jnp.zeros((batch, *frames.shape), jnp.uint8), jnp.ones((batch,), bool))


def see(frames: FramesConfig, memory: StackMemory, observation: jax.Array) -> StackMemory:
    """The memory with one more frame, uint8 ``[B, 64, 64, 3]``.

    The first frame of an episode fills the whole stack.
    """
    newest = enlarge(frames, observation)
    filled = jnp.tile(newest, (1, 1, 1, frames.stack))
    pushed = jnp.concatenate([memory.stack[..., 3:], newest], axis=-1)
    stack = jnp.where(memory.fresh[:, None, None, None], filled, pushed)
    return StackMemory(stack, jnp.zeros_like(memory.fresh))


def make_player(
    frames: FramesConfig,
    params: Callable[[State], Any],
    choose: Choose,
    critic: Critic | None = None,
) -> Player:
    """A player of stacked frames.

    Its value at row t of an episode includes the reward of that row, as `Player.values` of the
    other methods do: it is ``min(Q1, Q2)`` of the stack before and of the action that led to row t.
    The first row has no reward: its value is γ times that of the policy's action there.

    Args:
        params: what ``choose`` needs of a state.
        critic: None for a method without one.
    """

    def act(
        params: Any, memory: StackMemory, observation: jax.Array, key: jax.Array, *, explore: bool
    ) -> tuple[StackMemory, jax.Array]:
        memory = see(frames, memory, observation)
        return memory, choose(params, memory.stack, key, explore=explore)

    player = Player("image", params, lambda batch: start(frames, batch), act, discount=1.0)
    if critic is None:
        return player
    discount, judge = critic

    @jax.jit
    def values(
        state: State, observation: jax.Array, action: jax.Array, key: jax.Array
    ) -> dict[str, jax.Array]:
        def step(
            memory: StackMemory, row: tuple[jax.Array, jax.Array]
        ) -> tuple[StackMemory, jax.Array]:
            frame, following = row
            memory = see(frames, memory, frame)
            return memory, judge(state, memory.stack, following)

        empty = start(frames, observation.shape[1])
        _, later = jax.lax.scan(step, empty, (observation[:-1], action[1:]))
        first = see(frames, empty, observation[0]).stack
        own = choose(params(state), first, key, explore=False)
        return {"critic": jnp.concatenate([discount * judge(state, first, own)[None], later])}

    return player._replace(discount=discount, values=values)


def pixel_policy(agent: PixelAgent, noise: NoiseConfig) -> Choose:
    """The policy of DrQ+BC, CQL and BC: its mean; exploring, with the schedule's final noise.

    The parameters are ``(encoder, actor)``. The noise is not clipped, as in the official code.
    """

    def choose(params: Any, stack: jax.Array, key: jax.Array, *, explore: bool) -> jax.Array:
        encoder, actor = params
        mean = mean_action(agent, actor, encode(agent, encoder, stack))
        if not explore:
            return mean
        std = jnp.asarray(noise.final, jnp.float32)
        return noisy_action(mean, std, jax.random.normal(key, mean.shape), jnp.inf)

    return choose


def pixel_critic(agent: PixelAgent, discount: float) -> Critic:
    """The lower of the twin critics."""

    def judge(state: PixelState, stack: jax.Array, action: jax.Array) -> jax.Array:
        feat = encode(agent, state.encoder, stack)
        return jnp.min(agent.critic.apply(state.critic, feat, action), axis=0)

    return Critic(discount, judge)

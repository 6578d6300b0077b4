"""Players whose latents are filtered by an ensemble model: they act, judge and foresee."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from coworld_jax.agents.dreamer import probing
from coworld_jax.agents.dreamer.acting import ActingState, acting_params, initial_acting_state, look
from coworld_jax.agents.dreamer.world_model import WorldModel, features, without_stats
from coworld_jax.agents.gradient import Params
from coworld_jax.method import Player, State


class Learnt(NamedTuple):
    """What a player needs of a method's state."""

    world_model: Params
    actor: Params
    critic: Params


class Acting(NamedTuple):
    """How an agent acts and judges: static."""

    model: WorldModel
    action_size: int  # coordinates that its own simulator takes; the networks may have more
    discount: float
    # (actor, features [B, F], key, explore=...) -> actions [B, A], zero in surplus coordinates
    choose: Callable[..., jax.Array]
    # (learnt, features [T, N, F], the action [T, N, A] that led to each row) -> values [T, N],
    # aligned as `Player.values` are
    judge: Callable[[Learnt, jax.Array, jax.Array], jax.Array]


def make_player(acting: Acting, pick: Callable[[State], Learnt]) -> Player:
    """The player of one agent.

    Args:
        acting: how it acts and judges.
        pick: its part of the method's state.
    """
    model, size = acting.model, acting.action_size

    def params(state: State) -> dict[str, Any]:
        mine = pick(state)
        return acting_params(mine.world_model, mine.actor)

    def act(
        params: Any, memory: ActingState, observation: jax.Array, key: jax.Array, *, explore: bool
    ) -> tuple[ActingState, jax.Array]:
        key_latent, key_action = jax.random.split(key)
        latent = look(model, params["world_model"], memory, observation, key_latent)
        action = acting.choose(params["actor"], features(latent), key_action, explore=explore)
        # The remembered action has the same bits as the one that is returned.
        action = jax.lax.optimization_barrier(action)
        return ActingState(without_stats(latent), action), action[:, :size]

    def values(
        state: State, observation: jax.Array, action: jax.Array, key: jax.Array
    ) -> dict[str, jax.Array]:
        wide = probing.widen(model, action)
        return {"critic": _values(acting, pick(state), observation, wide, key)}

    def predict(state: State, observation: jax.Array, action: jax.Array, context: int) -> jax.Array:
        return probing.open_loop(model, pick(state).world_model, observation, action, context)

    return Player(
        reads="image",
        params=params,
        start=lambda batch: initial_acting_state(model, batch),
        act=act,
        discount=acting.discount,
        values=values,
        predict=predict,
    )


@functools.partial(jax.jit, static_argnums=0)
def _values(
    acting: Acting, learnt: Learnt, observation: jax.Array, action: jax.Array, key: jax.Array
) -> jax.Array:
    """The own critic along filtered episodes, ``[T, N]``."""
    feat = probing.episode_features(acting.model, learnt.world_model, observation, action, key)
    return acting.judge(learnt, feat, action)

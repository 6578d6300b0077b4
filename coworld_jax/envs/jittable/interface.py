"""What an environment of pure functions is.

As in gymnax and brax, an environment is pure functions. Unlike gymnax's, ``step`` takes no key and
nothing resets itself. The time limit is the caller's. A reward and a discount come back in place of
their ``info`` or ``done``, as everywhere in this project.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from coworld_jax.envs.interface import EnvironmentSpec

if TYPE_CHECKING:
    import jax

State = Any  # a pytree of arrays, the environment's own


@dataclasses.dataclass(frozen=True, eq=False)
class JittableEnvironment:
    """An environment as functions of one episode. All can be jitted and vmapped.

    Everything random comes from the key of ``reset``; the state carries a key where ``step`` needs
    one. Two environments are equal only if they are the same object, so that one may be a static
    argument of a jitted function.

    Attributes:
        spec: what the environment is. An episode has ``spec.episode_steps`` steps, or fewer where
            a discount is 0; ``step`` counts none of them and may be called after the end.
        reset: key -> state.
        step: state, action float32 ``[A]`` in [-1, 1] -> state, reward float32 ``[]`` of this
            step, discount float32 ``[]``, 0 where the task ended. `options.apply` adds the action
            repeat.
        render: state -> uint8 ``[image_size, image_size, 3]``, row 0 at the top.
        state_vector: state -> float32 ``[N]``, with ``N = spec.state_size``.
        success: state -> bool ``[]``, whether the last step succeeded; None: not defined.
        may_end: whether a discount can be 0. Where it cannot, all episodes have full length, and
            a whole run can be one program (`training.device`).
    """

    spec: EnvironmentSpec
    reset: Callable[[jax.Array], State]
    step: Callable[[State, jax.Array], tuple[State, jax.Array, jax.Array]]
    render: Callable[[State], jax.Array]
    state_vector: Callable[[State], jax.Array]
    success: Callable[[State], jax.Array] | None = None
    may_end: bool = True

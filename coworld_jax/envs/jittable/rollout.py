"""Whole episodes of a jittable environment and a policy of jax in one compiled call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel
from coworld_jax.envs.checks import check_rows
from coworld_jax.envs.interface import Policy
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.policies import RandomPolicy
from coworld_jax.envs.pool import episode_extras
from coworld_jax.method import make_key
from coworld_jax.types import Episode

# Episodes of one call, always: surplus ones are thrown away. Another number would be another
# program, and its last bits might differ.
WIDTH = 16

Memory = Any  # a pytree of arrays, what a policy remembers from one frame to the next
Act = Callable[..., tuple[Any, jax.Array]]


@runtime_checkable
class JaxPolicy(Policy, Protocol):
    """A policy that can be compiled together with an environment.

    Attributes:
        parameters: a pytree of arrays, the same for all episodes.
        act: parameters, memory, frame uint8 ``[image_size, image_size, 3]`` or state float32
            ``[N]`` -> memory, action float32 ``[A]``. A pure function of one episode, hashable: the
            compiled program is found by it, so equal policies of other parameters share one.
    """

    parameters: Any
    act: Act

    def start(self, seed: int) -> Memory:
        """The memory before the first frame of the episode of ``seed``."""


class DrawnPolicy:
    """A random policy whose actions are drawn before they are due.

    Args:
        policy: the random policy.
        steps: of an episode.
    """

    def __init__(self, policy: RandomPolicy, steps: int) -> None:
        self.reads = policy.reads
        self.episode = policy.episode
        self.parameters: tuple[()] = ()
        self.act = _replay
        self._draw, self._steps = policy.actions, steps

    def start(self, seed: int) -> Memory:
        """All actions of the episode, float32 ``[steps + 1, A]``, and how many were taken.

        The last one is for the last frame, which no step follows.
        """
        return self._draw(seed, self._steps + 1), np.int32(0)


def _replay(
    parameters: tuple[()], memory: tuple[jax.Array, jax.Array], seen: jax.Array
) -> tuple[Memory, jax.Array]:
    del parameters, seen
    actions, taken = memory
    return (actions, taken + 1), actions[taken]


class Row(NamedTuple):
    """What is kept of each frame; action and reward led to it. Leading axes: rows, episodes."""

    image: jax.Array  # uint8 [image_size, image_size, 3]
    action: jax.Array  # [A], clipped to [-1, 1]
    reward: jax.Array
    discount: jax.Array
    state: jax.Array  # [N]
    success: jax.Array  # bool []; False where it is not defined


def observed(
    environment: JittableEnvironment,
    state: Any,
    action: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
) -> Row:
    """What is kept of ``state``, to which the rest led."""
    success = jnp.bool_(False) if environment.success is None else environment.success(state)
    image, vector = environment.render(state), environment.state_vector(state)
    return Row(image, action, reward, discount, vector, success)


def begun(environment: JittableEnvironment, seed: jax.Array) -> tuple[Any, ...]:
    """The state that the episode of ``seed``, uint32 ``[]``, begins with, and what led to it."""
    nothing = jnp.zeros(environment.spec.action_size)
    return environment.reset(make_key(seed)), nothing, jnp.float32(0.0), jnp.float32(1.0)


def rollout(environment: JittableEnvironment, policy: JaxPolicy, seeds: Sequence[int]) -> Row:
    """Play the episodes of ``seeds``, as many as `WIDTH` at most.

    Returns:
        Rows of all steps up to the time limit, ``[R, WIDTH, ...]``: those behind a discount of 0
        and the episodes behind the last of ``seeds`` have no meaning.
    """
    wide = [seeds[index % len(seeds)] for index in range(WIDTH)]
    numbers = np.array(wide, np.uint32)
    with jax.default_device(parallel.acting_device()):
        memories = jax.tree.map(_stack, *map(policy.start, wide))
        return _play(environment, policy.act, policy.reads, numbers, policy.parameters, memories)


def _stack(*leaves: Any) -> Any:
    """NumPy's stack, or jax's for what NumPy cannot hold, such as keys."""
    return jnp.stack(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)


def play(
    environment: JittableEnvironment,
    act: Act,
    reads: str,
    seeds: jax.Array,
    parameters: Any,
    memories: Memory,
) -> Row:
    """One episode for each seed: a pure function, for a program that has more to do.

    Args:
        act: see `JaxPolicy`.
        reads: ``image`` or ``state``.
        seeds: uint32 ``[E]``.
        parameters: of the policy.
        memories: before the first frames, ``[E, ...]``.

    Returns:
        Rows of all steps up to the time limit, ``[R, E, ...]``.
    """

    def advance(carry: tuple[Any, ...], _: None) -> tuple[tuple[Any, ...], Row]:
        memory, state, *led = carry
        row = observed(environment, state, *led)
        memory, action = act(parameters, memory, row.image if reads == "image" else row.state)
        action = jnp.clip(action, -1.0, 1.0)
        return (memory, *_step(environment, state, action)), row

    def episode(seed: jax.Array, memory: Memory) -> Row:
        rows = environment.spec.episode_steps + 1  # no row holds the result of the last step
        return jax.lax.scan(advance, (memory, *begun(environment, seed)), None, length=rows)[1]

    return jax.vmap(episode, out_axes=1)(seeds, memories)


_play = functools.partial(jax.jit, static_argnums=(0, 1, 2))(play)


def episode_of(environment: JittableEnvironment, rows: Row, index: int) -> Episode:
    """Episode ``index`` of a call, up to the row at which the task or the time ended.

    Args:
        environment: that was played.
        rows: NumPy arrays ``[R, E, ...]``.

    Raises:
        ValueError: an action, a reward or a state is not finite, or a discount not in [0, 1].
    """
    ended = rows.discount[:, index] <= 0.0
    count = int(ended.argmax()) + 1 if ended.any() else len(ended)
    own = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf[:count, index]), rows)
    if not np.isfinite(own.action).all():
        raise ValueError(
            f"The policy gave actions for {environment.spec.task} that are not finite."
        )
    check_rows(environment.spec.task, own.reward, own.discount, own.state)
    defined = {"state": own.state}
    if environment.success is not None:
        defined["success"] = own.success
    discount = np.clip(own.discount, 0.0, 1.0)  # of rounding
    return Episode(own.image, own.action, own.reward, discount, episode_extras(discount, defined))


def _step(environment: JittableEnvironment, state: Any, action: jax.Array) -> tuple[Any, ...]:
    state, reward, discount = environment.step(state, action)
    return state, action, reward, discount

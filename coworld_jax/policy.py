"""A player as something that acts in a simulator: one frame or state in, one action out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from coworld_jax import parallel
from coworld_jax.method import Memory, Player, State, make_key


class AgentPolicy:
    """A player with a frozen copy of its parameters, acting on the CPU.

    Acting is a few thousand operations for one frame: on the CPU it neither waits for an
    accelerator that is busy learning, nor makes it wait. A process without a CPU backend
    (``JAX_PLATFORMS=cuda``) acts on its default device.

    Args:
        player: who acts.
        state: what its method has learnt; the player's part is copied, so that the caller may
            donate it.
        image_size: height and width of a frame in pixels.
        state_size: N of the simulator's state vector.
        explore: sample actions, or take the policy's mode. A latent is sampled either way.

    Attributes:
        reads: what its actors are called with, see `envs.Policy`.
    """

    def __init__(
        self, player: Player, state: State, image_size: int, state_size: int, *, explore: bool
    ) -> None:
        self.reads = player.reads
        self._device = parallel.acting_device()
        # A view, as device_get gives it on the CPU, would keep the caller from donating.
        copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), player.params(state))
        self._params = jax.device_put(copies, self._device)
        self._step = functools.partial(_step, player, explore)
        self._start = player.start(1)
        frame = (image_size, image_size, 3)
        self._shape = frame if player.reads == "image" else (state_size,)

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh actor: frames uint8 ``[64, 64, 3]`` to actions float32 ``[A]`` in (-1, 1).

        The actor of an agent that reads states takes these, raw float32 ``[N]``. Call it once for
        each frame or state of one episode, in order. Its choices depend on the parameters, on what
        it is called with and on ``seed`` alone.

        The actor raises a ValueError for an array that is no frame (or no state).
        """
        key = jax.device_put(make_key(seed), self._device)
        memory, calls = jax.device_put(self._start, self._device), 0

        def choose(observation: np.ndarray) -> np.ndarray:
            nonlocal memory, calls
            self._check(observation)
            memory, action = self._step(self._params, memory, observation, key, calls)
            calls += 1
            return np.asarray(action[0])

        return choose

    def _check(self, observation: Any) -> None:
        """Make sure that an observation is one.

        Raises:
            ValueError: another dtype or shape: it would be read as something else without a word.
        """
        array = np.asarray(observation)
        form = f"{array.dtype} {list(array.shape)}"
        if self.reads == "image" and (array.dtype != np.uint8 or array.shape != self._shape):
            raise ValueError(
                f"The policy was given {form}, but a frame is uint8 {list(self._shape)}: height, "
                "width and RGB in 0 ... 255, one frame at a time."
            )
        is_number = array.dtype in (np.float32, np.float64)
        if self.reads == "state" and not (is_number and array.shape == self._shape):
            raise ValueError(
                f"The policy was given {form}, but it reads states: float32 {list(self._shape)}, "
                "the simulator's own numbers, one state at a time."
            )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _step(
    player: Player,
    explore: bool,
    params: Any,
    memory: Memory,
    observation: jax.Array,
    key: jax.Array,
    calls: jax.Array,
) -> tuple[Memory, jax.Array]:
    key = jax.random.fold_in(key, calls)
    return player.act(params, memory, observation[None], key, explore=explore)

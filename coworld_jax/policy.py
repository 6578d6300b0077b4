"""A player as something that acts in a simulator: one frame or state in, one action out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from coworld_jax import parallel
from coworld_jax.method import Memory, Player, State, make_key


def _act(
    player: Player,
    explore: bool,
    params: Any,
    memory: Memory,
    observation: jax.Array,
    key: jax.Array,
    calls: jax.Array,
) -> tuple[Memory, jax.Array]:
    """One step; draws depend on ``key`` and ``calls``. The action is that of `Player.act`."""
    key = jax.random.fold_in(key, calls)
    return player.act(params, memory, observation[None], key, explore=explore)


_step = jax.jit(_act, static_argnums=(0, 1))


class Acting(NamedTuple):
    """One step of a player in one episode, as a pure function that can be compiled with others.

    Equal ones share a program: it depends on the player, and not on the parameters.
    """

    player: Player
    explore: bool

    def __call__(
        self, params: Any, memory: tuple[Memory, jax.Array, jax.Array], observation: jax.Array
    ) -> tuple[tuple[Memory, jax.Array, jax.Array], jax.Array]:
        """``(parameters, memory, frame or state) -> (memory, action [A])``."""
        inner, key, calls = memory
        inner, action = _act(self.player, self.explore, params, inner, observation, key, calls)
        return (inner, key, calls + 1), action[0, : self.player.action_size]


class AgentPolicy:
    """A player with a frozen copy of its parameters, acting on the CPU.

    Acting is a few thousand operations for one frame: on the CPU it neither waits for an
    accelerator that is busy learning, nor makes it wait. A process without a CPU backend
    (``JAX_PLATFORMS=cuda``) acts on its default device. See `parallel.acting_device`.

    Args:
        player: who acts.
        state: what its method has learnt; the player's part is copied, so that the caller may
            donate it.
        image_size: height and width of a frame in pixels.
        state_size: N of the simulator's state vector.
        explore: sample actions, or take the policy's mode. A latent is sampled either way.

    Attributes:
        reads: what its actors are called with, see `envs.Policy`.
        parameters: the copy, committed to `parallel.acting_device`.
        act: a pure step of one episode; with `start`, a jittable environment compiles it.
    """

    def __init__(
        self, player: Player, state: State, image_size: int, state_size: int, *, explore: bool
    ) -> None:
        self.reads = player.reads
        self._device = parallel.acting_device()
        # A view, as device_get gives it on the CPU, would keep the caller from donating.
        copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), player.params(state))
        self.parameters = jax.device_put(copies, self._device)
        self.act = Acting(player, explore)
        with jax.default_device(self._device):
            self._start = player.start(1)
        frame = (image_size, image_size, 3)
        self._shape = frame if player.reads == "image" else (state_size,)

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh actor: frames uint8 ``[size, size, 3]`` to actions float32 ``[A]`` in [-1, 1].

        The actor of an agent that reads states takes these, raw float32 ``[N]``. Call it once for
        each frame or state of one episode, in order. Its choices depend on the parameters, on what
        it is called with and on ``seed`` alone.

        The actor raises a ValueError for an array that is no frame (or no state).
        """
        memory, key, calls = jax.device_put(self.start(seed), self._device)
        size = self.act.player.action_size

        def choose(observation: np.ndarray) -> np.ndarray:
            nonlocal memory, calls
            self._check(observation)
            memory, action = _step(*self.act, self.parameters, memory, observation, key, calls)
            calls += 1
            return np.asarray(action)[0, :size]

        return choose

    def start(self, seed: int) -> tuple[Memory, jax.Array, np.int32]:
        """The memory of `act` before the first observation of the episode of ``seed``."""
        with jax.default_device(self._device):  # not in the queue of a busy accelerator
            return self._start, make_key(seed), np.int32(0)

    def _check(self, observation: Any) -> None:
        """Make sure that an observation has the right dtype and shape.

        Raises:
            ValueError: it has others.
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

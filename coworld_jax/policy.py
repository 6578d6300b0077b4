"""An agent as something that acts: one frame or state in, one action out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from coworld_jax.acting import ActingState, act, initial_acting_state
from coworld_jax.agent import Agent, AgentState


class AgentPolicy:
    """A frozen copy of an agent's parameters, acting on the CPU.

    Acting is a few thousand operations for one frame: on the CPU it neither waits for an
    accelerator that is busy learning, nor makes it wait.

    Args:
        agent: its networks.
        state: copied, so that the caller may donate it.
        action_size: coordinates that the environment takes; an agent's surplus ones stay zero.
        explore: sample actions, or take the policy's mode. The latent is sampled either way.

    Attributes:
        reads: what its actors are called with, see `envs.Policy`.
    """

    def __init__(self, agent: Agent, state: AgentState, *, action_size: int, explore: bool) -> None:
        parameters = {
            "world_model": {
                name: state.world_model[name]
                for name in ("encoder", "rssm", "scaling")
                if name in state.world_model
            },
            "actor": state.actor,
        }
        self.reads = agent.model.reads
        self._cpu = jax.local_devices(backend="cpu")[0]
        # A view, as device_get gives it on the CPU, would keep the caller from donating.
        copies = jax.tree.map(lambda leaf: np.array(leaf, copy=True), parameters)
        self._parameters = jax.device_put(copies, self._cpu)
        self._step = functools.partial(_step, agent, action_size, explore)
        self._start = initial_acting_state(agent, 1)
        self._action_size = action_size

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh actor: frames uint8 ``[64, 64, 3]`` to actions float32 ``[A]`` in (-1, 1).

        The actor of a source that reads states takes these, raw float32 ``[N]``. Call it once for
        each frame or state of one episode, in order. Its choices depend on the parameters, on what
        it is called with and on ``seed`` alone.
        """
        key = jax.device_put(jax.random.key(seed), self._cpu)
        memory, calls = jax.device_put(self._start, self._cpu), 0

        def choose(observation: np.ndarray) -> np.ndarray:
            nonlocal memory, calls
            memory = self._step(self._parameters, memory, observation, key, calls)
            calls += 1
            return np.asarray(memory.action[0, : self._action_size])

        return choose


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _step(
    agent: Agent,
    action_size: int,
    explore: bool,
    parameters: dict[str, Any],
    memory: ActingState,
    observation: jax.Array,
    key: jax.Array,
    calls: jax.Array,
) -> ActingState:
    memory = act(
        agent,
        parameters["world_model"],
        parameters["actor"],
        memory,
        observation[None],
        jax.random.fold_in(key, calls),
        explore=explore,
    )
    return memory._replace(action=memory.action.at[:, action_size:].set(0.0))

"""What CoWorld learns, and the static networks of its agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from coworld_jax.agents.dreamer.agent import Agent, AgentState, init_agent
from coworld_jax.methods.coworld.settings import CouplingConfig


@flax.struct.dataclass
class CoupledState(AgentState):
    """An agent, and how often it has been updated with coupling B; never, for the target."""

    aligned_updates: jax.Array  # int32 [], decides eta


@flax.struct.dataclass
class CoWorldState:
    """One target and one or more sources."""

    target: CoupledState
    sources: tuple[CoupledState, ...]
    # Mean distance of each source, nats, [M]; None where the nearest is taken anew at each update.
    distances: jax.Array | None = None


class CoWorld(NamedTuple):
    """The agents, and how they are coupled.

    RSSM, heads, actor and critic have the same shapes in all domains. Only encoder and decoder
    differ where the sources read states.
    """

    target: Agent
    sources: tuple[Agent, ...]
    names: tuple[str, ...]  # of the source domains
    coupling: CouplingConfig
    aligned_updates: int  # source updates over which eta anneals

    @property
    def selects_by_phase(self) -> bool:
        """Whether one of several sources is chosen for a whole phase."""
        return len(self.sources) > 1 and self.coupling.selection == "phase"


def init_coworld(coworld: CoWorld, key: jax.Array) -> CoWorldState:
    """Fresh agents, each from a child of ``key``; the first child belongs to the run."""
    keys = jax.random.split(key, 2 + len(coworld.sources))
    sees = coworld.sources[0].model == coworld.target.model
    if sees:
        target, *sources = _fresh(coworld.target, keys[1:])
    else:
        (target,), sources = _fresh(coworld.target, keys[1:2]), _fresh(coworld.sources[0], keys[2:])
    distances = jnp.zeros(len(sources)) if coworld.selects_by_phase else None
    return CoWorldState(target, tuple(sources), distances)


def _fresh(agent: Agent, keys: jax.Array) -> list[CoupledState]:
    """One traced initialisation for all keys: half of the compile time for two agents."""

    def init(key: jax.Array) -> CoupledState:
        state = init_agent(agent, key)
        learnt = {field.name: getattr(state, field.name) for field in fields(state)}
        return CoupledState(**learnt, aligned_updates=jnp.zeros((), jnp.int32))

    agents = jax.vmap(init)(keys)
    return [jax.tree.map(lambda x, i=i: x[i], agents) for i in range(len(keys))]


def with_source(state: CoWorldState, index: int, source: CoupledState) -> CoWorldState:
    """``state`` with another agent as the source of that index."""
    sources = state.sources[:index] + (source,) + state.sources[index + 1 :]
    return replace(state, sources=sources)


def chosen_of(trees: Sequence[Mapping[str, object]], chosen: jax.Array) -> dict[str, object]:
    """The tree of index ``chosen`` among trees of one structure."""
    if len(trees) == 1:
        return dict(trees[0])
    return dict(jax.tree.map(lambda *leaves: jnp.stack(leaves)[chosen], *trees))

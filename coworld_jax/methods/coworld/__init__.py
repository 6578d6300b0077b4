"""CoWorld: an offline target agent helped by an online source agent, trained in turns.

Wang et al., "Making Offline RL Online: Collaborative World Models for Offline Visual Reinforcement
Learning", NeurIPS 2024, arXiv 2305.15260, Algorithm 1. Two DreamerV2 agents learn in turns: the
source's in a simulator, the target's from a fixed dataset. Three couplings join them (`couplings`):

* **A, state alignment** (Eq. 3). On images of the target, the softmax of the target's embedding is
  drawn to that of the source's: ``β₂ KL(sg[softmax(e_S(o_T))] || softmax(e_T(o_T)))``, a term of
  the target's world-model loss.
* **B, reward alignment** (Eq. 4 and 5). The source's reward head learns from its own rewards with
  weight η, and on the target's data from ``(1 - k) r_S + k r_T`` with weight ``1 - η``. It replaces
  the source's reward loss from the first co-training on.
* **C, value constraint** (Eq. 6). The target's critic is held down where it lies above the source's
  critic on the same imagined states: ``α max(v_T, sg[v_S])``, a term of the critic's loss.

A run prefills the source's replay, pretrains the source, warms up the target's world model with A,
and then trains target and source in turns, the source with B (`plan`). Each coupling has a switch,
and so has the ``max`` of C: these are the ablations of Figure 5a.

What the paper leaves open, and what was chosen:

* Several sources (Appendix C). Each trains as long as a single one would, and anneals η on its own
  counter. The nearest one, by the distance of A, is chosen for each batch; with
  ``coupling.selection = "phase"`` it is chosen once per phase of the target, by its mean distance
  over 20 batches. Coupling C then takes the critic of the chosen one.
* The schedule of η. The paper anneals it, the authors' code keeps 0.975. Here it falls linearly
  from 1 to 0.1 over the source's updates of co-training; both ends are settings.
* What A sums over. The authors' code adds up the steps of a chunk; here the mean over the batch
  counts, as for the other losses, and ``alignment_scale`` can restore theirs.
* The unit of α. It is that of the rewards, so that its effect depends on their scale.
* Sources that read states (Table 4). The paper does not say how A and B show them images; here a
  *bridge* learns to embed images as the source's encoder embeds states (`couplings`).
* Different action sizes. All networks have the larger one; surplus coordinates are zero in batches,
  in imagination and in the simulator.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, replace

import jax

from coworld_jax.agents.dreamer.acting import make_player
from coworld_jax.agents.dreamer.agent import AgentState, make_agent
from coworld_jax.agents.dreamer.updates import update_scaling
from coworld_jax.agents.gradient import Params, prefixed
from coworld_jax.method import (
    SOURCE,
    TARGET,
    Beginning,
    Domain,
    Method,
    Player,
    Update,
    sources_of,
    widest_action,
)
from coworld_jax.methods.coworld.couplings import (
    compared_embeds,
    select_update,
    source_update,
    target_update,
)
from coworld_jax.methods.coworld.plan import COMPARED, aligned_updates, make_plan
from coworld_jax.methods.coworld.settings import CouplingConfig, CoWorldSettings
from coworld_jax.methods.coworld.state import CoWorld, CoWorldState, init_coworld, with_source
from coworld_jax.types import Batch, Metrics

COWORLD_BEGINNING = Beginning(
    phase="pretrain",
    # Not the selection: it decides how many distances a state holds.
    unread=tuple(
        f"coupling.{field.name}" for field in fields(CouplingConfig) if field.name != "selection"
    ),
)
"""The sources are pretrained without any coupling."""


def coworld_domains(settings: CoWorldSettings) -> tuple[str, ...]:
    """Source and target; the source alone where the plan ends with its pretraining."""
    return (SOURCE, TARGET) if settings.schedule.needs_target() else (SOURCE,)


def make_coworld(settings: CoWorldSettings, domains: Mapping[str, Domain]) -> Method:
    """CoWorld for its domains, see `method.Entry`.

    Raises:
        ValueError: sources that one kind of agent cannot serve.
    """
    names = sources_of(domains)
    shared = _shared(settings, {name: domains[name] for name in names})
    plan = make_plan(settings, names, shared)
    action_size = widest_action(domains)
    target = make_agent(settings.network, settings.learning, action_size)
    source = target
    if shared.state_size:
        source = make_agent(
            settings.network, settings.learning, action_size, shared.state_size, bridge=True
        )
    sizes = {name: domain.action_size for name, domain in domains.items()}
    sizes[TARGET] = sizes[TARGET] if TARGET in domains else action_size
    coworld = CoWorld(
        target=target._replace(action_size=sizes[TARGET]),
        sources=tuple(source._replace(action_size=sizes[name]) for name in names),
        names=names,
        coupling=settings.coupling,
        aligned_updates=aligned_updates(plan, names[0]),
    )
    players = {name: source_player(coworld, index) for index, name in enumerate(names)}
    if TARGET in domains:
        players[TARGET] = target_player(coworld)
    return Method(
        init=lambda key: init_coworld(coworld, key),
        updates=make_updates(coworld),
        plan=plan,
        players=players,
        length=settings.learning.length,
        batch=settings.learning.batch,
        embeddings={COMPARED: functools.partial(_embed, coworld)},
    )


def _embed(coworld: CoWorld, state: CoWorldState, image: jax.Array) -> jax.Array:
    """What coupling A reads of target images, in the type that encoders compute in."""
    return compared_embeds(coworld, state, image).astype(coworld.target.model.rssm.dtype)


def _shared(settings: CoWorldSettings, sources: Mapping[str, Domain]) -> Domain:
    """What all sources have in common; a state size of 0 where agents read images.

    Raises:
        ValueError: episodes of different lengths, no states, or states of different sizes.
    """
    steps = {name: domain.episode_steps for name, domain in sources.items()}
    if len(set(steps.values())) > 1:
        raise ValueError(
            f"The sources have episodes of different lengths ({steps}): set "
            "schedule.episode_steps to one that all of them reach."
        )
    first = next(iter(sources.values()))
    if settings.source_observation == "image":
        return first._replace(state_size=0)
    sizes = {name: domain.state_size for name, domain in sources.items()}
    for name, size in sizes.items():
        if size == 0:
            raise ValueError(
                f"The task of {name} gives no state vector: use --config.source_observation=image."
            )
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"The sources have states of different sizes ({sizes}), which one kind of agent cannot "
            "read: use --config.source_observation=image, or sources of one suite."
        )
    return first


def make_updates(coworld: CoWorld) -> dict[str, Update]:
    """The update of each phase by the name that the plan uses.

    Agents other than the one that learns come back bit-identical.
    """
    updates: dict[str, Update] = {
        "target model": _target(coworld, behavior=False),
        "target": _target(coworld, behavior=True),
        "select": _select(coworld),
    }
    for index, name in enumerate(coworld.names):
        updates[name] = _source(coworld, index, aligned=False)
        updates[f"{name} aligned"] = _source(coworld, index, aligned=True)
        updates[f"{name} measure"] = _measure(coworld, index)
    return updates


def _source(coworld: CoWorld, index: int, *, aligned: bool) -> Update:
    name = coworld.names[index]

    def update(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        source, metrics = source_update(
            coworld,
            index,
            state.sources[index],
            batches[name],
            batches[TARGET] if aligned else None,
            key,
            axis_name,
        )
        return with_source(state, index, source), prefixed(name, metrics)

    return update


def _target(coworld: CoWorld, *, behavior: bool) -> Update:
    def update(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        target, metrics = target_update(
            coworld, state, batches[TARGET], key, axis_name, behavior=behavior
        )
        return replace(state, target=target), prefixed(TARGET, metrics)

    return update


def _select(coworld: CoWorld) -> Update:
    def update(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        state, metrics = select_update(coworld, state, batches[TARGET], count, axis_name)
        return state, prefixed(TARGET, metrics)

    return update


def _measure(coworld: CoWorld, index: int) -> Update:
    """Measure the unit of a source's states; nothing else changes."""
    name = coworld.names[index]

    def update(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        source, metrics = update_scaling(state.sources[index], batches[name], count, axis_name)
        return with_source(state, index, source), prefixed(name, metrics)

    return update


def source_player(coworld: CoWorld, index: int) -> Player:
    """The source of that index, in its own simulator."""

    def pick(state: CoWorldState) -> AgentState:
        return state.sources[index]

    return make_player(coworld.sources[index], pick)


def target_player(coworld: CoWorld) -> Player:
    """The target; the critics of all sources are shown beside its own."""

    def critic(index: int, state: CoWorldState) -> Params:
        return state.sources[index].critic

    others = {name: functools.partial(critic, i) for i, name in enumerate(coworld.names)}
    return make_player(coworld.target, lambda state: state.target, others)

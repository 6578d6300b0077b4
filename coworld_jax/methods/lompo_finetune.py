"""LOMPO Finetune: LOMPO learns from the source's replay, then goes on with the target's data.

A baseline of CoWorld (arXiv 2305.15260, section 4.1). Its paper names the method and says nothing
of how it was run; no code for it exists. `agents.lompo` is LOMPO itself (Rafailov et al., L4DC
2021), `methods.lompo` says how that differs from the official code.

What the paper leaves open, which is everything, and what was chosen:

* **Where the source's data come from.** LOMPO never plays. An agent of DreamerV2 plays the source
  online, as in the other methods with a source: random episodes first, then
  ``online.schedule.train_every`` env_steps for each of ``source_updates`` updates. Its replay is
  what CoWorld calls medium-replay. With ``source_updates = 0`` the replay is random play alone.
  That agent is part of the state; nothing of it but its replay reaches LOMPO.
* **Source half.** All phases of LOMPO on that replay: model, real buffer, imagined steps, agent.
* **Target half.** The same phases on the target's dataset, from the source's weights, with the
  numbers of updates of LOMPO on one dataset. The buffers are emptied first: features of the source
  under the old model mean nothing under the new one. ``moments = "fresh"`` also gives the
  optimisers new moments, so that their first steps are not scaled by the source's gradients;
  ``"kept"`` goes on with the old ones.
* **Actions.** The networks have the larger action size of both domains. The domain with fewer
  actions ignores the others, which are zero in its data, in its rollouts and when it is played.
* **Batches.** All updates of a method read batches of one shape. DreamerV2's ``online.learning``
  must therefore name the batch and the length of ``learning``.

The source's player is the agent of DreamerV2, the target's is LOMPO. LOMPO's source half is
therefore not scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import jax

from coworld_jax.agents import lompo
from coworld_jax.agents.dreamer import settings as dreamer
from coworld_jax.agents.dreamer.acting import make_player
from coworld_jax.agents.dreamer.agent import Agent, AgentState, init_agent, make_agent
from coworld_jax.agents.dreamer.updates import update_agent
from coworld_jax.agents.ensemble import playing
from coworld_jax.agents.gradient import prefixed
from coworld_jax.agents.lompo import Lompo, LompoState
from coworld_jax.fields import choice
from coworld_jax.method import (
    SOURCE,
    TARGET,
    Domain,
    Method,
    Phase,
    Update,
    only_source,
    widest_action,
)
from coworld_jax.methods.parts.lompo import lompo_phases, lompo_updates
from coworld_jax.schedule import OnlineConfig, learn_online, prefill
from coworld_jax.types import Batch, Metrics


@dataclass(frozen=True)
class OnlineAgentConfig:
    """The agent of DreamerV2 that plays the source."""

    network: dreamer.NetworkConfig = field(default_factory=dreamer.NetworkConfig)
    learning: dreamer.LearningConfig = field(
        default_factory=lambda: dreamer.LearningConfig(batch=64)
    )
    schedule: OnlineConfig = field(default_factory=OnlineConfig)


@dataclass(frozen=True)
class LompoFinetuneSettings:
    """Everything that the method depends on besides its domains."""

    source_updates: int = 15_000  # of the agent that plays the source
    model_updates: int = 25_000  # of LOMPO's world model, in each half
    updates: int = 100_000  # of LOMPO's agent, in each half
    moments: str = choice("fresh", "kept")  # of LOMPO's optimisers, where the target's half begins
    online: OnlineAgentConfig = field(default_factory=OnlineAgentConfig)
    network: lompo.NetworkConfig = field(default_factory=lompo.NetworkConfig)
    learning: lompo.LearningConfig = field(default_factory=lompo.LearningConfig)
    imagination: lompo.ImaginationConfig = field(default_factory=lompo.ImaginationConfig)
    buffers: lompo.BuffersConfig = field(default_factory=lompo.BuffersConfig)

    def check(self) -> None:
        """Both agents read batches of one shape.

        Raises:
            ValueError: they do not.
        """
        for name in ("batch", "length"):
            theirs, ours = getattr(self.online.learning, name), getattr(self.learning, name)
            if theirs != ours:
                raise ValueError(
                    f"online.learning.{name} is {theirs}, but learning.{name} is {ours}: both "
                    "agents read batches of one shape, so give them one value."
                )


class LompoFinetuneState(NamedTuple):
    """The agent that plays the source, and LOMPO."""

    online: AgentState
    lompo: LompoState


class LompoFinetune(NamedTuple):
    """The static parts; LOMPO's networks are one set, as each simulator takes their actions."""

    online: Agent
    source: Lompo
    target: Lompo
    source_name: str


def lompo_finetune_domains(settings: LompoFinetuneSettings) -> tuple[str, ...]:
    """Source and target."""
    return (SOURCE, TARGET)


def make_lompo_finetune(settings: LompoFinetuneSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domains, see `method.Entry`.

    Raises:
        ValueError: several sources.
    """
    name = only_source(domains, "LOMPO Finetune")
    widest, online = widest_action(domains), settings.online
    agent = make_agent(online.network, online.learning, widest)

    def of_domain(taken: int) -> Lompo:
        return lompo.make_lompo_agent(
            settings.network,
            settings.learning,
            settings.imagination,
            settings.buffers,
            widest,
            taken,
        )

    parts = LompoFinetune(
        online=agent._replace(action_size=domains[name].action_size),
        source=of_domain(domains[name].action_size),
        target=of_domain(domains[TARGET].action_size),
        source_name=name,
    )
    return Method(
        init=lambda key: _init(parts, key),
        updates=_updates(parts, settings),
        plan=_plan(parts, settings, domains[name]),
        players={
            name: make_player(parts.online, lambda state: state.online),
            TARGET: playing.make_player(
                lompo.make_acting(parts.target), lambda state: lompo.pick(state.lompo)
            ),
        },
        length=settings.learning.length,
        batch=settings.learning.batch,
        shares=math.gcd(settings.learning.batch, settings.learning.agent_batch),
        ignores_ends=True,
    )


def _plan(
    parts: LompoFinetune, settings: LompoFinetuneSettings, source: Domain
) -> tuple[Phase, ...]:
    """Play the source; LOMPO on its replay; the change; LOMPO on the target's data."""
    name, schedule = parts.source_name, settings.online.schedule
    learn = Phase("play the source", "online", reads=(name,), plays=name, scores=(name,))
    lengths = (settings.model_updates, settings.updates)
    played: tuple[Phase, ...] = ()
    if settings.source_updates:
        played = learn_online(learn, schedule, settings.source_updates, schedule.first_updates)
    return (
        prefill(name, source, schedule),
        *played,
        *lompo_phases(parts.source, name, *lengths, scored=False),
        Phase("change of domain", "change", 1),
        *lompo_phases(parts.target, TARGET, *lengths, scored=True),
    )


def _init(parts: LompoFinetune, key: jax.Array) -> LompoFinetuneState:
    """Two fresh agents; the first child of ``key`` belongs to the run."""
    _, key_online, key_lompo = jax.random.split(key, 3)
    return LompoFinetuneState(
        init_agent(parts.online, key_online), lompo.init_lompo(parts.source, key_lompo)
    )


def _updates(parts: LompoFinetune, settings: LompoFinetuneSettings) -> dict[str, Update]:
    name = parts.source_name

    def online(
        state: LompoFinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[LompoFinetuneState, Metrics]:
        agent, metrics = update_agent(
            parts.online, state.online, batches[name], key, axis_name=axis_name
        )
        return state._replace(online=agent), prefixed(name, metrics)

    def change(
        state: LompoFinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[LompoFinetuneState, Metrics]:
        real, imagined = lompo.empty_buffers(parts.target)
        learnt = state.lompo._replace(real=real, imagined=imagined)
        if settings.moments == "fresh":
            learnt = lompo.fresh_moments(parts.target, learnt)
        return state._replace(lompo=learnt), {}

    def half(agent: Lompo, domain: str) -> dict[str, Update]:
        return lompo_updates(
            agent, domain, lambda state: state.lompo, lambda state, new: state._replace(lompo=new)
        )

    halves = half(parts.source, name) | half(parts.target, TARGET)
    return {"online": online, "change": change} | halves

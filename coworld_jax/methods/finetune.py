"""DV2 Finetune: a DreamerV2 agent learns the source online, then the target from data; with EWC.

A baseline of CoWorld (arXiv 2305.15260, section 4.1 and Appendix E; Tables 2 to 5 and 9). The paper
says: "we first pretrain the DreamerV2 agent online in the source domain, and then finetune it with
the offline target dataset". All modules go on from the source's weights. No source data are used
while the target is learnt, and no term constrains the critic. Source and target share one action
size, the larger one; the domain with fewer actions ignores the others.

**EWC** (``ewc_scale > 0``: "DV2 Finetune + EWC", Table 6). Elastic weight consolidation
(Kirkpatrick et al., PNAS 2017) holds the named modules near the weights θ* that the source left.
After the source half a phase measures the diagonal Fisher information on the source's replay,
``F_i = mean over sequences of (∂ loss / ∂ θ_i)²``, with the gradient of the loss of each sequence
by itself: squares of a batch's mean gradient would underestimate F by about the batch size. While
the target is learnt, each named module's loss gets ``ewc_scale · ½ Σ_i F_i (θ_i - θ*_i)²``.

What the paper leaves open, and what was chosen:

* The lengths of both halves are given in the clock of the authors' loop, one update per five
  iterations: 160k and 300k iterations on Meta-World, 600k each on DeepMind Control. The presets
  give both halves the joint updates of CoWorld's source and target.
* CoWorld's target gets world-model-only updates before its behaviour. ``model_updates`` grants the
  same to this method; the presets do.
* Moments of the optimisers: ``moments = "fresh"`` starts the target's half with new ones, so that
  its first steps are not scaled by the source's gradients; ``"kept"`` goes on with them.
* EWC's λ, the number of sequences and the modules are not stated. λ was swept over 1e2 ... 1e5 by
  others; Kirkpatrick's value for Atari is 400. The published averages fall from 3,483 to 918 with
  EWC, so that theirs must have been restrictive. The default modules are the world model's. Actor
  and critic can be named too. Under dynamics gradients the actor has no likelihood: the square of
  its loss's gradient is a heuristic there.
* The slow critic is not reset; it is copied from the critic by the usual count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from coworld_jax import losses
from coworld_jax.agents.dreamer.acting import make_player
from coworld_jax.agents.dreamer.agent import (
    Agent,
    AgentState,
    fresh_moments,
    init_agent,
    make_agent,
)
from coworld_jax.agents.dreamer.fisher import MODULES, squared_gradients
from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.dreamer.updates import (
    BehaviorExtra,
    ModelExtra,
    Terms,
    update_agent,
    update_world_model,
)
from coworld_jax.agents.gradient import Params, prefixed
from coworld_jax.fields import choice, count, shaping
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
from coworld_jax.schedule import OnlineConfig, learn_offline, learn_online, prefill
from coworld_jax.types import Batch, Metrics


@dataclass(frozen=True)
class FinetuneSettings:
    """Everything that the method depends on besides its domains."""

    source_updates: int = 15_000  # online, in the source
    model_updates: int = 0  # of the world model alone, on the target's data, before its behaviour
    target_updates: int = 12_000  # on the target's data
    moments: str = choice("fresh", "kept")  # of the optimisers, where the target's half begins
    ewc_scale: float = shaping(0.0)  # lambda; 0 is DV2 Finetune without EWC
    ewc_sequences: int = count(500)  # of the source, for the Fisher information
    ewc_modules: tuple[str, ...] = ("world_model",)  # of world_model, actor, critic
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    schedule: OnlineConfig = field(default_factory=OnlineConfig)

    def check(self) -> None:
        """The modules exist.

        Raises:
            ValueError: one does not.
        """
        unknown = [name for name in self.ewc_modules if name not in MODULES]
        if unknown or not self.ewc_modules:
            raise ValueError(
                f"ewc_modules is {self.ewc_modules}: name some of {', '.join(MODULES)}."
            )


@flax.struct.dataclass
class FinetuneState:
    """The agent and, with EWC, where it is held and how strongly; both by module."""

    agent: AgentState
    anchor: dict[str, Params] | None = None
    fisher: dict[str, Params] | None = None


class Finetune(NamedTuple):
    """The static parts: one set of networks, as each domain's simulator takes its actions."""

    source: Agent
    target: Agent
    source_name: str
    settings: FinetuneSettings


def finetune_domains(settings: FinetuneSettings) -> tuple[str, ...]:
    """Source and target."""
    return (SOURCE, TARGET)


def make_finetune(settings: FinetuneSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domains, see `method.Entry`.

    Raises:
        ValueError: several sources.
    """
    name = only_source(domains, "DV2 Finetune")
    agent = make_agent(settings.network, settings.learning, widest_action(domains))
    finetune = Finetune(
        source=agent._replace(action_size=domains[name].action_size),
        target=agent._replace(action_size=domains[TARGET].action_size),
        source_name=name,
        settings=settings,
    )
    return Method(
        init=lambda key: _init(finetune, key),
        updates=_updates(finetune),
        plan=_plan(finetune, domains[name]),
        players={
            name: make_player(finetune.source, lambda state: state.agent),
            TARGET: make_player(finetune.target, lambda state: state.agent),
        },
        length=settings.learning.length,
        batch=settings.learning.batch,
    )


def _plan(finetune: Finetune, source: Domain) -> tuple[Phase, ...]:
    settings, name = finetune.settings, finetune.source_name
    online = settings.schedule
    learn = Phase("pretrain", "source", reads=(name,), plays=name, scores=(name,))
    measure = -(-settings.ewc_sequences // settings.learning.batch) if settings.ewc_scale else 0
    phases = [
        prefill(name, source, online),
        *learn_online(learn, online, settings.source_updates, online.first_updates),
        *learn_offline(Phase("Fisher information", "fisher", reads=(name,)), measure),
    ]
    if settings.moments == "fresh":
        phases.append(Phase("fresh moments", "renew", 1))
    phases += learn_offline(
        Phase("target's model", "model", reads=(TARGET,)), settings.model_updates
    )
    target = Phase("target", "target", reads=(TARGET,), scores=(TARGET,))
    return (*phases, *learn_offline(target, settings.target_updates))


def _init(finetune: Finetune, key: jax.Array) -> FinetuneState:
    """A fresh agent; the first child of ``key`` belongs to the run."""
    agent = init_agent(finetune.source, jax.random.split(key)[1])
    if not finetune.settings.ewc_scale:
        return FinetuneState(agent)
    modules = {name: getattr(agent, name) for name in finetune.settings.ewc_modules}
    return FinetuneState(
        agent,
        anchor=jax.tree.map(jnp.copy, modules),
        fisher=jax.tree.map(jnp.zeros_like, modules),
    )


def elastic(finetune: Finetune, state: FinetuneState) -> tuple[ModelExtra, BehaviorExtra]:
    """EWC as terms of the three losses; nothing without it."""
    settings = finetune.settings
    anchor, fisher = state.anchor, state.fisher
    if anchor is None or fisher is None:
        return ModelExtra(), BehaviorExtra()

    def penalty(module: str) -> tuple[Any, dict[str, float]]:
        if module not in settings.ewc_modules:
            return (lambda *_: Terms()), {}

        def terms(params: Params, *_: object) -> Terms:
            value = losses.elastic_penalty(params, anchor[module], fisher[module])
            return Terms(added={"ewc": value})

        return terms, {"ewc": settings.ewc_scale}

    return ModelExtra(*penalty("world_model")), BehaviorExtra(*penalty("critic"), *penalty("actor"))


def _updates(finetune: Finetune) -> dict[str, Update]:
    return _source_updates(finetune) | _target_updates(finetune)


def _source_updates(finetune: Finetune) -> dict[str, Update]:
    """The first half: learn online, then measure what EWC holds on to."""
    name = finetune.source_name

    def source(
        state: FinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[FinetuneState, Metrics]:
        agent, metrics = update_agent(
            finetune.source, state.agent, batches[name], key, axis_name=axis_name
        )
        return replace(state, agent=agent), prefixed(name, metrics)

    def fisher(
        state: FinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[FinetuneState, Metrics]:
        squares = squared_gradients(
            finetune.source,
            state.agent,
            batches[name],
            key,
            finetune.settings.ewc_modules,
            axis_name,
        )
        mean = jax.tree.map(lambda old, new: old + (new - old) / (count + 1), state.fisher, squares)
        anchor = {module: getattr(state.agent, module) for module in squares}
        total = sum(jax.tree.leaves(jax.tree.map(jnp.sum, mean)), jnp.zeros(()))
        metrics = prefixed(name, {"fisher/trace": total})
        return replace(state, anchor=anchor, fisher=mean), metrics

    return {"source": source, "fisher": fisher}


def _target_updates(finetune: Finetune) -> dict[str, Update]:
    """The second half: new moments, the world model alone, the agent."""

    def renew(
        state: FinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[FinetuneState, Metrics]:
        return replace(state, agent=fresh_moments(finetune.target, state.agent)), {}

    def model(
        state: FinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[FinetuneState, Metrics]:
        extra, _ = elastic(finetune, state)
        agent, _, metrics = update_world_model(
            finetune.target, state.agent, batches[TARGET], key, extra, axis_name
        )
        return replace(state, agent=agent), prefixed(TARGET, metrics)

    def target(
        state: FinetuneState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[FinetuneState, Metrics]:
        extras = elastic(finetune, state)
        agent, metrics = update_agent(
            finetune.target, state.agent, batches[TARGET], key, extras, axis_name
        )
        return replace(state, agent=agent), prefixed(TARGET, metrics)

    return {"renew": renew, "model": model, "target": target}

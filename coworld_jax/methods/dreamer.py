"""One DreamerV2 agent: online in a simulator, or offline on a dataset.

Hafner et al., "Mastering Atari with Discrete World Models", ICLR 2021, in the form in which CoWorld
uses it (arXiv 2305.15260, section 2.1): the agent of `coworld_jax.agents.dreamer`, alone.

* ``domain = "source"``: the agent plays the source's simulator and learns from its own replay. This
  is the agent whose replay becomes the paper's medium-replay and medium-expert datasets, and the
  source half of every method that begins with a trained source. Random episodes come first, then
  one update for every ``schedule.train_every`` env_steps.
* ``domain = "target"``: the agent learns from the target's dataset and never plays while it learns.
  This is DreamerV2 on offline data without any penalty, in other words CoWorld with its couplings
  off. It is not the baseline "Offline DV2" of the paper's tables, which adds an ensemble and a
  penalty for its disagreement.

``model_updates`` trains the world model alone before the behaviour: in the paper the target gets
such a warm-up (20,000 updates in the authors' code), and a fair comparison grants it too.

What the paper leaves open: it does not say for how long the agent of its datasets is trained, nor
how an offline DreamerV2 without penalty would do. ``updates`` is therefore a plain number. The
presets give it the updates of CoWorld's source. For the target, set ``updates`` and
``model_updates`` to those of CoWorld's target, which its plan prints: 6,000 and 1,000 at the size
``small``. A run may go on with more updates in the same workdir, for no update depends on how many
follow.

``observation = "state"`` reads the simulator's state vector in the place of images (source only).
Its unit is measured on the random episodes, in a phase of its own (`agents.dreamer.scaling`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax.agents.dreamer.acting import make_player
from coworld_jax.agents.dreamer.agent import Agent, AgentState, init_agent, make_agent
from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.dreamer.updates import (
    ModelExtra,
    update_agent,
    update_scaling,
    update_world_model,
)
from coworld_jax.agents.gradient import prefixed
from coworld_jax.fields import choice
from coworld_jax.method import SOURCE, TARGET, Domain, Method, Phase, Update, only_source
from coworld_jax.schedule import (
    MEASURING_UPDATES,
    OnlineConfig,
    learn_offline,
    learn_online,
    prefill,
)
from coworld_jax.types import Batch, Metrics


@dataclass(frozen=True)
class DreamerSettings:
    """Everything that the agent depends on besides its domain."""

    domain: str = choice(SOURCE, TARGET)  # where it learns: online, or from the dataset
    observation: str = choice("image", "state")  # what it reads
    updates: int = 20_000  # of world model and behaviour
    model_updates: int = 0  # of the world model alone, before
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    schedule: OnlineConfig = field(default_factory=OnlineConfig)

    def check(self) -> None:
        """A dataset need not hold states.

        Raises:
            ValueError: states are to be read from one.
        """
        if self.domain == TARGET and self.observation == "state":
            raise ValueError(
                "observation is 'state', but domain is 'target', whose dataset is read as images: "
                "use --config.observation=image."
            )


def dreamer_domains(settings: DreamerSettings) -> tuple[str, ...]:
    """The one domain."""
    return (settings.domain,)


def make_dreamer(settings: DreamerSettings, domains: Mapping[str, Domain]) -> Method:
    """The agent for its domain, see `method.Entry`.

    Raises:
        ValueError: several sources, or no state vector where one is to be read.
    """
    name = TARGET if settings.domain == TARGET else only_source(domains, "one DreamerV2 agent")
    domain = domains[name]
    state_size = domain.state_size if settings.observation == "state" else 0
    if settings.observation == "state" and not state_size:
        raise ValueError(
            f"The task of {name} gives no state vector: use --config.observation=image."
        )
    agent = make_agent(settings.network, settings.learning, domain.action_size, state_size)
    return Method(
        init=lambda key: init_agent(agent, jax.random.split(key)[1]),
        updates=_updates(agent, name),
        plan=_plan(settings, name, domain),
        players={name: make_player(agent, lambda state: state)},
        length=settings.learning.length,
        batch=settings.learning.batch,
    )


def _plan(settings: DreamerSettings, name: str, domain: Domain) -> tuple[Phase, ...]:
    """Online: random play, the unit of states, the model, the agent. Offline: the last two."""
    online, learn = settings.schedule, Phase("learn", "agent", reads=(name,), scores=(name,))
    model = learn_offline(Phase("world model", "model", reads=(name,)), settings.model_updates)
    if settings.domain == TARGET:
        return (*model, *learn_offline(learn, settings.updates))
    measured: tuple[Phase, ...] = ()
    if settings.observation == "state":
        measured = (Phase("measure", "measure", MEASURING_UPDATES, reads=(name,)),)
    learn = learn._replace(plays=name)
    return (
        prefill(name, domain, online),
        *measured,
        *model,
        *learn_online(learn, online, settings.updates, online.first_updates),
    )


def _updates(agent: Agent, name: str) -> dict[str, Update]:
    def update(
        state: AgentState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[AgentState, Metrics]:
        state, metrics = update_agent(agent, state, batches[name], key, axis_name=axis_name)
        return state, prefixed(name, metrics)

    def update_model(
        state: AgentState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[AgentState, Metrics]:
        state, _, metrics = update_world_model(
            agent, state, batches[name], key, ModelExtra(), axis_name
        )
        return state, prefixed(name, metrics)

    def measure(
        state: AgentState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[AgentState, Metrics]:
        state, metrics = update_scaling(state, batches[name], count, axis_name)
        return state, prefixed(name, metrics)

    return {"agent": update, "model": update_model, "measure": measure}

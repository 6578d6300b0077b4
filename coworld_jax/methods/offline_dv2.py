"""Offline DV2: DreamerV2 on a dataset, with a penalty where an ensemble of priors disagrees.

A baseline of CoWorld (arXiv 2305.15260, section 4.1; Tables 2, 3 and 9). The method is that of Lu
et al., "Challenges and Opportunities in Offline Reinforcement Learning from Visual Observations",
TMLR 2023 (V-D4RL); the official code is its repository's ``offlinedv2``, in TensorFlow.

* The world model is DreamerV2's of 2021 with K = 7 priors on one recurrent state. Encoder,
  recurrence and posterior are shared. Each time step uses the prior of one head, drawn for the
  whole batch from the update's key, and that head alone gets the KL's gradient.
* The model learns first, alone. Then it stays as it is, and the behaviour learns in imagination:
  from every posterior of a batch the actor makes ``learning.horizon`` steps, each with a head drawn
  anew. A reward there is ``r - penalty_scale * u``.
* ``penalty`` says what ``u`` is. ``mean_distance`` is the mean over heads of the distance between
  a head's class probabilities and their mean, all 32 x 32 taken as one vector. ``log_prob`` is
  the deviation over heads of the imagined state's log-probability. Both are differentiated through:
  the actor also learns to avoid what the heads disagree on. ``none`` switches it off.

What CoWorld's paper leaves open, and what was chosen:

* Its text gives 300k iterations and not how they are split between model and behaviour. The size
  ``paper`` makes the official 25,000 and 200,000 updates.
* It does not say which penalty and which weight. The official code's own default is no penalty;
  its instructions switch on ``mean_distance``. Until October 2023 they passed the weight by a flag
  without effect, so that 5 was used; since then 10 is. The default here is 10. Rewards of
  Meta-World are ten times as large as those of DeepMind Control, so the weight wants tuning.

As in the official code, the end of an episode is ignored: imagination goes on where the data have
discount 0.

What differs from the official code:

* Its first update trains model and behaviour together, to build the variables; here the behaviour
  begins when the model has learnt. It makes 25,100 updates of the model for 25,000 asked.
* It computes in float16; here in float32.
* Its posterior samples are Gumbel draws, ours inversions of one uniform draw; equal distributions.
* The gradient of ``mean_distance`` where all heads agree exactly is 0 here, NaN there.
* A learned weight, and the type "mean std of the mixture", which its code computes from mixed-up
  axes (`losses.mixture_std` is the formula as meant), are left out. Both are off by default there.
* The action repeat is the suite's own (2 for DeepMind Control, 1 elsewhere), episodes 500 steps.

Optimiser (Keras' Adam, ε 1e-5, then weight decay on every parameter), slow critic (copied after
updates 0, 100, 200 ...) and pairing of policy and return are the official ones; the golden values
of the official code hold for all pieces (`experiments.check_parity`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax import distributions
from coworld_jax.agents.ensemble.playing import Acting, Learnt, make_player
from coworld_jax.agents.gradient import Params, prefixed
from coworld_jax.agents.offline_dv2.agent import (
    OfflineAgent,
    OfflineState,
    init_agent,
    make_agent,
    update_behavior,
    update_world_model,
)
from coworld_jax.agents.offline_dv2.settings import LearningConfig, NetworkConfig
from coworld_jax.fields import choice
from coworld_jax.method import TARGET, Domain, Method, Phase, Update
from coworld_jax.schedule import learn_offline
from coworld_jax.types import Batch, Metrics


@dataclass(frozen=True)
class OfflineDV2Settings:
    """Everything that the method depends on besides its domain."""

    model_updates: int = 25_000  # of the world model, alone
    updates: int = 200_000  # of the behaviour, on the model as it then is
    penalty: str = choice("mean_distance", "log_prob", "none")
    penalty_scale: float = 10.0  # lambda
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)


def offline_dv2_domains(settings: OfflineDV2Settings) -> tuple[str, ...]:
    """The dataset's."""
    return (TARGET,)


def make_offline_dv2(settings: OfflineDV2Settings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`."""
    size = domains[TARGET].action_size
    penalty = (settings.penalty, settings.penalty_scale)
    agent = make_agent(settings.network, settings.learning, penalty, size)
    model = Phase("world model", "model", reads=(TARGET,))
    behavior = Phase("behaviour", "behavior", reads=(TARGET,), scores=(TARGET,))
    return Method(
        init=lambda key: init_agent(agent, jax.random.split(key)[1]),
        updates=_updates(agent),
        plan=(
            *learn_offline(model, settings.model_updates),
            *learn_offline(behavior, settings.updates),
        ),
        players={TARGET: make_player(_acting(agent), _pick)},
        length=settings.learning.length,
        batch=settings.learning.batch,
        ignores_ends=True,
    )


def _pick(state: OfflineState) -> Learnt:
    return Learnt(state.model, state.behavior.actor, state.behavior.critic)


def _acting(agent: OfflineAgent) -> Acting:
    """The policy's mode, or a sample to explore; values of states."""
    actor, critic = agent.behavior.actor, agent.behavior.critic

    def choose(params: Params, feat: jax.Array, key: jax.Array, *, explore: bool) -> jax.Array:
        loc, scale = actor.apply(params, feat)
        if not explore:
            return distributions.truncated_normal_mode(loc)
        return distributions.truncated_normal_sample(loc, scale, jax.random.uniform(key, loc.shape))

    return Acting(
        model=agent.model,
        action_size=agent.model.action_size,
        discount=agent.learning.discount,
        choose=choose,
        judge=lambda learnt, feat, action: critic.apply(learnt.critic, feat),
    )


def _updates(agent: OfflineAgent) -> dict[str, Update]:
    def model(
        state: OfflineState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[OfflineState, Metrics]:
        state, metrics = update_world_model(agent, state, batches[TARGET], key, axis_name)
        return state, prefixed(TARGET, metrics)

    def behavior(
        state: OfflineState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[OfflineState, Metrics]:
        state, metrics = update_behavior(agent, state, batches[TARGET], key, count, axis_name)
        return state, prefixed(TARGET, metrics)

    return {"model": model, "behavior": behavior}

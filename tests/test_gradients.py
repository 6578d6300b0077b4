"""The gradient table: which loss reaches which parameters, exact zeros everywhere else.

The couplings are taken from CoWorld's updates themselves: the agent's update, which would apply a
term, is replaced by one that hands the term out, so that it is differentiated as it was written.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax.agents.dreamer import behavior, world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState, make_agent
from coworld_jax.agents.dreamer.behavior import Imagined, Noise
from coworld_jax.agents.dreamer.updates import (
    BehaviorExtra,
    CriticTerms,
    ModelExtra,
    observe_all,
    see,
)
from coworld_jax.methods.coworld import couplings
from coworld_jax.methods.coworld.couplings import source_update, target_update
from coworld_jax.methods.coworld.state import CoWorld, CoWorldState, init_coworld
from coworld_jax.types import Batch, Latent

# What each term of a world-model loss must reach: the learner's networks, or another agent's.
MODEL_TERMS = {
    "image": {"learner/encoder", "learner/rssm", "learner/decoder"},
    "reward": {"learner/encoder", "learner/rssm", "learner/reward"},
    "continue": {"learner/encoder", "learner/rssm", "learner/continuation"},
    "kl": {"learner/encoder", "learner/rssm"},
    "alignment": {"learner/encoder"},
}


class Recorder:
    """Stands in for the agent's two updates, and keeps the terms that a coupling adds."""

    def __init__(self) -> None:
        self.terms: dict[str, jax.Array] = {}
        self.added: dict[str, jax.Array] = {}
        self.replaced: dict[str, jax.Array] = {}
        self.critic_terms: CriticTerms | None = None

    @property
    def extra(self) -> dict[str, jax.Array]:
        """All terms of the coupling."""
        return self.added | self.replaced

    def update_world_model(
        self,
        agent: Agent,
        state: AgentState,
        batch: Batch,
        key: jax.Array,
        extra: ModelExtra,
        axis_name: str | None = None,
    ) -> tuple[AgentState, world_model.Observation, dict[str, jax.Array]]:
        params, seen = state.world_model, see(agent, state, batch, key, axis_name)
        observed, *beside = observe_all(params, agent.model, seen, extra.beside)
        prediction = world_model.predict(agent.model, params, observed)
        self.terms = world_model.likelihood_losses(
            agent.model, params, observed, prediction, batch, seen.observation
        )
        self.terms["kl"] = world_model.balanced_kl(observed, 0.8, 0.0)
        self.added, self.replaced, logged = extra.terms(params, observed, prediction, beside)
        # Terms that are added have a weight each; terms that are replaced are the agent's own.
        assert set(extra.weights) == set(self.added)
        assert set(self.replaced) <= set(self.terms)
        terms = self.extra | logged
        metrics = {f"model/{name}": jnp.mean(term) for name, term in terms.items()}
        return state, observed, metrics

    def update_behavior(
        self,
        agent: Agent,
        state: AgentState,
        post: Latent,
        discount: jax.Array,
        key: jax.Array,
        extra: BehaviorExtra,
        axis_name: str | None = None,
    ) -> tuple[AgentState, dict[str, jax.Array]]:
        self.critic_terms = extra.critic_terms
        return state, {}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setattr(couplings, "update_world_model", found.update_world_model)
    monkeypatch.setattr(couplings, "update_behavior", found.update_behavior)
    return found


@functools.cache
def method_and_state(state_size: int = 0) -> tuple[CoWorld, CoWorldState]:
    """Categorical latents, discount head; eta goes from 1 to 0 over two updates."""
    settings = tiny.with_settings(
        tiny.categorical(),
        coupling={"source_reward_weight_start": 1.0, "source_reward_weight_end": 0.0},
    ).settings
    sizes = settings.network, settings.learning, tiny.ACTION
    target = source = make_agent(*sizes)
    if state_size:
        source = make_agent(*sizes, state_size, bridge=True)
    coworld = CoWorld(target, (source,), ("source",), settings.coupling, aligned_updates=2)
    return coworld, jax.jit(lambda key: init_coworld(coworld, key))(jax.random.key(7))


def nonzero(grads: dict[str, Any]) -> set[str]:
    """Names of the groups in which any gradient is not exactly zero."""
    return {
        name
        for name, group in grads.items()
        if any(np.any(leaf) for leaf in jax.tree.leaves(group))
    }


def test_target_world_model_terms_reach_what_the_method_states(recorder: Recorder) -> None:
    method, state = method_and_state()

    def terms(params: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        target = state.target.replace(
            world_model={name: params[f"learner/{name}"] for name in state.target.world_model}
        )
        source = state.sources[0].replace(
            world_model={name: params[f"other/{name}"] for name in state.target.world_model},
            critic=params["other/critic"],
        )
        key = jax.random.key(0)
        pair = CoWorldState(target=target, sources=(source,))
        target_update(method, pair, batch, key, behavior=False)
        return {name: jnp.mean(term) for name, term in (recorder.terms | recorder.extra).items()}

    params = {f"learner/{name}": value for name, value in state.target.world_model.items()}
    params |= {f"other/{name}": value for name, value in state.sources[0].world_model.items()}
    params["other/critic"] = state.sources[0].critic

    @jax.jit
    def pull(params: dict[str, Any], batch: Batch, weights: dict[str, jax.Array]) -> dict[str, Any]:
        return jax.vjp(lambda params: terms(params, batch), params)[1](weights)[0]

    found = {}
    for term in MODEL_TERMS:
        weights = {name: jnp.asarray(float(name == term)) for name in MODEL_TERMS}
        found[term] = nonzero(pull(params, tiny.batch(1), weights))
    assert found == MODEL_TERMS


# The same for a source that reads states; "reward" of its own batch and of the target's.
STATE_TERMS = {
    "state": {"encoder", "rssm", "decoder"},
    "reward": {"encoder", "rssm", "reward"},
    "aligned reward": {"bridge", "rssm", "reward"},
    "continue": {"encoder", "rssm", "continuation"},
    "kl": {"encoder", "rssm"},
    "bridge": {"bridge"},
}


@pytest.mark.slow
def test_terms_of_a_source_that_reads_states_reach_what_the_method_states(
    recorder: Recorder,
) -> None:
    method, state = method_and_state(5)
    source = state.sources[0]

    def terms(params: Any, own: Batch, other: Batch) -> dict[str, jax.Array]:
        # Two updates done: eta is 0, and nothing is left of the own batch in the aligned term.
        learner = source.replace(world_model=params, aligned_updates=jnp.asarray(2))
        source_update(method, 0, learner, own, other, jax.random.key(0))
        assert set(recorder.added) == {"bridge"} and set(recorder.replaced) == {"reward"}
        aligned = {"aligned reward": recorder.extra["reward"], "bridge": recorder.extra["bridge"]}
        return {name: jnp.mean(term) for name, term in (recorder.terms | aligned).items()}

    @jax.jit
    def pull(params: Any, weights: dict[str, jax.Array]) -> dict[str, Any]:
        batches = tiny.batch(0, state_size=5), tiny.batch(1)
        return jax.vjp(lambda params: terms(params, *batches), params)[1](weights)[0]

    found = {}
    for term in STATE_TERMS:
        weights = {name: jnp.asarray(float(name == term)) for name in STATE_TERMS}
        found[term] = nonzero(pull(source.world_model, weights))
    assert found == STATE_TERMS


@pytest.mark.slow
def test_alignment_with_a_source_that_reads_states_reaches_the_targets_encoder(
    recorder: Recorder,
) -> None:
    method, state = method_and_state(5)

    @jax.jit
    @jax.grad
    def pull(params: tuple[Any, Any], batch: Batch) -> jax.Array:
        target = state.target.replace(world_model=params[0])
        source = state.sources[0].replace(world_model=params[1])
        key = jax.random.key(0)
        pair = CoWorldState(target=target, sources=(source,))
        target_update(method, pair, batch, key, behavior=False)
        return recorder.extra["alignment"].mean()

    of_target, of_source = pull(
        (state.target.world_model, state.sources[0].world_model), tiny.batch(1)
    )
    assert nonzero(of_target) == {"encoder"} and nonzero(of_source) == set()


def test_reward_alignment_pulls_by_both_terms(recorder: Recorder) -> None:
    method, state = method_and_state()
    source = state.sources[0]

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def term(
        params: Any, aligned: jax.Array, source_batch: Batch, target_batch: Batch
    ) -> tuple[jax.Array, jax.Array]:
        learner = source.replace(world_model=params, aligned_updates=aligned)
        source_update(method, 0, learner, source_batch, target_batch, jax.random.key(0))
        assert set(recorder.replaced) == {"reward"} and not recorder.added
        return recorder.extra["reward"].mean(), recorder.extra["reward"]

    own, other = tiny.batch(0), tiny.batch(1)
    own_moved = own._replace(reward=own.reward + 1.0)
    other_moved = other._replace(reward=other.reward + 1.0)
    # Updates so far (eta = 1, 1/2, 0), does the source's reward matter, does the target's.
    for updates, by_own, by_other in ((0, True, False), (1, True, True), (2, False, True)):
        aligned = jnp.asarray(updates)
        (_, value), grads = term(source.world_model, aligned, own, other)
        # Either term alone reaches encoder, RSSM and reward head.
        assert nonzero(grads) == {"encoder", "rssm", "reward"}
        (_, moved), _ = term(source.world_model, aligned, own_moved, other)
        assert np.any(moved != value) == by_own
        (_, moved), _ = term(source.world_model, aligned, own, other_moved)
        assert np.any(moved != value) == by_other
    # With eta = 0, what is left looks at the target's images and actions, and at no own ones.
    for batch, matters in ((own, False), (other, True)):
        images, actions = (
            batch._replace(image=255 - batch.image),
            batch._replace(action=batch.action / 2),
        )
        for moved_batch in (images, actions):
            batches = (own, moved_batch) if matters else (moved_batch, other)
            (_, moved), _ = term(source.world_model, aligned, *batches)
            assert np.any(moved != value) == matters


def _imagined(method: CoWorld, seed: int = 0) -> Imagined:
    """Imagined states as the critic sees them."""
    rssm = method.target.model.rssm
    rng = np.random.default_rng(seed)
    return Imagined(
        feat=jnp.asarray(rng.normal(size=(2, 5, rssm.stoch + rssm.deter)), jnp.float32),
        lambda_return=jnp.asarray(rng.normal(size=(2, 5)), jnp.float32),
        weight=jnp.asarray(rng.uniform(0.5, 1.0, (2, 5)), jnp.float32),
    )


def test_critic_terms_reach_the_target_critic_alone(recorder: Recorder) -> None:
    method, state = method_and_state()
    batch = tiny.batch(0)

    def terms(critic: Any, source_critic: Any, imagined: Imagined) -> dict[str, jax.Array]:
        loss, value = behavior.critic_terms(critic, method.target, imagined)
        source = state.sources[0].replace(critic=source_critic)
        pair = CoWorldState(target=state.target, sources=(source,))
        target_update(method, pair, batch, jax.random.key(0))
        assert recorder.critic_terms is not None
        constraint = recorder.critic_terms(critic, imagined, value).added["constraint"]
        return {"regression": loss.sum(), "constraint": constraint.sum()}

    table = jax.jit(jax.jacrev(terms, argnums=(0, 1, 2)))
    critic = state.target.critic

    def moved(by: float) -> Any:
        """The source's critic, its output shifted."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + by if "output" in str(path) and leaf.ndim == 1 else leaf,
            state.sources[0].critic,
        )

    for shift, pulls in ((-1e4, True), (1e4, False)):
        found = table(critic, moved(shift), _imagined(method))
        for term, to_critic in (("regression", True), ("constraint", pulls)):
            own, of_source, imagined = found[term]
            # The source's critic, the returns and the weights are only read.
            names = {
                "own": own,
                "source": of_source,
                "data": (imagined.lambda_return, imagined.weight),
            }
            assert nonzero(names) == ({"own"} if to_critic else set())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_actor_loss_reaches_the_actor_and_not_the_critic(share: float) -> None:
    method, state = method_and_state()
    learning = replace(
        method.target.learning, discount=0.9, dynamics_share=share, entropy_scale=1e-3
    )
    agent = method.target._replace(learning=learning)
    start = world_model.initial_latent(agent.model, 4)
    rng = np.random.default_rng(1)
    noise = Noise(
        latent=jnp.asarray(rng.uniform(size=(2, 4, agent.model.rssm.groups)), jnp.float32),
        action=jnp.asarray(rng.uniform(size=(2, 4, tiny.ACTION)), jnp.float32),
    )

    def loss(actor: Any, critic: Any) -> jax.Array:
        mine = state.target.replace(critic=critic)
        terms, _ = behavior.actor_terms(actor, agent, mine, start, jnp.ones(4), noise)
        return terms.sum()

    actor, critic = jax.jit(jax.grad(loss, argnums=(0, 1)))(state.target.actor, state.target.critic)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(actor))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(critic))

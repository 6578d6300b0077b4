"""Time indices and laws of filtering and imagination, on the smallest networks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import close
from tiny_world_model import KINDS, B, Case, T, make_case

from coworld_jax.agents.dreamer import behavior, world_model
from coworld_jax.agents.dreamer.acting import act, initial_acting_state, make_player
from coworld_jax.agents.dreamer.behavior import Noise
from coworld_jax.agents.dreamer.world_model import Chunks
from coworld_jax.policy import AgentPolicy
from coworld_jax.types import Latent


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


def changed(found: Latent, other: Latent) -> dict[str, np.ndarray]:
    """For every field, at which time steps two series of latents differ."""
    fields = {"deter": (found.deter, other.deter)} | {
        name: (found.stats[name], other.stats[name]) for name in found.stats
    }
    return {
        name: np.any(np.asarray(a != b).reshape(len(a), -1), axis=1)
        for name, (a, b) in fields.items()
    }


def test_observe_is_a_loop_of_steps(case: Case) -> None:
    model, params = case.agent.model, case.state.world_model
    seen = case.observe(case.embed, case.action, case.noise)
    projected = model.rssm.apply(params["rssm"], case.embed, method="project")
    latent = world_model.initial_latent(model, B)
    for t in range(T):
        latent = world_model.observe_step(
            model, params, latent, case.action[t], projected[t], case.noise[t]
        )
        close(jax.tree.map(lambda leaf, t=t: leaf[t], seen.post), latent)
        prior = world_model.prior_stats(model, params, latent.deter)
        close(jax.tree.map(lambda leaf, t=t: leaf[t], seen.prior), prior)
    assert seen.feat.shape == (T, B, model.rssm.stoch + model.rssm.deter)
    np.testing.assert_array_equal(seen.feat[..., : model.rssm.stoch], seen.post.stoch)


def test_batches_that_are_filtered_side_by_side_do_not_mix(case: Case) -> None:
    """A second batch of another size changes nothing in the first, and the reverse."""
    model, params = case.agent.model, case.state.world_model
    own = Chunks(case.embed, case.action, case.noise)
    other = Chunks(case.embed[:, :1] + 1.0, -case.action[:, :1], case.noise[:, 1:])
    both = jax.jit(partial(world_model.observe_each, model))(params, [own, other])
    for found, batch in zip(both, (own, other), strict=True):
        close(found, jax.jit(partial(world_model.observe, model))(params, *batch))


def test_an_action_led_to_the_image_of_its_own_index(case: Case) -> None:
    seen = case.observe(case.embed, case.action, case.noise)
    other = case.observe(case.embed, case.action.at[2].add(0.5), case.noise)
    for steps in changed(seen.post, other.post).values():
        np.testing.assert_array_equal(steps, [False, False, True, True])
    for name in seen.prior:
        steps = np.any(np.asarray(seen.prior[name] != other.prior[name]).reshape(T, -1), axis=1)
        np.testing.assert_array_equal(steps, [False, False, True, True])


def test_an_image_is_seen_by_its_posterior_and_not_by_its_prior(case: Case) -> None:
    seen = case.observe(case.embed, case.action, case.noise)
    # A whole change of the embedding, so that categorical samples downstream change as well.
    other = case.observe(case.embed.at[1].add(30.0), case.action, case.noise)
    steps = changed(seen.post, other.post)
    np.testing.assert_array_equal(steps.pop("deter"), [False, False, True, True])
    for found in steps.values():
        np.testing.assert_array_equal(found, [False, True, True, True])
    for name in seen.prior:
        found = np.any(np.asarray(seen.prior[name] != other.prior[name]).reshape(T, -1), axis=1)
        np.testing.assert_array_equal(found, [False, False, True, True])


def test_examples_of_a_batch_do_not_meet(case: Case) -> None:
    both = case.observe(case.embed, case.action, case.noise)
    other = case.observe(case.embed.at[:, 1].add(1.0), case.action.at[:, 1].add(0.1), case.noise)
    np.testing.assert_array_equal(both.feat[:, 0], other.feat[:, 0])
    assert np.any(both.feat[:, 1] != other.feat[:, 1])


def test_modes_are_the_means_or_the_likeliest_classes(case: Case) -> None:
    seen = case.observe(case.embed, case.action, None)
    if "mean" in seen.post.stats:
        np.testing.assert_array_equal(seen.post.stoch, seen.post.stats["mean"])
        return
    logits = np.asarray(seen.post.stats["logits"])
    one_hot = np.eye(logits.shape[-1])[logits.argmax(-1)]
    np.testing.assert_allclose(seen.post.stoch, one_hot.reshape(T, B, -1), atol=1e-6)


def test_replayed_actions_are_a_loop_of_imagined_steps(case: Case) -> None:
    model, params = case.agent.model, case.state.world_model
    start = jax.tree.map(
        lambda leaf: leaf[-1], case.observe(case.embed, case.action, case.noise).post
    )
    found = world_model.replay_actions(model, params, start, case.action, case.noise)
    latent = start
    for t in range(T):
        latent = world_model.imagine_step(model, params, latent, case.action[t], case.noise[t])
        close(jax.tree.map(lambda leaf, t=t: leaf[t], found), latent)
    # Imagination and filtering share the recurrence: the same action leads to the same deter.
    projected = model.rssm.apply(params["rssm"], case.embed, method="project")
    post = world_model.observe_step(model, params, start, case.action[0], projected[0], None)
    close(found.deter[0], post.deter)


def _rollout(
    case: Case, start: Latent, action_noise: jax.Array, action_size: int = tiny.ACTION
) -> behavior.Rollout:
    return behavior.imagine(
        case.agent._replace(action_size=action_size),
        case.state.world_model,
        case.state.actor,
        start,
        Noise(case.noise, action_noise),
    )


def test_surplus_coordinates_are_zero_in_imagination_as_in_episodes(case: Case) -> None:
    """No simulator takes them, so the world model has never learnt what they do."""
    start = world_model.initial_latent(case.agent.model, B)
    uniform = jax.random.uniform(jax.random.key(1), (T, B, tiny.ACTION))
    whole, found = _rollout(case, start, uniform), _rollout(case, start, uniform, 2)
    assert np.all(whole.action[..., 2]) and not np.any(found.action[..., 2])
    np.testing.assert_array_equal(found.action[0, :, :2], whole.action[0, :, :2])
    assert np.any(found.feat != whole.feat)


def _states(rollout: behavior.Rollout) -> jax.Array:
    """Features of all its states, ``[H, N, F]``."""
    return jnp.concatenate([rollout.feat, rollout.last[None]])


def test_an_agent_keeps_what_its_simulator_does_not_take_at_zero(case: Case) -> None:
    agent = case.agent._replace(action_size=2)
    player = make_player(agent, lambda state: state, {})
    params, frame = player.params(case.state), np.zeros((64, 64, 3), np.uint8)
    memory, action = jax.jit(
        lambda memory: player.act(params, memory, frame[None], jax.random.key(0), explore=True)
    )(player.start(1))
    assert np.all(memory.action[:, :2]) and not np.any(memory.action[:, 2:])
    np.testing.assert_array_equal(action, memory.action)
    assert player.action_size == 2
    policy = AgentPolicy(player, case.state, 64, 0, explore=True)
    assert policy.episode(0)(frame).shape == (2,)


def test_imagination_begins_at_the_start_and_acts_before_it_moves(case: Case) -> None:
    model, params = case.agent.model, case.state.world_model
    start = jax.tree.map(
        lambda leaf: leaf[1], case.observe(case.embed, case.action, case.noise).post
    )
    uniform = jax.random.uniform(jax.random.key(1), (T, B, tiny.ACTION))
    found = _rollout(case, start, uniform)
    feat = _states(found)
    assert feat.shape[0] == T + 1 and found.action.shape[0] == T
    np.testing.assert_array_equal(feat[0], world_model.features(start))
    latent = start
    for t in range(T):
        loc, scale = case.agent.actor.apply(case.state.actor, feat[t])
        close((found.loc[t], found.scale[t]), (loc, scale))
        latent = world_model.imagine_step(model, params, latent, found.action[t], case.noise[t])
        close(feat[t + 1], world_model.features(latent))
    # Another draw at index 2 is another action there, and another state only after it.
    other = _rollout(case, start, uniform.at[2].set(1.0 - uniform[2]))
    same_action = [bool(np.all(found.action[t] == other.action[t])) for t in range(T)]
    same_state = [bool(np.all(feat[t] == _states(other)[t])) for t in range(T + 1)]
    assert same_action[:3] == [True, True, False]
    assert same_state == [True, True, True, False, False]


def test_an_action_reaches_later_states_but_no_later_policy(case: Case) -> None:
    start = world_model.initial_latent(case.agent.model, B)
    uniform = jnp.full((T, B, tiny.ACTION), 0.4)

    def sums(uniform: jax.Array) -> tuple[jax.Array, jax.Array]:
        rollout = _rollout(case, start, uniform)
        return rollout.feat[2].sum(), rollout.loc[2].sum()

    to_state, to_policy = jax.jit(jax.jacrev(sums))(uniform)
    assert np.any(to_state[0]) and np.any(to_state[1])
    assert not np.any(to_state[2:])
    assert not np.any(to_policy), "the actor's input must be stopped"


def test_actor_and_critic_targets_use_the_states_they_belong_to(case: Case) -> None:
    agent, state = case.agent, case.state
    model, params = agent.model, state.world_model
    start = jax.tree.map(
        lambda leaf: leaf[0], case.observe(case.embed, case.action, case.noise).post
    )
    uniform = jax.random.uniform(jax.random.key(2), (T, B, tiny.ACTION))
    slow = jax.tree.map(lambda leaf: leaf + 0.1, state.critic)
    alive = jnp.asarray([1.0, 0.0])  # the second start state was terminal
    share, entropy_scale = 0.5, 0.01
    learning = replace(
        agent.learning, discount=0.9, lambda_=0.7, dynamics_share=share, entropy_scale=entropy_scale
    )
    narrow = agent._replace(learning=learning, action_size=2)  # of three
    loss, (imagined, logged) = behavior.actor_terms(
        state.actor,
        narrow,
        state.replace(slow_critic=slow),
        start,
        alive,
        Noise(case.noise, uniform),
    )
    rollout = _rollout(case, start, uniform, 2)
    action, loc, scale = (x[..., :2] for x in rollout[2:])
    feat = _states(rollout)
    close(imagined.feat, feat[:-1])
    reward = np.asarray(world_model.predict_reward(model, params, feat))
    value = np.asarray(agent.critic.apply(slow, feat))
    gamma = 0.9 * np.asarray(world_model.predict_continuation(model, params, feat))
    if model.continuation is not None:
        gamma[0] = 0.9 * np.asarray(alive)  # the replay knows, the head need not guess
    later, expected, weight = value[T], np.zeros((T, B)), np.ones((T, B))
    for t in reversed(range(T)):
        later = reward[t] + gamma[t] * (0.3 * value[t + 1] + 0.7 * later)
        expected[t] = later
    for t in range(1, T):
        weight[t] = weight[t - 1] * gamma[t - 1]
    close(imagined.lambda_return, expected)
    close(imagined.weight, weight)
    baseline = np.asarray(agent.critic.apply(state.critic, feat[:-1]))
    log_prob = np.asarray(
        behavior.distributions.truncated_normal_log_prob(action, loc, scale).sum(-1)
    )
    entropy = behavior.distributions.truncated_normal_entropy(loc, scale).sum(-1)
    close(logged["entropy"], entropy)
    objective = share * expected + (1 - share) * log_prob * (expected - baseline)
    close(loss, -weight * (objective + entropy_scale * np.asarray(entropy)), 1e-4)
    critic_loss, at_states = behavior.critic_terms(state.critic, agent, imagined)
    close(at_states, baseline)
    close(critic_loss, weight * 0.5 * (baseline - expected) ** 2, 1e-4)


def test_acting_sees_what_filtering_sees(case: Case) -> None:
    agent, state, model = case.agent, case.state, case.agent.model
    image = tiny.batch(3).image[:3]
    acting, keys = initial_acting_state(agent.model, B), jax.random.split(jax.random.key(4), 3)
    actions, noise = [acting.action], []
    step = jax.jit(
        lambda acting, frame, key: act(
            agent,
            {"world_model": state.world_model, "actor": state.actor},
            acting,
            frame,
            key,
            explore=False,
        )
    )
    for frame, key in zip(image, keys, strict=True):
        key_latent, _ = jax.random.split(key)
        noise.append(world_model.latent_noise(model, key_latent, 1, B)[0])
        acting, action = step(acting, frame, jax.random.clone(key))
        np.testing.assert_array_equal(action, acting.action)  # its simulator takes all of them
        actions.append(acting.action)
    embed = world_model.encode(model, state.world_model, world_model.normalise_image(image))
    # The action chosen at frame t is row t + 1 of an episode: it led to the next image.
    seen = world_model.observe(
        model, state.world_model, embed, jnp.stack(actions[:-1]), jnp.stack(noise)
    )
    close(acting.latent.deter, seen.post.deter[-1])
    close(acting.latent.stoch, seen.post.stoch[-1])
    loc, _ = agent.actor.apply(state.actor, seen.feat[-1])
    close(acting.action, loc)
    assert not np.any(actions[0])


def test_noise_of_an_example_is_its_own(case: Case) -> None:
    model, key = case.agent.model, jax.random.key(5)
    small = world_model.latent_noise(model, jax.random.clone(key), 3, 2)
    large = world_model.latent_noise(model, jax.random.clone(key), 3, 5)
    assert small.shape == (3, 2, model.rssm.groups)
    np.testing.assert_array_equal(small, large[:, :2])
    assert np.any(large[:, 0] != large[:, 1]) and np.any(large[0] != large[1])
    # Two devices with two examples each draw what one device draws for four.
    both = jax.vmap(
        lambda _: world_model.latent_noise(model, key, 3, 2, "devices"), axis_name="devices"
    )(jnp.arange(2))
    np.testing.assert_array_equal(jnp.concatenate(list(both), axis=1), large[:, :4])

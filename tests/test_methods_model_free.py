"""Methods without a world model: their data, their schedules, their players, their updates."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from weights import r3m_weights

from coworld_jax import fields, losses, parallel
from coworld_jax.agents import model_free as agents
from coworld_jax.agents import r3m
from coworld_jax.agents.cloning import clone, init_head, update_head
from coworld_jax.agents.model_free import data
from coworld_jax.agents.model_free.acting import see, start
from coworld_jax.agents.model_free.settings import FramesConfig, make_pixel_agent
from coworld_jax.augment import resize_bicubic
from coworld_jax.method import TARGET, Method
from coworld_jax.methods import METHODS, bc, cql, curl, drq_bc
from coworld_jax.networks import CloningHead
from coworld_jax.torch_file import read_tensors
from coworld_jax.types import Batch

STATE_SIZE = 5  # as in test_contract.py, whose compiled updates are these
SLOW = [pytest.mark.slow]
PIXELS = ["bc", "drq_bc", pytest.param("cql", marks=SLOW), pytest.param("curl", marks=SLOW)]


def chunks(rows: int, batch: int = 2, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    shape = (rows, batch)
    return Batch(
        image=jnp.asarray(rng.integers(0, 256, (*shape, 64, 64, 3), np.uint8)),
        action=jnp.asarray(rng.uniform(-1.5, 1.5, (*shape, tiny.ACTION)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=shape), jnp.float32),
        discount=jnp.asarray(rng.integers(0, 2, shape), jnp.float32),
        state=jnp.zeros((*shape, STATE_SIZE)),
    )


@functools.cache
def made(method: str) -> tuple[Method, Any]:
    settings = tiny.OTHERS[method]
    method_ = METHODS[method].make(settings, tiny.domains(sources=0))
    return method_, jax.jit(method_.init)(jax.random.key(7))


@functools.cache
def updated(method: str, count: int) -> tuple[Any, dict[str, jax.Array]]:
    """The first update of a phase, or that at another ``count``, from one state and batch."""
    made_, state = made(method)
    batches = {TARGET: chunks(made_.length)}
    return compiled(method)(state, batches, jax.random.key(3), jnp.int32(count))


@functools.cache
def compiled(method: str) -> Any:
    return tiny.counted(made(method)[0].updates["agent"])[0]


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stack", "n_step"), [(3, 1), (3, 3), (1, 1), (2, 4)])
def test_a_chunk_is_one_transition(stack: int, n_step: int) -> None:
    """Against a loop over examples, rows and frames."""
    frames, gamma = FramesConfig(stack=stack), 0.9
    rows = data.chunk_length(frames, n_step)
    batch = chunks(rows, batch=3)
    found = data.transitions(batch, frames, n_step, gamma)
    image, reward = np.asarray(batch.image), np.asarray(batch.reward)
    newest = stack - 1  # row of the state
    assert rows == newest + n_step + 1
    for b in range(3):
        for f in range(stack):
            channels = slice(3 * f, 3 * f + 3)
            row = newest - (stack - 1) + f
            np.testing.assert_array_equal(found.obs[b, :, :, channels], image[row, b])
            np.testing.assert_array_equal(found.next_obs[b, :, :, channels], image[row + n_step, b])
        total = 0.0
        for i in range(n_step):
            total += gamma**i * reward[newest + 1 + i, b]
        np.testing.assert_allclose(found.reward[b], total, rtol=1e-5)
        last = gamma**n_step * float(batch.discount[newest + n_step, b])
        np.testing.assert_allclose(found.discount[b], last, rtol=1e-6)
        np.testing.assert_array_equal(found.action[b], batch.action[newest + 1, b])


def test_frames_are_enlarged_before_they_are_stacked() -> None:
    frames, batch = FramesConfig(image_size=84), chunks(4)
    found = data.transitions(batch, frames)
    assert found.obs.shape == (2, 84, 84, 9) == (2, *frames.shape)
    np.testing.assert_array_equal(found.obs[1, :, :, 3:6], resize_bicubic(batch.image[1, 1], 84))


def test_draws_belong_to_examples_and_fill_their_ranges() -> None:
    many, few = data.draw(jax.random.key(0), 200, 2), data.draw(jax.random.key(0), 3, 2)
    for longer, shorter in zip(many, few, strict=True):
        np.testing.assert_array_equal(longer[:3], shorter)
    assert (many.shift.min(), many.shift.max()) == (0, 8)
    assert np.any(many.shift != many.next_shift) and np.any(many.target != many.actor)
    windows = data.draw_windows(jax.random.key(1), 200, 5, 2)
    # The official code draws corners below the margin, which it never reaches.
    assert (windows.obs.min(), windows.obs.max()) == (0, 4)
    assert np.any(windows.obs != windows.positive)
    candidates = data.draw_candidates(jax.random.key(2), 50, 4, 2)
    assert candidates.random.shape == candidates.current.shape == (50, 4, 2)
    assert candidates.random.min() < -0.9 and np.abs(candidates.random).max() <= 1.0
    assert np.abs(candidates.next).max() > 1.5 and np.any(candidates.next != candidates.current)


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "loss"), [("bc", "loss"), ("drq_bc", "cloning")])
def test_the_noise_falls_with_the_count_of_updates(method: str, loss: str) -> None:
    length = tiny.OTHERS[method].noise.updates
    for count, share in [(0, 0.0), (length // 2, 0.5), (length, 1.0), (3 * length, 1.0)]:
        _, metrics = updated(method, count)
        wanted = 1.0 - share * 0.9
        np.testing.assert_allclose(metrics["target/actor/noise"], wanted, rtol=1e-6)
    first, last = (updated(method, count)[1][f"target/actor/{loss}"] for count in (0, length))
    assert first != last, "the loss has the noise"


def same(one: Any, other: Any) -> bool:
    """Whether two trees are equal, bit by bit."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def test_curls_actor_steps_on_even_updates() -> None:
    _, before = made("curl")
    sometimes = ("actor", "log_temperature", "slow_critic", "slow_encoder", "actor_opt")
    for count, moves in [(0, True), (1, False), (2, True), (7, False)]:
        after, metrics = updated("curl", count)
        for part in sometimes:
            assert same(getattr(after, part), getattr(before, part)) != moves, (count, part)
        assert (metrics["target/actor/log_prob"] != 0.0) == moves
        for part in ("encoder", "critic", "contrast"):
            assert not same(getattr(after, part), getattr(before, part)), (count, part)


# --- the agents' updates --------------------------------------------------------------------------


def by_hand(method: str) -> tuple[Any, Any]:
    """The pure update of the agent on the method's first transition and draws."""
    settings, (made_, state) = tiny.OTHERS[method], made(method)
    batch, key = chunks(made_.length), jax.random.key(3)
    gamma = 1.0 if method == "bc" else settings.critic.discount
    steps = data.transitions(batch, settings.frames, 1, gamma)
    if method == "curl":
        agent = curl._agent(settings, tiny.ACTION)
        draws = data.draw_windows(key, tiny.BATCH, 10, tiny.ACTION)
        return agents.update_curl(agent, state, steps, draws, jnp.asarray(True))
    agent = make_pixel_agent(
        settings.network, settings.learning, settings.noise, tiny.ACTION, slow_rate=0.01
    )
    std = jnp.float32(1.0)
    if method == "bc":
        return agents.update_bc(agent, state, steps, data.draw(key, 2, tiny.ACTION), std)
    if method == "drq_bc":
        draws = data.draw(key, 2, tiny.ACTION)
        return agents.update_drq_bc(agent, state, steps, draws, std, 2.5)
    key_draws, key_candidates = jax.random.split(key)
    candidates = data.draw_candidates(key_candidates, 2, 2, tiny.ACTION)
    draws = data.draw(key_draws, 2, tiny.ACTION)
    return agents.update_cql(agent, state, steps, draws, candidates, std, 10.0)


@pytest.mark.parametrize("method", PIXELS)
def test_the_first_update_is_that_of_the_agent(method: str) -> None:
    after, metrics = updated(method, 0)
    wanted, trace = jax.jit(by_hand, static_argnums=0)(method)
    logged = {"curl": curl.LOGGED, "cql": cql.LOGGED, "drq_bc": drq_bc.LOGGED, "bc": bc.LOGGED}
    for metric, name in logged[method].items():
        np.testing.assert_allclose(
            metrics[f"target/{metric}"], np.mean(trace.values[name]), rtol=1e-4, err_msg=metric
        )
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=SLOW) for name in ("drq_bc", "bc", "cql", "curl", "r3m_bc")],
)
def test_two_devices_make_the_updates_of_one(method: str) -> None:
    """Each has half of the batch: means, moments and contrasts span both."""

    def run(devices: int) -> Any:
        made_, state = tiny.start(tiny.of_method(method))
        mesh = parallel.make_mesh(devices, tiny.BATCH)
        resident = parallel.replicate({TARGET: tiny.store(2)}, mesh)
        return tiny.scan(made_, "agent", 2, parallel.replicate(state, mesh), resident, {}, mesh)

    (one, logged), (two, logged_by_two) = run(1), run(2)
    for metric, value in logged.items():
        np.testing.assert_allclose(
            logged_by_two[metric], value, rtol=2e-3, atol=1e-4, err_msg=metric
        )
    for got, want in zip(jax.tree.leaves(two.learnt), jax.tree.leaves(one.learnt), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


# --- players --------------------------------------------------------------------------------------


def test_a_stack_repeats_the_first_frame_and_forgets_the_oldest() -> None:
    frames = FramesConfig(stack=3)
    seen = chunks(5).image
    memory = start(frames, 2)
    for row in range(5):
        memory = see(frames, memory, seen[row])
        for place in range(3):
            wanted = seen[max(row - 2 + place, 0)]
            np.testing.assert_array_equal(memory.stack[..., 3 * place : 3 * place + 3], wanted)


@pytest.mark.parametrize("method", ["curl", "drq_bc"])
def test_values_are_aligned_with_rewards(method: str) -> None:
    """Row t has the lower critic's value of the stack before it and the action that led to it."""
    made_, state = made(method)
    player, batch = made_.players[TARGET], chunks(4)
    found = player.values(state, batch.image, batch.action, jax.random.key(0))["critic"]
    other = batch._replace(action=batch.action.at[2].add(0.5))
    changed = player.values(state, other.image, other.action, jax.random.key(0))["critic"]
    assert [bool(np.any(row)) for row in found != changed] == [False, False, True, False]
    # The last frame is judged by no action.
    other = batch._replace(image=batch.image.at[3].set(0))
    same = player.values(state, other.image, batch.action, jax.random.key(0))["critic"]
    np.testing.assert_array_equal(found, same)
    assert player.discount == 0.99 and player.predict is None


def test_players_without_a_critic_give_no_values() -> None:
    assert made("bc")[0].players[TARGET].values is None


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "change", "sentence"),
    [
        ("bc", {"frames": FramesConfig(image_size=32)}, "frames.image_size is 32: .* at least 64"),
        ("curl", {"crop": 64}, "crop is 64: it must be less than frames.image_size, 64"),
        ("curl", {"temperature": 0.0}, "temperature is 0: it must be positive"),
        ("r3m_bc", {"learning": None}, "learning.batch is 1: batch normalisation needs at least 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    method: str, change: dict[str, Any], sentence: str
) -> None:
    settings = tiny.OTHERS[method]
    if change == {"learning": None}:
        change = {"learning": replace(settings.learning, batch=1)}
    with pytest.raises(ValueError, match=sentence):
        fields.check(replace(settings, **change))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ("", "weights is empty: name a file with R3M's weights, --config.weights=FILE"),
        ("nowhere.pt", "--config.weights=nowhere.pt: nowhere.pt does not exist"),
    ],
)
def test_missing_weights_are_named_when_the_method_is_made(weights: str, sentence: str) -> None:
    settings = replace(tiny.OTHERS["r3m_bc"], weights=weights)
    with pytest.raises(ValueError, match=sentence):
        METHODS["r3m_bc"].make(settings, tiny.domains(sources=0))


# --- R3M's policy ---------------------------------------------------------------------------------


def test_a_head_normalises_clones_and_keeps_the_moments() -> None:
    head, optimizer = CloningHead(hidden=4, outputs=2), optax.adam(1e-3)
    before = init_head(head, optimizer, jax.random.key(0), 3)
    rng = np.random.default_rng(0)
    embed = jnp.asarray(rng.normal(2.0, 3.0, (5, 3)), jnp.float32)
    action = jnp.asarray(rng.uniform(-2, 2, (5, 2)), jnp.float32)
    update = jax.jit(update_head, static_argnums=(0, 1))
    after, metrics = update(head, optimizer, before, embed, action)
    np.testing.assert_allclose(after.mean, 0.1 * np.mean(embed, axis=0), rtol=1e-5)
    wanted = 0.9 + 0.1 * np.var(embed, axis=0, ddof=1)
    np.testing.assert_allclose(after.var, wanted, rtol=1e-5)
    weights = jax.tree.map(np.asarray, before.params["params"])
    x = (embed - np.mean(embed, axis=0)[None]) / np.sqrt(np.var(embed, axis=0) + 1e-5)[None]
    for layer in ("hidden0", "hidden1"):
        x = np.tanh(x @ weights[layer]["kernel"] + weights[layer]["bias"][None])
    out = x @ weights["output"]["kernel"] + weights["output"]["bias"][None]
    assert np.abs(out).max() < 0.02, "the last layer is small"
    wanted = np.mean(losses.cloning_loss(jnp.asarray(out), jnp.clip(action, -1, 1)))
    np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-4)
    bold = after._replace(params=jax.tree.map(lambda leaf: leaf * 1e3, after.params))
    assert np.abs(clone(head, bold, embed)).max() == 1.0


@pytest.mark.slow
def test_r3m_bc_learns_its_head_alone() -> None:
    made_, state = made("r3m_bc")
    after, metrics = updated("r3m_bc", 0)
    jax.tree.map(np.testing.assert_array_equal, after.encoder, state.encoder)
    batch = chunks(made_.length)
    network, params = r3m.load_params(read_tensors(r3m_weights()))
    embed = r3m.embed(network, params, batch.image[0])
    np.testing.assert_allclose(after.head.mean, 0.1 * np.mean(embed, axis=0), rtol=1e-3, atol=1e-5)
    assert metrics["target/actor/loss"] > 0.0

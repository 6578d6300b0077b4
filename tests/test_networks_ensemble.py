"""The ensemble RSSM: both recurrences against NumPy, and one head per step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.agents import ensemble
from coworld_jax.networks import EnsembleRSSM, FeatureActor, FeatureCritic
from coworld_jax.networks.ensemble import PriorHeads

K, B, A, E, D = 3, 4, 2, 5, 6


def rssm(latent: str) -> EnsembleRSSM:
    groups, classes = (2, 3) if latent == "categorical" else (4, 1)
    return EnsembleRSSM(K, latent, groups, classes, deter=D, hidden=7, embed=E)


def made(latent: str) -> tuple[EnsembleRSSM, Any, dict[str, jax.Array]]:
    """Network, parameters without zeros, inputs."""
    network, rng = rssm(latent), np.random.default_rng(0)
    arrays = {
        name: jnp.asarray(rng.normal(size=(B, size)), jnp.float32)
        for name, size in (("stoch", network.stoch), ("deter", D), ("action", A), ("embed", E))
    }
    params = network.init(jax.random.key(0), *arrays.values())
    leaves, tree = jax.tree.flatten(params)
    noisy = [leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    return network, jax.tree.unflatten(tree, noisy), arrays


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_recurrences_are_those_of_the_official_code(latent: str) -> None:
    network, params, given = made(latent)
    inner = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    found = network.apply(params, given["stoch"], given["deter"], given["action"], method="recur")
    for b in range(B):
        z, h, a = (np.asarray(given[name][b], np.float64) for name in ("stoch", "deter", "action"))
        x = np.concatenate([z, a]) @ inner["input"]["kernel"] + inner["input"]["bias"]
        x = np.where(x > 0.0, x, np.exp(x) - 1.0)
        gates = inner["gates"]
        if latent == "categorical":
            parts = np.concatenate([x, h]) @ gates["kernel"] + gates["bias"]
            parts = (parts - parts.mean()) / np.sqrt(parts.var() + 1e-3)
            r, c, u = np.split(parts * inner["norm"]["scale"] + inner["norm"]["bias"], 3)
            expected = sigmoid(u - 1) * np.tanh(sigmoid(r) * c) + (1 - sigmoid(u - 1)) * h
        else:
            recurrent = inner["recurrent_gates"]
            zx, rx, cx = np.split(x @ gates["kernel"] + gates["bias"], 3)
            zh, rh, ch = np.split(h @ recurrent["kernel"] + recurrent["bias"], 3)
            keep = sigmoid(zx + zh)
            expected = keep * h + (1 - keep) * np.tanh(cx + sigmoid(rx + rh) * ch)
        np.testing.assert_allclose(found[b], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("latent", ["categorical", "gaussian"])
def test_one_head_is_that_row_of_all(latent: str) -> None:
    network, params, given = made(latent)
    every = network.apply(params, given["deter"], method="priors")
    for head in range(K):
        one = network.apply(params, given["deter"], jnp.asarray(head), method="prior")
        for name, value in one.items():
            np.testing.assert_allclose(value, every[name][head], rtol=1e-5, atol=1e-6)


def test_only_the_drawn_head_gets_gradient() -> None:
    heads, x = PriorHeads(K, 4, 2), jnp.ones((B, D))
    params = heads.init(jax.random.key(0), x, None)
    grads = jax.grad(lambda p: heads.apply(p, x, jnp.asarray(1)).sum())(params)
    for leaf in jax.tree.leaves(grads):
        assert np.any(leaf[1]) and not np.any(leaf[0]) and not np.any(leaf[2])


def test_gaussian_deviations_are_softplus_and_a_tenth() -> None:
    network, params, given = made("gaussian")
    std = network.apply(params, given["deter"], method="priors")["std"]
    assert np.all(std > 0.1)
    raw = network.bind(params).prior_heads(given["deter"], None)[..., network.groups :]
    np.testing.assert_allclose(std, np.log1p(np.exp(raw)) + 0.1, rtol=1e-5)


def test_the_first_row_forgets_state_and_action() -> None:
    network, params, _ = made("categorical")
    rng = np.random.default_rng(1)
    embed, action = (jnp.asarray(rng.normal(size=(3, B, size)), jnp.float32) for size in (E, A))
    first = jnp.zeros((3, B), bool).at[1, 2].set(True)
    heads = jnp.asarray([0, 2, 1])

    def last(embed: jax.Array, action: jax.Array, first: jax.Array) -> jax.Array:
        return ensemble.observe(network, params, embed, action, first, heads, None).feat[1]

    whole = last(embed, action, first)
    other = last(embed.at[0].add(5.0), action.at[1].add(1.0), first)
    np.testing.assert_array_equal(whole[2], other[2])
    assert not np.allclose(whole[0], other[0])


@pytest.mark.parametrize("kind", [*ensemble.DISAGREEMENTS, "none"])
def test_equal_heads_do_not_disagree(kind: str) -> None:
    network, params, given = made("gaussian")
    heads = params["params"]["prior_heads"]
    same = {name: jnp.broadcast_to(leaf[:1], leaf.shape) for name, leaf in heads.items()}
    equal = {"params": params["params"] | {"prior_heads": same}}

    def unsure(params: Any) -> jax.Array:
        return ensemble.disagreement(kind, network, params, given["deter"], given["stoch"])

    assert unsure(params).shape == (B,)
    if kind not in ("none", "largest_std"):
        np.testing.assert_allclose(unsure(equal), np.zeros(B), atol=1e-5)
        assert np.all(unsure(params) > 1e-3)


def test_actor_and_critics_on_features() -> None:
    feat, action = jnp.full((B, 3), 50.0), jnp.ones((B, A))
    actor, critic = FeatureActor(A, 2, 8), FeatureCritic(2, 8)
    taken = actor.apply(actor.init(jax.random.key(0), feat), feat)
    assert taken.shape == (B, A) and np.all(np.abs(taken) <= 1.0)
    q = critic.apply(critic.init(jax.random.key(0), feat, action), feat, action)
    assert q.shape == (2, B) and not np.allclose(q[0], q[1])

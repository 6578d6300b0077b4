"""Losses of Q-learning against loops over their elements, and what each one's gradient reaches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax import losses

B, C, A = 4, 5, 3


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[jax.Array]:
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def check(found: jax.Array, expected: Any) -> None:
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_td_target_bootstraps_from_the_lower_critic_unless_the_task_ended() -> None:
    (reward,) = draw((B,))
    next_q = jnp.asarray([[1.0, -2.0, 3.0, 0.5], [0.5, 1.0, -1.0, 2.0]])
    discount = jnp.asarray([0.9, 0.0, 0.8, 0.5])
    expected = [
        float(reward[b]) + float(discount[b]) * min(float(next_q[0, b]), float(next_q[1, b]))
        for b in range(B)
    ]
    check(losses.td_target(reward, discount, next_q), expected)


def test_twin_td_loss_adds_both_critics_errors() -> None:
    q, target = draw((2, B), (B,))
    expected = [
        (float(q[0, b]) - float(target[b])) ** 2 + (float(q[1, b]) - float(target[b])) ** 2
        for b in range(B)
    ]
    check(losses.twin_td_loss(q, target), expected)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_conservative_loss_is_a_soft_maximum_over_candidates_less_the_datas_value(
    temperature: float,
) -> None:
    candidates, data = draw((2, B, C), (2, B))
    expected = np.empty((2, B))
    for i, b in np.ndindex(2, B):
        total = sum(math.exp(float(candidates[i, b, c]) / temperature) for c in range(C))
        expected[i, b] = temperature * math.log(total) - float(data[i, b])
    check(losses.conservative_loss(candidates, data, temperature), expected)


def test_conservative_loss_of_large_values_is_finite() -> None:
    candidates = jnp.full((2, B, C), 200.0)  # exp(200) is none in float32
    check(losses.conservative_loss(candidates, candidates[..., 0]), np.full((2, B), math.log(C)))


def test_policy_losses_use_the_lower_critic() -> None:
    q, log_prob = draw((2, B), (B,))
    lower = [min(float(q[0, b]), float(q[1, b])) for b in range(B)]
    check(losses.policy_loss(q), [-value for value in lower])
    soft = [0.3 * float(log_prob[b]) - lower[b] for b in range(B)]
    check(losses.soft_policy_loss(q, log_prob, jnp.asarray(0.3)), soft)


def test_temperature_loss_pulls_towards_the_target_entropy() -> None:
    log_temperature, log_prob = jnp.asarray(-0.7), draw((B,))[0]
    expected = [math.exp(-0.7) * (-float(log_prob[b]) + 3.0) for b in range(B)]
    check(losses.temperature_loss(log_temperature, log_prob, -3.0), expected)
    # Too little entropy (-log_prob < H): the temperature must rise, so the slope is negative.
    slope = jax.grad(lambda t: losses.temperature_loss(t, jnp.asarray([5.0]), -3.0).sum())
    assert slope(log_temperature) < 0.0


def test_cloning_loss_is_a_mean_over_coordinates() -> None:
    action, data = draw((B, A), (B, A))
    data = 3.0 * data  # beyond the bounds of an action, and not clipped
    expected = [
        sum((float(action[b, a]) - float(data[b, a])) ** 2 for a in range(A)) / A for b in range(B)
    ]
    check(losses.cloning_loss(action, data), expected)


def test_value_scale_divides_by_the_mean_size_of_the_lower_value() -> None:
    q = draw((2, B))[0]
    sizes = [abs(min(float(q[0, b]), float(q[1, b]))) for b in range(B)]
    check(losses.value_scale(q, 2.5), 2.5 / (sum(sizes) / B))
    halves = jax.vmap(lambda q: losses.value_scale(q, 2.5, "half"), 1, axis_name="half")(
        q.reshape(2, 2, B // 2)
    )
    check(halves, [float(losses.value_scale(q, 2.5))] * 2)
    assert np.isfinite(losses.value_scale(jnp.zeros((2, B)), 2.5))  # a critic of zeros


# loss, shapes of its arrays by name, those that the gradient reaches
TABLE: list[tuple[Callable[..., jax.Array], dict[str, tuple[int, ...]], set[str]]] = [
    (losses.td_target, {"reward": (B,), "discount": (B,), "next_q": (2, B)}, set()),
    (losses.twin_td_loss, {"q": (2, B), "target": (B,)}, {"q"}),
    (
        losses.conservative_loss,
        {"candidate_q": (2, B, C), "data_q": (2, B)},
        {"candidate_q", "data_q"},
    ),
    (losses.policy_loss, {"q": (2, B)}, {"q"}),
    (
        losses.soft_policy_loss,
        {"q": (2, B), "log_prob": (B,), "temperature": ()},
        {"q", "log_prob"},
    ),
    (
        lambda t, p: losses.temperature_loss(t, p, -3.0),
        {"log_temperature": (), "log_prob": (B,)},
        {"log_temperature"},
    ),
    (losses.cloning_loss, {"action": (B, A), "data_action": (B, A)}, {"action"}),
    (lambda q: losses.value_scale(q, 2.5), {"q": (2, B)}, set()),
]


@pytest.mark.parametrize(("loss", "shapes", "reached"), TABLE)
def test_gradients_reach_what_the_losses_state(
    loss: Callable[..., jax.Array], shapes: dict[str, tuple[int, ...]], reached: set[str]
) -> None:
    arrays = draw(*shapes.values())
    grads = jax.grad(lambda *arrays: loss(*arrays).sum(), tuple(range(len(arrays))))(*arrays)
    assert {name for name, grad in zip(shapes, grads, strict=True) if np.any(grad)} == reached


def test_every_candidate_pulls_on_a_conservative_critic() -> None:
    candidates, data = draw((2, B, C), (2, B))
    grad = jax.grad(lambda q: losses.conservative_loss(q, data).sum())(candidates)
    assert np.all(grad > 0.0)
    check(jnp.sum(grad, axis=-1), np.ones((2, B)))


def test_a_forgotten_axis_is_an_error() -> None:
    (q,) = draw((2, B))
    with pytest.raises(AssertionError):
        losses.twin_td_loss(q, jnp.zeros((B, 1)))
    with pytest.raises(AssertionError):
        losses.td_target(jnp.zeros((B, 1)), jnp.zeros((B, 1)), q)
    with pytest.raises(AssertionError):
        losses.policy_loss(q[0])

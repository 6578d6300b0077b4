"""Measures of an ensemble's disagreement against loops, and their gradients where all agree."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_losses_q_learning import check, draw

from coworld_jax import losses

K, T, B, D = 3, 2, 4, 5


def every(element: Callable[[int, int], float]) -> np.ndarray:
    return np.array([[element(t, b) for b in range(B)] for t in range(T)])


def test_mean_distance_averages_the_distances_from_the_mean() -> None:
    x = np.asarray(draw((K, T, B, D))[0], np.float64)

    def element(t: int, b: int) -> float:
        mean = [sum(x[k, t, b, d] for k in range(K)) / K for d in range(D)]
        distances = [
            math.sqrt(sum((x[k, t, b, d] - mean[d]) ** 2 for d in range(D))) for k in range(K)
        ]
        return sum(distances) / K

    check(losses.mean_distance(jnp.asarray(x, jnp.float32)), every(element))


def test_log_prob_std_divides_by_the_number_of_members() -> None:
    x = np.asarray(draw((K, T, B))[0], np.float64)

    def element(t: int, b: int) -> float:
        mean = sum(x[k, t, b] for k in range(K)) / K
        return math.sqrt(sum((x[k, t, b] - mean) ** 2 for k in range(K)) / K)

    check(losses.log_prob_std(jnp.asarray(x, jnp.float32)), every(element))


def test_largest_std_is_the_longest_vector() -> None:
    x = np.abs(np.asarray(draw((K, T, B, D))[0], np.float64))

    def element(t: int, b: int) -> float:
        return max(math.sqrt(sum(x[k, t, b, d] ** 2 for d in range(D))) for k in range(K))

    check(losses.largest_std(jnp.asarray(x, jnp.float32)), every(element))


def test_mixture_std_averages_bernoulli_deviations() -> None:
    x = np.asarray(jax.nn.softmax(draw((K, T, B, D))[0]), np.float64)

    def element(t: int, b: int) -> float:
        mean = [sum(x[k, t, b, d] for k in range(K)) / K for d in range(D)]
        return sum(math.sqrt(p * (1.0 - p)) for p in mean) / D

    check(losses.mixture_std(jnp.asarray(x, jnp.float32)), every(element))


@pytest.mark.parametrize(
    ("measure", "shape"),
    [
        (losses.mean_distance, (K, B, D)),
        (losses.log_prob_std, (K, B)),
        (losses.largest_std, (K, B, D)),
        (losses.mixture_std, (K, B, D)),
    ],
)
def test_gradients_reach_the_ensemble_and_are_finite_where_all_agree(
    measure: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]
) -> None:
    def total(x: jax.Array) -> jax.Array:
        return measure(x).sum()

    assert np.any(jax.grad(total)(jax.nn.sigmoid(draw(shape)[0])))
    equal = jnp.zeros(shape)
    assert total(equal) == 0.0
    assert not np.any(jax.grad(total)(equal))


def test_only_the_longest_member_is_pulled() -> None:
    std = jnp.asarray([[[1.0, 1.0]], [[2.0, 0.0]]])
    grad = jax.grad(lambda x: losses.largest_std(x).sum())(std)
    np.testing.assert_allclose(grad, [[[0.0, 0.0]], [[1.0, 0.0]]])

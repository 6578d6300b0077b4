"""λ-returns and weights against plain loops, with numbers that are not symmetric in time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.returns import discount_weights, lambda_return


def loop(
    reward: np.ndarray, discount: np.ndarray, next_value: np.ndarray, lam: float
) -> np.ndarray:
    """The recursion of Eq. 8, written from the last state to the first."""
    found = np.zeros_like(reward)
    later = next_value[-1]
    for t in reversed(range(len(reward))):
        later = reward[t] + discount[t] * ((1.0 - lam) * next_value[t] + lam * later)
        found[t] = later
    return found


def arrays(shape: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=shape).astype(np.float32),
        rng.uniform(0.2, 1.0, size=shape).astype(np.float32),
        rng.normal(size=shape).astype(np.float32) * 5.0,
    ]


def test_lambda_return_by_hand() -> None:
    # lambda = 0.5, V_2 := v = 10.
    # t = 2: 4 + 0.5 * (0.5 * 10 + 0.5 * 10)   = 9
    # t = 1: 2 + 0.0 * (...)                   = 2      (the episode ended there)
    # t = 0: 1 + 0.8 * (0.5 * 3 + 0.5 * 2)     = 3
    found = lambda_return(
        jnp.asarray([1.0, 2.0, 4.0]),
        jnp.asarray([0.8, 0.0, 0.5]),
        jnp.asarray([3.0, 7.0, 10.0]),
        0.5,
    )
    np.testing.assert_allclose(found, [3.0, 2.0, 9.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (5,), (4, 3), (14, 2, 3)])
@pytest.mark.parametrize("lam", [0.0, 0.35, 0.95, 1.0])
def test_lambda_return_is_the_loop(shape: tuple[int, ...], lam: float) -> None:
    reward, discount, value = arrays(shape)
    found = lambda_return(*map(jnp.asarray, (reward, discount, value)), lam)
    expected = loop(*(x.astype(np.float64) for x in (reward, discount, value)), lam)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)
    if shape[0] > 1:  # a return in reversed time order would not be seen on symmetric numbers
        assert np.abs(expected - expected[::-1]).max() > 0.1


def test_lambda_return_between_one_step_and_monte_carlo() -> None:
    reward, discount, value = (jnp.asarray(x) for x in arrays((4,), 1))
    one_step = lambda_return(reward, discount, value, 0.0)
    np.testing.assert_allclose(one_step, reward + discount * value, rtol=1e-5)
    whole = lambda_return(reward, discount, value, 1.0)
    r, g, v = (np.asarray(x, np.float64) for x in (reward, discount, value))
    expected = r[0] + g[0] * (r[1] + g[1] * (r[2] + g[2] * (r[3] + g[3] * v[3])))
    assert float(whole[0]) == pytest.approx(expected, rel=1e-5)


def test_a_reward_moves_its_own_and_earlier_returns_only() -> None:
    reward, discount, value = (jnp.asarray(x) for x in arrays((5,), 2))
    moved = lambda_return(reward.at[2].add(1.0), discount, value, 0.9)
    change = np.abs(moved - lambda_return(reward, discount, value, 0.9))
    assert (change[:3] > 1e-3).all() and (change[3:] == 0.0).all()
    assert change[2] == pytest.approx(1.0, abs=1e-5)


def test_lambda_return_differentiates_all_its_arrays() -> None:
    inputs = [jnp.asarray(x) for x in arrays((3,), 3)]
    grads = jax.grad(lambda r, g, v: lambda_return(r, g, v, 0.5)[0], argnums=(0, 1, 2))(*inputs)
    g = np.asarray(inputs[1])
    # dV_0 / dr_t = the product of lambda * discount before t.
    np.testing.assert_allclose(grads[0], [1.0, 0.5 * g[0], 0.25 * g[0] * g[1]], rtol=1e-5)
    # dV_0 / dv_t: (1 - lambda) of the one-step target; the last value carries the rest as well.
    last = 0.25 * g[0] * g[1] * g[2]
    np.testing.assert_allclose(grads[2], [0.5 * g[0], 0.25 * g[0] * g[1], last], rtol=1e-5)
    assert (np.abs(grads[1]) > 1e-3).all()


def test_lambda_return_takes_values_of_a_narrower_type() -> None:
    reward, discount, value = (jnp.asarray(x) for x in arrays((4, 2)))
    narrow = value.astype(jnp.bfloat16)
    found = lambda_return(reward, discount, narrow, 0.9)
    expected = lambda_return(reward, discount, narrow.astype(reward.dtype), 0.9)
    assert found.dtype == reward.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lambda_return_refuses_other_shapes_and_integers() -> None:
    reward, discount, value = (jnp.asarray(x) for x in arrays((4, 2)))
    for wrong in (
        (reward[:-1], discount, value),
        (reward, discount[:, :1], value),
        (reward, discount, value[0]),
    ):
        with pytest.raises(AssertionError):
            lambda_return(*wrong, 0.9)
    with pytest.raises(AssertionError):
        lambda_return(reward.astype(jnp.int32), discount, value, 0.9)


def test_discount_weights_by_hand() -> None:
    # w = (1, 0.5, 0.5 * 0.9, 0.5 * 0.9 * 0) : the last discount belongs to no state here.
    found = discount_weights(jnp.asarray([0.5, 0.9, 0.0, 0.7]))
    np.testing.assert_allclose(found, [1.0, 0.5, 0.45, 0.0], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (6,), (5, 3), (3, 2, 2)])
def test_discount_weights_are_the_loop(shape: tuple[int, ...]) -> None:
    discount = arrays(shape, 4)[1]
    expected = np.ones_like(discount)
    for t in range(1, shape[0]):
        expected[t] = expected[t - 1] * discount[t - 1]
    np.testing.assert_allclose(discount_weights(jnp.asarray(discount)), expected, rtol=1e-5)


def test_discount_weights_carry_no_gradient() -> None:
    grad = jax.grad(lambda discount: discount_weights(discount).sum())(jnp.asarray([0.5, 0.9, 0.7]))
    np.testing.assert_array_equal(grad, np.zeros(3))

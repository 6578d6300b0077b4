"""Every loss against loops over its elements, small numbers by hand, and no broadcasting."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax import losses

T, B = 3, 2
LOG_2PI = math.log(2.0 * math.pi)


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def every(shape: tuple[int, ...], element: Callable[..., float]) -> np.ndarray:
    """``element(*index)`` for each index, one at a time."""
    found = np.empty(shape)
    for index in np.ndindex(*shape):
        found[index] = element(*index)
    return found


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum()


def check(found: jax.Array, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=3e-5, atol=1e-6)


def test_image_loss_sums_over_pixels_and_channels() -> None:
    mean, image = draw((T, B, 4, 5, 3), (T, B, 4, 5, 3))

    def element(t: int, b: int) -> float:
        return sum(
            0.5 * (float(mean[t, b, i, j, c]) - float(image[t, b, i, j, c])) ** 2 + 0.5 * LOG_2PI
            for i in range(4)
            for j in range(5)
            for c in range(3)
        )

    expected = every((T, B), element)
    check(losses.image_loss(jnp.asarray(mean), jnp.asarray(image)), expected)
    squares = jnp.sum(jnp.square(mean - image), axis=(2, 3, 4))
    check(losses.unit_normal_loss(squares, 4 * 5 * 3), expected)


def test_state_loss_sums_over_coordinates_in_units_of_its_deviation() -> None:
    mean, state = draw((T, B, 5), (T, B, 5))

    def element(t: int, b: int) -> float:
        return sum(
            0.5 * ((float(state[t, b, i]) - float(mean[t, b, i])) / 0.25) ** 2
            + math.log(0.25)
            + 0.5 * LOG_2PI
            for i in range(5)
        )

    check(losses.state_loss(jnp.asarray(mean), jnp.asarray(state), 0.25), every((T, B), element))


def test_bridge_loss_sees_the_constant_that_alignment_forgets() -> None:
    bridge, state = draw((T, B, 5), (T, B, 5))

    def element(t: int, b: int) -> float:
        return sum(0.5 * (float(bridge[t, b, i]) - float(state[t, b, i])) ** 2 for i in range(5))

    check(losses.bridge_loss(jnp.asarray(bridge), jnp.asarray(state)), every((T, B), element))
    # Three too much in each of five coordinates: 5 * 9 / 2; to a softmax it is the same vector.
    found = losses.bridge_loss(jnp.asarray(state + 3.0), jnp.asarray(state))
    check(found, np.full((T, B), 22.5))
    check(losses.alignment_loss(jnp.asarray(state + 3.0), jnp.asarray(state)), np.zeros((T, B)))


def test_reward_loss_by_hand() -> None:
    # 0.5 * (1 - 3)^2 + log(2 pi) / 2 = 2 + 0.918939; a perfect guess costs 0.918939.
    found = losses.reward_loss(jnp.asarray([[1.0, 2.0]]), jnp.asarray([[3.0, 2.0]]))
    np.testing.assert_allclose(found, [[2.918939, 0.918939]], rtol=1e-6)


def test_continue_loss_is_the_cross_entropy() -> None:
    (logits,) = draw((T, B))
    discount = np.asarray([[1, 0], [0, 1], [0.25, 1]], np.float32)

    def element(t: int, b: int) -> float:
        p = 1.0 / (1.0 + math.exp(-float(logits[t, b])))
        return -float(discount[t, b]) * math.log(p) - (1 - float(discount[t, b])) * math.log(1 - p)

    check(losses.continue_loss(jnp.asarray(logits), jnp.asarray(discount)), every((T, B), element))


def test_latent_kl_of_gaussians_sums_over_the_latent() -> None:
    q, p, a, b = draw((T, B, 4), (T, B, 4), (T, B, 4), (T, B, 4))
    std_q, std_p = np.exp(a * 0.3), np.exp(b * 0.3)

    def element(t: int, n: int) -> float:
        total = 0.0
        for i in range(4):
            s, r = float(std_q[t, n, i]), float(std_p[t, n, i])
            gap = float(q[t, n, i]) - float(p[t, n, i])
            total += math.log(r / s) + (s**2 + gap**2) / (2.0 * r**2) - 0.5
        return total

    found = losses.latent_kl(
        {"mean": jnp.asarray(q), "std": jnp.asarray(std_q)},
        {"mean": jnp.asarray(p), "std": jnp.asarray(std_p)},
    )
    check(found, every((T, B), element))


def test_latent_kl_of_categoricals_sums_over_groups() -> None:
    q, p = draw((T, B, 4, 3), (T, B, 4, 3))

    def element(t: int, n: int) -> float:
        total = 0.0
        for group in range(4):
            probs_q, probs_p = softmax(q[t, n, group]), softmax(p[t, n, group])
            total += float((probs_q * np.log(probs_q / probs_p)).sum())
        return total

    found = losses.latent_kl({"logits": jnp.asarray(q)}, {"logits": jnp.asarray(p)})
    check(found, every((T, B), element))


def test_free_nats_clamp_the_mean_and_not_the_elements() -> None:
    # The mean of (0.1, 2.9) is 1.5 > 1: nothing is clamped, although one element is below 1.
    kl = jnp.asarray([[0.1, 2.9]])
    value, grad = jax.value_and_grad(losses.free_nats_mean)(kl, 1.0)
    assert float(value) == pytest.approx(1.5)
    np.testing.assert_allclose(grad, [[0.5, 0.5]])
    # Against 2 the mean is below: the constant 2 without gradient, although one element is above.
    value, grad = jax.value_and_grad(losses.free_nats_mean)(kl, 2.0)
    assert float(value) == 2.0
    np.testing.assert_array_equal(grad, [[0.0, 0.0]])


def test_free_nats_compare_the_mean_of_all_devices() -> None:
    # Device means 0.5 and 2.5; together 1.5 > 1, so the first device is not clamped either.
    kl = jnp.asarray([[[0.5]], [[2.5]]])

    def local(kl: jax.Array) -> jax.Array:
        return losses.free_nats_mean(kl, 1.0, "devices")

    np.testing.assert_allclose(jax.vmap(local, axis_name="devices")(kl), [0.5, 2.5])
    np.testing.assert_allclose(jax.vmap(local, axis_name="devices")(kl / 2.0), [1.0, 1.0])


@pytest.mark.parametrize("traced", [False, True])
def test_without_free_nats_each_device_has_its_own_mean(traced: bool) -> None:
    kl = jnp.asarray([[[0.5, 1.5]], [[0.0, 2.0]]])

    def local(kl: jax.Array, free_nats: Any) -> jax.Array:
        return losses.free_nats_mean(kl, free_nats, "devices")

    both = jax.value_and_grad(local)
    by_device = jax.vmap(both, in_axes=(0, None), axis_name="devices")
    # A setting may also be an argument of a compiled program.
    value, grad = jax.jit(by_device)(kl, 0.0) if traced else by_device(kl, 0.0)
    np.testing.assert_allclose(value, [1.0, 1.0])
    np.testing.assert_allclose(grad, jnp.full((2, 1, 2), 0.5))


def test_critic_loss_by_hand() -> None:
    # 0.5 * 0.5 * (1 - 4)^2 = 2.25; 1 * 0.5 * (2 - 1)^2 = 0.5.
    found = losses.critic_loss(
        jnp.asarray([[1.0], [2.0]]), jnp.asarray([[4.0], [1.0]]), jnp.asarray([[0.5], [1.0]])
    )
    np.testing.assert_allclose(found, [[2.25], [0.5]])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_actor_loss_is_its_formula(share: float) -> None:
    target, log_prob, baseline, entropy, weight = draw(*[(T, B)] * 5)
    arrays = [jnp.asarray(x) for x in (target, log_prob, baseline, entropy, weight)]
    found = losses.actor_loss(*arrays, dynamics_share=share, entropy_scale=0.1)

    def element(t: int, b: int) -> float:
        advantage = float(target[t, b]) - float(baseline[t, b])
        return -float(weight[t, b]) * (
            share * float(target[t, b])
            + (1.0 - share) * float(log_prob[t, b]) * advantage
            + 0.1 * float(entropy[t, b])
        )

    check(found, every((T, B), element))


def test_actor_loss_by_hand() -> None:
    # -0.5 * (0.25 * 8 + 0.75 * -2 * (8 - 6) + 0.1 * 3) = -0.5 * (2 - 3 + 0.3) = 0.35.
    arrays = [jnp.full((1, 1), x) for x in (8.0, -2.0, 6.0, 3.0, 0.5)]
    found = losses.actor_loss(*arrays, dynamics_share=0.25, entropy_scale=0.1)
    np.testing.assert_allclose(found, [[0.35]], rtol=1e-5)


def test_alignment_loss_sums_over_the_embedding_with_the_source_in_front() -> None:
    target, source = draw((T, B, 6), (T, B, 6))

    def element(t: int, b: int) -> float:
        s, own = softmax(source[t, b]), softmax(target[t, b])
        return float((s * np.log(s / own)).sum())

    expected = every((T, B), element)
    check(losses.alignment_loss(jnp.asarray(target), jnp.asarray(source)), expected)
    # The divergence is not symmetric: the other order must give something else.
    other = losses.alignment_loss(jnp.asarray(source), jnp.asarray(target))
    assert np.abs(other - expected).max() > 0.05


def test_mixed_reward_by_hand() -> None:
    # k = 0.3: 0.7 * 10 + 0.3 * 2 = 7.6; k is the share of the true reward.
    found = losses.mixed_reward(jnp.asarray([[10.0]]), jnp.asarray([[2.0]]), 0.3)
    np.testing.assert_allclose(found, [[7.6]], rtol=1e-6)


def test_reward_alignment_loss_by_hand() -> None:
    # k = 0.25, label = 0.75 * 2 + 0.25 * 6 = 3, so the second term is 0.5 * (2 - 3)^2 = 0.5;
    # the first is 0.5 * (1 - 4)^2 = 4.5; eta = 0.8: 0.8 * 4.5 + 0.2 * 0.5 = 3.7, + log(2 pi) / 2.
    found = losses.reward_alignment_loss(
        *(jnp.full((1, 1), x) for x in (1.0, 2.0, 4.0, 6.0)),
        source_reward_weight=jnp.asarray(0.8),
        reward_mix=0.25,
    )
    np.testing.assert_allclose(found, [[3.7 + 0.5 * LOG_2PI]], rtol=1e-6)


def test_value_constraint_loss_by_hand() -> None:
    # w = 0.5: max(3, 1) -> 1.5; max(-2, 1) -> 0.5; equal values -> either.
    target, source = jnp.asarray([[3.0, -2.0, 1.0]]), jnp.asarray([[1.0, 1.0, 1.0]])
    weight = jnp.full((1, 3), 0.5)
    found = losses.value_constraint_loss(target, source, weight)
    np.testing.assert_allclose(found, [[1.5, 0.5, 0.5]])
    # The ablation ignores the source: 0.5 * (3, -2, 1).
    found = losses.value_constraint_loss(target, source, weight, use_max=False)
    np.testing.assert_allclose(found, [[1.5, -1.0, 0.5]])
    # A value that is no number shows.
    broken = losses.value_constraint_loss(
        target.at[0, 0].set(jnp.nan), source.at[0, 1].set(jnp.nan), weight
    )
    np.testing.assert_allclose(broken, [[np.nan, np.nan, 0.5]])


_ETA: dict[str, Any] = {"source_reward_weight": jnp.asarray(0.5), "reward_mix": 0.5}
_ACTOR: dict[str, Any] = {"dynamics_share": 0.5, "entropy_scale": 0.1}
# loss, number of arrays, what each array has beyond [T, B], settings
CASES = [
    (losses.image_loss, 2, (4, 4, 3), {}),
    (losses.reward_loss, 2, (), {}),
    (losses.continue_loss, 2, (), {}),
    (losses.critic_loss, 3, (), {}),
    (losses.actor_loss, 5, (), _ACTOR),
    (losses.alignment_loss, 2, (6,), {}),
    (losses.bridge_loss, 2, (6,), {}),
    (losses.state_loss, 2, (6,), {"std": 0.25}),
    (losses.mixed_reward, 2, (), {"reward_mix": 0.5}),
    (losses.reward_alignment_loss, 4, (), _ETA),
    (losses.value_constraint_loss, 3, (), {}),
    (losses.value_constraint_loss, 3, (), {"use_max": False}),
]


@pytest.mark.parametrize(("loss", "count", "trailing", "settings"), CASES)
def test_losses_are_unreduced_and_never_broadcast(
    loss: Callable[..., jax.Array], count: int, trailing: tuple[int, ...], settings: dict[str, Any]
) -> None:
    whole = jnp.full((T, B, *trailing), 0.3)
    assert loss(*[whole] * count, **settings).shape == (T, B)
    # One example, one time step, no time axis: each would broadcast in NumPy.
    for part in (whole[:, :1], whole[:1], whole[0]):
        for odd in range(count):
            with pytest.raises((AssertionError, ValueError)):
                loss(*[part if i == odd else whole for i in range(count)], **settings)


ELSEWHERE = {  # rooms of losses whose tests have a file of their own
    "q_learning": "test_losses_q_learning.py",
    "contrastive": "test_losses_contrastive.py",
    "uncertainty": "test_losses_uncertainty.py",
    "regularization": "test_finetune.py",
}


def test_these_tests_know_every_loss() -> None:
    covered = {loss.__name__ for loss, *_ in CASES}
    covered |= {"latent_kl", "free_nats_mean", "unit_normal_loss"}
    rooms = {name: getattr(losses, name).__module__.split(".")[-1] for name in losses.__all__}
    assert covered == {name for name, room in rooms.items() if room not in ELSEWHERE}
    for name, room in rooms.items():
        if room in ELSEWHERE:
            text = (Path(__file__).parent / ELSEWHERE[room]).read_text(encoding="utf-8")
            assert f"losses.{name}" in text, f"{ELSEWHERE[room]} does not test {name}"
    assert all(inspect.isfunction(getattr(losses, name)) for name in losses.__all__)

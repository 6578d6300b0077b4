"""Densities against integrals over grids, samplers against their densities, gradients."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax import distributions

# Location and scale of truncated normals: wide and narrow, in the middle and at either bound.
POLICIES = [(0.0, 2.1), (0.3, 0.5), (-0.9, 0.3), (0.999, 0.1), (-1.0, 0.1), (0.0, 0.1), (1.0, 2.1)]


def grid(low: float, high: float, points: int = 200_001) -> tuple[np.ndarray, float]:
    """Midpoints of equal cells, and the width of a cell."""
    width = (high - low) / points
    return low + width * (np.arange(points) + 0.5), width


def truncated(loc: float, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Grid on [-1, 1], the normalised density there, and the cell width: by numbers alone."""
    x, width = grid(-1.0, 1.0)
    density = np.exp(-0.5 * ((x - loc) / scale) ** 2)
    return x, density / (density.sum() * width), width


def test_normal_log_prob_integrates_to_one_and_is_centred() -> None:
    # At the mean of N(2, 0.5): -log(0.5) - log(2 pi) / 2 = 0.693147 - 0.918939 = -0.225791.
    at_mean = distributions.normal_log_prob(jnp.asarray(2.0), jnp.asarray(2.0), 0.5)
    assert float(at_mean) == pytest.approx(-0.225791, abs=1e-5)
    # One standard deviation away: 0.5 less.
    away = distributions.normal_log_prob(jnp.asarray(2.5), jnp.asarray(2.0), 0.5)
    assert float(away) == pytest.approx(-0.725791, abs=1e-5)
    x, width = grid(-2.0, 6.0, 2001)
    log_prob = distributions.normal_log_prob(jnp.asarray(x), jnp.full(x.shape, 2.0), 0.5)
    assert np.exp(np.asarray(log_prob, np.float64)).sum() * width == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("q", "p"),
    [((0.0, 1.0), (0.0, 1.0)), ((0.5, 0.3), (-0.2, 1.1)), ((-1.0, 2.0), (0.4, 0.7))],
)
def test_normal_kl_is_the_integral(q: tuple[float, float], p: tuple[float, float]) -> None:
    x, width = grid(-25.0, 25.0)

    def log_density(mean: float, std: float) -> np.ndarray:
        return -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2.0 * math.pi))

    log_q, log_p = log_density(*q), log_density(*p)
    expected = (np.exp(log_q) * (log_q - log_p)).sum() * width
    found = distributions.normal_kl(*(jnp.asarray(value) for value in (*q, *p)))
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_normal_sample_has_its_moments_and_gradients() -> None:
    mean, std = jnp.asarray([0.5, -1.0]), jnp.asarray([0.2, 3.0])
    noise = jnp.asarray([1.5, -2.0])
    # 0.5 + 0.2 * 1.5 = 0.8 and -1 + 3 * -2 = -7.
    np.testing.assert_allclose(distributions.normal_sample(mean, std, noise), [0.8, -7.0], 1e-6)
    grads = jax.grad(
        lambda m, s: distributions.normal_sample(m, s, noise).sum(), argnums=(0, 1)
    )(mean, std)  # fmt: skip
    np.testing.assert_array_equal(grads[0], [1.0, 1.0])
    np.testing.assert_array_equal(grads[1], noise)


def test_categorical_kl_by_hand_and_against_a_sum() -> None:
    # q = (1/2, 1/2), p = (1/4, 3/4): 0.5 log 2 + 0.5 log(2/3) = 0.346574 - 0.202733 = 0.143841.
    q, p = jnp.log(jnp.asarray([0.5, 0.5])), jnp.log(jnp.asarray([0.25, 0.75]))
    assert float(distributions.categorical_kl(q, p)) == pytest.approx(0.143841, abs=1e-6)
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(2, 3, 4, 5)) * 3.0
    found = distributions.categorical_kl(jnp.asarray(q, jnp.float32), jnp.asarray(p, jnp.float32))
    probs_q = np.exp(q) / np.exp(q).sum(-1, keepdims=True)
    probs_p = np.exp(p) / np.exp(p).sum(-1, keepdims=True)
    expected = (probs_q * np.log(probs_q / probs_p)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_categorical_entropy_by_hand() -> None:
    # (1/4, 3/4): 0.25 log 4 + 0.75 log(4/3) = 0.346574 + 0.215762 = 0.562335. Four alike: log 4.
    logits = jnp.asarray([[0.0, 1.0986123], [70.0, 71.0986123]])
    found = distributions.categorical_entropy(logits)
    np.testing.assert_allclose(found, [0.562335, 0.562335], rtol=1e-5)
    assert float(distributions.categorical_entropy(jnp.full(4, -3.0))) == pytest.approx(1.386294)
    certain = distributions.categorical_entropy(jnp.asarray([0.0, 1e4]))
    assert float(certain) == 0.0


def test_categorical_kl_ignores_a_shift_and_survives_certainty() -> None:
    q, p = jnp.asarray([1.0, 2.0, -1.0]), jnp.asarray([0.0, 0.5, 0.2])
    shifted = distributions.categorical_kl(q + 50.0, p - 70.0)
    np.testing.assert_allclose(shifted, distributions.categorical_kl(q, p), rtol=1e-4)
    certain = jnp.asarray([0.0, 200.0, -200.0])
    value, grad = jax.value_and_grad(distributions.categorical_kl, argnums=(0, 1))(
        certain, -certain
    )
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in grad)


def test_categorical_sample_inverts_the_cumulative_probabilities() -> None:
    # Probabilities (0.2, 0.5, 0.3): below 0.2 the first class, below 0.7 the second, else the last.
    logits = jnp.log(jnp.asarray([0.2, 0.5, 0.3]))
    noise = jnp.asarray([0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999])
    sample = distributions.categorical_sample(jnp.broadcast_to(logits, (6, 3)), noise)
    np.testing.assert_array_equal(np.argmax(sample, axis=-1), [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(np.sum(sample, axis=-1), 1.0, rtol=1e-6)


def test_categorical_sample_has_its_frequencies() -> None:
    logits = jnp.asarray([[0.3, -1.0, 1.2, 0.0], [2.0, 2.0, -3.0, 0.5]])
    noise = jax.random.uniform(jax.random.key(0), (40_000, 2))
    sample = distributions.categorical_sample(jnp.broadcast_to(logits, (40_000, 2, 4)), noise)
    # Standard error of a share is at most 0.5 / sqrt(40 000) = 0.0025.
    np.testing.assert_allclose(sample.mean(0), jax.nn.softmax(logits), atol=0.0125)


def test_categorical_sample_stays_a_class_whatever_rounding_does() -> None:
    logits = jnp.zeros((1, 1000))
    sample = distributions.categorical_sample(logits, jnp.asarray([1.0]))
    assert int(np.argmax(sample)) == 999 and float(sample.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("draw", ["sample", "mode"])
def test_one_hots_carry_the_gradient_of_the_probabilities(draw: str) -> None:
    logits, direction = jnp.asarray([0.5, -0.2, 1.0]), jnp.asarray([1.0, 2.0, -3.0])

    def one_hot(logits: jax.Array) -> jax.Array:
        if draw == "mode":
            return distributions.categorical_mode(logits)
        return distributions.categorical_sample(logits, jnp.asarray(0.1))

    expected = [0.0, 0.0, 1.0] if draw == "mode" else [1.0, 0.0, 0.0]
    np.testing.assert_array_equal(one_hot(logits), expected)  # exactly, in spite of the gradient
    found = jax.grad(lambda x: jnp.vdot(one_hot(x), direction))(logits)
    slope = jax.grad(lambda x: jnp.vdot(jax.nn.softmax(x), direction))(logits)
    np.testing.assert_allclose(found, slope, rtol=1e-6)
    assert np.abs(slope).max() > 0.1


def test_bernoulli_log_prob_by_hand_soft_labels_and_extremes() -> None:
    # sigmoid(log 3) = 3/4: log 0.75 = -0.287682, log 0.25 = -1.386294; label 0.5 is their mean.
    logits = jnp.full((3,), math.log(3.0))
    found = distributions.bernoulli_log_prob(jnp.asarray([1.0, 0.0, 0.5]), logits)
    np.testing.assert_allclose(found, [-0.287682, -1.386294, -0.836988], atol=1e-5)
    sure = distributions.bernoulli_log_prob(jnp.asarray([1.0, 0.0]), jnp.asarray([200.0, 200.0]))
    np.testing.assert_allclose(sure, [0.0, -200.0], atol=1e-5)


@pytest.mark.parametrize(("loc", "scale"), POLICIES)
def test_truncated_normal_log_prob_is_the_normalised_density(loc: float, scale: float) -> None:
    x, density, _ = truncated(loc, scale)
    near = density > 1e-8
    x, density = x[near][::401], density[near][::401]
    found = distributions.truncated_normal_log_prob(
        jnp.asarray(x, jnp.float32), jnp.full(x.shape, loc), jnp.full(x.shape, scale)
    )
    np.testing.assert_allclose(found, np.log(density), atol=2e-4)


@pytest.mark.parametrize(("loc", "scale"), POLICIES)
def test_truncated_normal_entropy_is_the_integral(loc: float, scale: float) -> None:
    _, density, width = truncated(loc, scale)
    expected = -(density * np.log(np.maximum(density, 1e-300))).sum() * width
    found = distributions.truncated_normal_entropy(jnp.asarray(loc), jnp.asarray(scale))
    assert float(found) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("loc", "scale"), POLICIES)
def test_truncated_normal_sample_follows_its_cumulative_distribution(
    loc: float, scale: float
) -> None:
    x, density, width = truncated(loc, scale)
    cumulative = np.cumsum(density) * width
    noise = np.linspace(0.0005, 0.9995, 500)
    found = distributions.truncated_normal_sample(
        jnp.full(500, loc), jnp.full(500, scale), jnp.asarray(noise, jnp.float32)
    )
    np.testing.assert_allclose(found, np.interp(noise, cumulative, x), atol=3e-4)
    assert (np.diff(found) >= 0).all() and np.abs(found).max() < 1.0


def test_truncated_normal_sample_differentiates_like_a_difference_quotient() -> None:
    loc, scale = jnp.asarray([0.3, -0.9, 0.0]), jnp.asarray([0.5, 0.4, 1.5])
    noise, step = jnp.asarray([0.2, 0.7, 0.9]), 1e-2

    def sample(loc: jax.Array, scale: jax.Array) -> jax.Array:
        return distributions.truncated_normal_sample(loc, scale, noise)

    grads = jax.grad(lambda m, s: sample(m, s).sum(), argnums=(0, 1))(loc, scale)
    by_loc = (sample(loc + step, scale) - sample(loc - step, scale)) / (2 * step)
    by_scale = (sample(loc, scale + step) - sample(loc, scale - step)) / (2 * step)
    np.testing.assert_allclose(grads[0], by_loc, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(grads[1], by_scale, rtol=2e-3, atol=1e-3)
    assert np.abs(grads).min() > 1e-3


def assert_finite_gradients(draws: int) -> None:
    """Samples inside the bounds, and finite, moderate gradients, over many draws."""
    chunk = 1_000_000
    lowest, highest = 0.0, 1.0 - 2.0**-24  # what a float32 draw can be

    @jax.jit
    def sound(key: jax.Array) -> jax.Array:
        key_noise, key_loc = jax.random.split(key)
        noise = jax.random.uniform(key_noise, (chunk,))
        noise = noise.at[:4].set(jnp.asarray([lowest, highest, lowest, highest]))
        loc = jax.random.uniform(key_loc, (chunk,), minval=-1.0, maxval=1.0)
        loc = loc.at[:4].set(jnp.asarray([1.0, -1.0, -1.0, 1.0]))
        scale = jnp.full((chunk,), 0.1)
        sample, pull = jax.vjp(
            lambda m, s: distributions.truncated_normal_sample(m, s, noise), loc, scale
        )
        # Comparisons with NaN are false, whereas a maximum may overlook it.
        bounded = [jnp.all(jnp.abs(grad) < 100.0) for grad in pull(jnp.ones_like(sample))]
        return jnp.all(jnp.abs(sample) < 1.0) & bounded[0] & bounded[1]

    for i in range(draws // chunk):
        assert sound(jax.random.fold_in(jax.random.key(1), i)), f"chunk {i}"


def test_truncated_normal_sample_has_finite_gradients() -> None:
    assert_finite_gradients(1_000_000)


@pytest.mark.slow
def test_truncated_normal_sample_has_finite_gradients_over_a_hundred_million_draws() -> None:
    assert_finite_gradients(100_000_000)


def test_truncated_normal_densities_have_finite_gradients_at_the_bounds() -> None:
    value = jnp.asarray([-1.5, -1.0, 1.0, 3.0])  # offline actions may lie outside
    loc, scale = jnp.asarray([1.0, -1.0, 0.0, -1.0]), jnp.asarray([0.1, 0.1, 2.1, 0.1])

    def total(loc: jax.Array, scale: jax.Array) -> jax.Array:
        log_prob = distributions.truncated_normal_log_prob(value, loc, scale)
        return (log_prob + distributions.truncated_normal_entropy(loc, scale)).sum()

    found, grads = jax.value_and_grad(total, argnums=(0, 1))(loc, scale)
    assert np.isfinite(found) and all(np.isfinite(g).all() for g in grads)
    inside = distributions.truncated_normal_log_prob(jnp.asarray(3.0), *_zero_one())
    edge = distributions.truncated_normal_log_prob(jnp.asarray(1.0), *_zero_one())
    assert float(inside) == float(edge)


def _zero_one() -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(0.0), jnp.asarray(1.0)


def test_truncated_normal_mode_is_the_location_inside_the_bounds() -> None:
    mode = distributions.truncated_normal_mode(jnp.asarray([-1.0, 0.25, 1.0]))
    np.testing.assert_allclose(mode, [-1.0, 0.25, 1.0], atol=1e-5)
    assert np.abs(mode).max() < 1.0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (distributions.normal_log_prob, 2),
        (distributions.normal_sample, 3),
        (distributions.normal_kl, 4),
        (distributions.categorical_kl, 2),
        (distributions.bernoulli_log_prob, 2),
        (distributions.truncated_normal_sample, 3),
        (distributions.truncated_normal_log_prob, 3),
        (distributions.truncated_normal_entropy, 2),
    ],
)
def test_shapes_are_never_broadcast(function: object, arguments: int) -> None:
    whole, part = jnp.full((3, 3), 0.5), jnp.full((3, 1), 0.5)
    assert callable(function)
    function(*[whole] * arguments)
    for odd in range(arguments):
        with pytest.raises(AssertionError):
            function(*[part if i == odd else whole for i in range(arguments)])


def test_categorical_kl_keeps_its_digits_over_wide_logits() -> None:
    """1536 classes and a divergence of about 1e-3: what coupling A compares at the paper's size."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(8, 1536))
    others = logits + 0.045 * rng.normal(size=logits.shape)

    def log_softmax(x: np.ndarray) -> np.ndarray:
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    logits, others = logits.astype(np.float32), others.astype(np.float32)
    log_q, log_p = log_softmax(logits.astype(np.float64)), log_softmax(others.astype(np.float64))
    exact = (np.exp(log_q) * (log_q - log_p)).sum(axis=-1)
    assert 5e-4 < exact.mean() < 2e-3
    got = distributions.categorical_kl(jnp.asarray(logits), jnp.asarray(others))
    np.testing.assert_allclose(got, exact, rtol=1e-5)

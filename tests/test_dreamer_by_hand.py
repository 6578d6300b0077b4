"""Parts of the dreamer agent by hand: the balanced KL, images, copies of the slow critic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.agents.dreamer import behavior, world_model
from coworld_jax.agents.dreamer.world_model import Observation
from coworld_jax.types import Latent


def _observation(post: tuple[float, float], prior: tuple[float, float]) -> Observation:
    """Gaussian statistics (mean, std) of two dimensions, ``[1, 2, 2]``: two examples."""
    shape = (1, 2, 2)
    post_stats, prior_stats = (
        {"mean": jnp.full(shape, mean), "std": jnp.full(shape, std)} for mean, std in (post, prior)
    )
    latent = Latent(jnp.zeros((1, 2, 1)), post_stats["mean"], post_stats)
    return Observation(latent, prior_stats, jnp.zeros((1, 2, 1)))


def test_balanced_kl_by_hand() -> None:
    # KL(N(1, 1) || N(0, 1)) = 1/2 in each of two dimensions: 1 per example, and as batch mean.
    seen = _observation((1.0, 1.0), (0.0, 1.0))
    assert float(world_model.balanced_kl(seen, 0.8, 0.0)) == pytest.approx(1.0)
    assert float(world_model.balanced_kl(seen, 0.8, 0.5)) == pytest.approx(1.0)
    assert float(world_model.balanced_kl(seen, 0.8, 3.0)) == pytest.approx(3.0)


@pytest.mark.parametrize(("free_nats", "share"), [(0.0, 1.0), (0.5, 1.0), (3.0, 0.0)])
def test_balanced_kl_pulls_the_prior_four_times_as_hard(free_nats: float, share: float) -> None:
    seen = _observation((1.0, 1.0), (0.0, 1.0))
    grads = jax.grad(lambda s: world_model.balanced_kl(s, 0.8, free_nats))(seen)
    # dKL/d(post mean) = 1 = -dKL/d(prior mean), over two examples: 0.2 / 2 and -0.8 / 2.
    np.testing.assert_allclose(grads.post.stats["mean"], np.full((1, 2, 2), 0.1 * share), atol=1e-6)
    np.testing.assert_allclose(grads.prior["mean"], np.full((1, 2, 2), -0.4 * share), atol=1e-6)


def test_images_enter_between_minus_and_plus_a_half() -> None:
    found = world_model.normalise_image(jnp.asarray([0, 51, 255], jnp.uint8))
    # 51 / 255 = 0.2.
    np.testing.assert_allclose(found, [-0.5, -0.3, 0.5], atol=1e-6)


def test_slow_critic_is_copied_at_its_count_alone() -> None:
    slow, fast = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    for updates, copied in ((0, True), (1, False), (99, False), (100, True), (200, True)):
        found = behavior.update_slow_critic(slow, fast, jnp.asarray(updates), 100)
        np.testing.assert_array_equal(found["w"], fast["w"] if copied else slow["w"])

"""Keras' Adam against its formula, step by step; the clip of the norm."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from coworld_jax.agents.gradient import clip_by_global_norm
from coworld_jax.agents.optimizers import keras_adam, scale_by_keras_adam


def test_three_steps_of_clipped_and_decayed_adam() -> None:
    lr, eps, clip, decay = 0.1, 1e-2, 1.0, 0.05
    grads = np.array([[0.3, -0.02], [4.0, 3.0], [-0.1, 0.0]])
    optimizer, x = keras_adam(lr, eps, clip, decay), np.array([2.0, -3.0])
    params, m, v = jnp.asarray(x, jnp.float32), np.zeros(2), np.zeros(2)
    state = optimizer.init(params)
    for t, grad in enumerate(grads, start=1):
        updates, state = optimizer.update(jnp.asarray(grad, jnp.float32), state, params)
        params = optax.apply_updates(params, updates)
        clipped = grad * min(1.0, clip / np.linalg.norm(grad))
        m, v = 0.9 * m + 0.1 * clipped, 0.999 * v + 0.001 * clipped**2
        step = lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps)
        x = x * (1 - decay) - step
        np.testing.assert_allclose(params, x, rtol=1e-5)


def test_epsilon_weighs_more_than_in_optax() -> None:
    grad = jnp.asarray([1e-3])
    ours, theirs = scale_by_keras_adam(eps=1e-5), optax.scale_by_adam(eps=1e-5)
    steps = [o.update(grad, o.init(grad))[0] for o in (ours, theirs)]
    equal = optax.scale_by_adam(eps=1e-5 / np.sqrt(1 - 0.999))
    np.testing.assert_allclose(steps[0], equal.update(grad, equal.init(grad))[0], rtol=1e-4)
    assert float(steps[0][0]) < 0.8 < 0.98 < float(steps[1][0])


@pytest.mark.parametrize("norm", [0.0, 0.5, 1.0, 5.0, np.inf, np.nan])
def test_a_clip_of_the_norm_is_that_of_optax(norm: float) -> None:
    grads = {"a": jnp.array([0.6 * norm]), "b": jnp.array([0.0, -0.8 * norm])}
    own, theirs = clip_by_global_norm(1.0), optax.clip_by_global_norm(1.0)
    state = own.init(grads)
    assert state == theirs.init(grads)  # checkpoints of either fit
    found, expected = (clip.update(grads, state)[0] for clip in (own, theirs))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, expected)

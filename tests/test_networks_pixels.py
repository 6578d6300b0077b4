"""What the networks on stacked frames promise: equations, sizes, initial values, both platforms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.networks.convolution import PIXEL_FORMS
from coworld_jax.networks.row_windows import BLOCK


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("images", "height", "width", "strides"),
    [(2, 12, 15, (2, 1)), (BLOCK + 3, 6, 5, (1,)), (3, 8, 10, (2,)), (1, 9, 9, (1, 2))],
)
def test_rows_of_windows_are_the_stock_convolution(
    images: int, height: int, width: int, strides: tuple[int, ...]
) -> None:
    channels = (3, 4, 2)
    layers = [
        (normal(i, 3, 3, channels[i], channels[i + 1]), normal(9 + i, channels[i + 1]))
        for i in range(len(strides))
    ]
    x = normal(5, images, height, width, 3)

    def loss(x: jax.Array, layers: list[tuple[jax.Array, jax.Array]], form: str) -> jax.Array:
        y = PIXEL_FORMS[form](x, layers, strides)
        return jnp.sum(y * jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    both = jax.jit(
        lambda *a: [jax.value_and_grad(loss, (0, 1))(*a, form) for form in ("stock", "rows")]
    )
    stock, rows = (jax.tree.leaves(result) for result in both(x, layers))
    for have, want in zip(rows, stock, strict=True):
        assert have.shape == want.shape
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4 * float(jnp.abs(want).max()))


def count(params: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_official_sizes_have_the_official_numbers_of_parameters() -> None:
    key, frames = jax.random.key(0), jnp.zeros((1, 84, 84, 9))
    encoder = jax.eval_shape(PixelEncoder().init, key, frames)
    assert count(encoder) == 30_368
    feat, action = jnp.zeros((1, 32 * 35 * 35)), jnp.zeros((1, 6))
    assert count(jax.eval_shape(PixelActor(50, 1024, 6).init, key, feat)) == 3_068_124
    assert count(jax.eval_shape(TwinCritic(50, 1024).init, key, feat, action)) == 4_178_136


def test_features_of_64_pixels() -> None:
    encoder, frames = PixelEncoder(), jnp.zeros((1, 64, 64, 9))
    params = jax.eval_shape(encoder.init, jax.random.key(0), frames)
    assert jax.eval_shape(encoder.apply, params, frames).shape == (1, 20_000)


def test_twin_critics_are_two_functions_of_one_trunk() -> None:
    critic, feat, action = TwinCritic(3, 8), normal(0, 5, 12), normal(1, 5, 2)
    params = critic.init(jax.random.key(0), feat, action)
    q = critic.apply(params, feat, action)
    assert q.shape == (2, 5) and not np.allclose(q[0], q[1])
    embed = critic.apply(params, feat, method="embed")
    assert np.all(np.abs(embed) <= 1.0)
    many = jnp.broadcast_to(embed[:, None], (5, 4, 3))
    actions = jnp.broadcast_to(action[:, None], (5, 4, 2))
    again = critic.apply(params, many, actions, method="values")
    np.testing.assert_allclose(again, jnp.broadcast_to(q[..., None], (2, 5, 4)), rtol=1e-5)


def test_trunks_of_curl_are_not_squashed() -> None:
    feat = 10.0 * normal(0, 64, 12)
    actor = PixelActor(3, 8, 4, squash=False)
    embed = actor.apply(actor.init(jax.random.key(0), feat), feat, method="embed")
    assert np.max(np.abs(embed)) > 1.0
    np.testing.assert_allclose(jnp.mean(embed, axis=1), np.zeros(64), atol=1e-5)


@pytest.mark.parametrize("delta", [False, True])
def test_initial_kernels_are_orthogonal_with_gain_root_two(delta: bool) -> None:
    encoder = PixelEncoder(channels=4, delta=delta)
    params = encoder.init(jax.random.key(1), jnp.zeros((1, 20, 20, 3)))["params"]
    for layer in ("conv1", "conv2", "conv3"):
        kernel = params[layer]["kernel"]
        if delta:
            assert not np.any(kernel.at[1, 1].set(0.0))
            kernel = kernel[1, 1]
        flat = kernel.reshape(-1, 4)
        np.testing.assert_allclose(flat.T @ flat, 2.0 * np.eye(4), atol=1e-5)
        assert not np.any(params[layer]["bias"])

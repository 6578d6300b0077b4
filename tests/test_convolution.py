"""The convolutions of each platform against `jax.lax`, values and gradients, odd sizes included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.networks import batch_last, convolution
from coworld_jax.networks.batch_last import BLOCK

LAYOUT = ("NHWC", "HWIO", "NHWC")


def lax_conv(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=LAYOUT)


def lax_conv_transpose(x, kernel):
    # transpose_kernel makes it the gradient of a convolution with in and out exchanged.
    return jax.lax.conv_transpose(
        x, kernel.swapaxes(2, 3), (2, 2), "VALID", dimension_numbers=LAYOUT, transpose_kernel=True
    )


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def blocked(layer):
    """A layer of blocks, without bias and ELU, as a convolution of [N, H, W, C]."""

    def apply(x, kernel):
        blocks = layer(
            batch_last.split(x), kernel, jnp.zeros(kernel.shape[-1], kernel.dtype), False
        )
        return batch_last.join(blocks, x.shape[0])

    return apply


def assert_same(apply, expected, *args):
    """Values and all gradients, for a cotangent that weighs every output differently."""
    cotangent = normal(9, *jax.eval_shape(expected, *args).shape)

    @jax.jit
    def both(args, cotangent):
        return [
            (value, vjp(cotangent))
            for value, vjp in (jax.vjp(apply, *args), jax.vjp(expected, *args))
        ]

    have, want = (jax.tree.leaves(result) for result in both(args, cotangent))
    for value, reference in zip(have, want, strict=True):
        scale = float(jnp.max(jnp.abs(reference)))
        np.testing.assert_allclose(value, reference, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("images", "height", "width", "k"), [(1, 9, 6, 4), (BLOCK + 5, 7, 10, 4), (3, 8, 7, 3)]
)
def test_conv_is_that_of_lax(images, height, width, k):
    x, kernel = normal(0, images, height, width, 3), normal(1, k, k, 3, 5)
    assert_same(blocked(batch_last.conv), lax_conv, x, kernel)


@pytest.mark.parametrize(
    ("images", "height", "width", "k"), [(1, 1, 1, 5), (BLOCK + 5, 5, 3, 5), (3, 2, 5, 6)]
)
def test_conv_transpose_is_that_of_lax(images, height, width, k):
    x, kernel = normal(0, images, height, width, 3), normal(1, k, k, 3, 2)
    assert_same(blocked(batch_last.conv_transpose), lax_conv_transpose, x, kernel)
    assert_same(convolution.strided_conv_transpose, lax_conv_transpose, x, kernel)


def test_conv_by_hand():
    # One image 0..15 in rows of four, kernel 2: each output is the top left pixel of its 2x2 square
    # times 1, plus the bottom right one times 10: 0 + 50, 2 + 70, 8 + 130, 10 + 150.
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    kernel = jnp.array([[1.0, 0.0], [0.0, 10.0]]).reshape(2, 2, 1, 1)
    expected = np.array([[50.0, 72.0], [138.0, 160.0]])
    for form in (blocked(batch_last.conv), convolution.strided_conv):
        np.testing.assert_array_equal(form(x, kernel)[0, :, :, 0], expected)


def test_conv_transpose_by_hand():
    # Pixels 1 and 2 side by side, kernel rows of 1, 10, 100, one row high in effect: the second
    # pixel lands two to the right of the first, 1, 10, 100 + 2, 20, 200.
    x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1].set(jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1))
    expected = np.array([[0.0] * 5, [1.0, 10.0, 102.0, 20.0, 200.0], [0.0] * 5])
    for form in (blocked(batch_last.conv_transpose), convolution.strided_conv_transpose):
        np.testing.assert_array_equal(form(x, kernel)[0, :, :, 0], expected)


def test_split_pads_the_last_block_and_join_drops_the_padding():
    x = normal(0, BLOCK + 3, 2, 5, 4)
    blocks = batch_last.split(x)
    assert blocks.shape == (2, 4, 2, 5, BLOCK)
    np.testing.assert_array_equal(blocks[1, ..., 2], x[BLOCK + 2].transpose(2, 0, 1))
    assert not jnp.any(blocks[1, ..., 3:])
    np.testing.assert_array_equal(batch_last.join(blocks, x.shape[0]), x)


def layers_of(*shapes):
    return tuple((0.3 * normal(i, *s), 0.3 * normal(50 + i, s[-1])) for i, s in enumerate(shapes))


def stacked(conv, last):
    """The equation of a stack, from `jax.lax` and `jax.nn` alone."""

    def apply(x, layers):
        for index, (kernel, bias) in enumerate(layers):
            x = conv(x, kernel)
            x = x + jnp.broadcast_to(bias, x.shape)
            if last or index < len(layers) - 1:
                x = jax.nn.elu(x)
        return x

    return apply


def test_stacks_are_their_equation():
    x, down = normal(7, BLOCK + 1, 13, 12, 3), layers_of((4, 4, 3, 4), (4, 4, 4, 2))
    assert_same(convolution.convolve, stacked(lax_conv, True), x, down)
    x, up = normal(8, BLOCK + 1, 2, 3, 4), layers_of((5, 5, 4, 3), (6, 6, 3, 2))
    assert_same(convolution.convolve_transpose, stacked(lax_conv_transpose, False), x, up)


def test_gradients_of_bfloat16_layers_add_up_in_float32():
    # Twenty blocks of one window each: sums in bfloat16 would lose several percent.
    x = normal(0, 20 * BLOCK, 4, 4, 1) ** 2
    x, kernel = x.astype(jnp.bfloat16), jnp.ones((4, 4, 1, 1), jnp.bfloat16)
    grad = jax.grad(lambda kernel: jnp.sum(blocked(batch_last.conv)(x, kernel)))(kernel)
    exact = np.sum(np.asarray(x, np.float64), axis=0)[..., None]
    assert grad.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(grad, np.float64), exact, rtol=2.0**-8)


@pytest.mark.parametrize("stack", [convolution.convolve, convolution.convolve_transpose])
def test_other_platforms_get_the_stock_convolutions(stack):
    def lowered(platform):
        shapes = (jnp.zeros((2, 13, 12, 3)), layers_of((4, 4, 3, 4)))
        loss = jax.grad(lambda x, layers: jnp.sum(stack(x, layers)), 1)
        return jax.jit(loss).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()

    cuda, cpu = lowered("cuda"), lowered("cpu")
    assert "stablehlo.convolution" in cuda
    assert "stablehlo.while" not in cuda
    assert "stablehlo.convolution" not in cpu
    assert "stablehlo.while" in cpu

"""What the networks promise besides their equations, which test_parity.py holds to a reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.networks import MLP, RSSM, ActorHead, Decoder, Encoder, StateDecoder
from coworld_jax.networks.batch_last import BLOCK
from coworld_jax.networks.convolution import FORMS
from coworld_jax.networks.layers import LayerNorm, Linear, elu, standardise


def shapes(params):
    return {
        "/".join(key.key for key in path[1:]): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    }


def test_elu_and_its_gradient():
    x = jnp.array([-100.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 100.0])
    np.testing.assert_allclose(elu(x), np.where(x > 0, x, np.expm1(np.minimum(x, 0))), atol=1e-7)
    np.testing.assert_allclose(jax.vmap(jax.grad(elu))(x), np.exp(np.minimum(x, 0)), atol=1e-7)
    assert jnp.all(jnp.isfinite(jax.vmap(jax.grad(elu))(jnp.array([-1e30, 1e30]))))


def test_elu_of_bfloat16_keeps_the_digits_of_small_values():
    x = -jnp.logspace(-3.0, 0.0, 32).astype(jnp.bfloat16)
    expected = np.expm1(np.asarray(x, np.float64))
    found = elu(x)
    slopes = jax.vjp(elu, x)[1](jnp.ones_like(x))[0]
    assert found.dtype == slopes.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=5e-3)
    np.testing.assert_allclose(slopes.astype(jnp.float32), expected + 1.0, rtol=1e-2)


def test_layer_norm_by_hand():
    # Mean 2, squared deviations 1, 1: [-1, 1], up to epsilon; then scale 1 and bias 0.
    x = jnp.array([[1.0, 3.0]])
    y, params = LayerNorm().init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(y, [[-1.0, 1.0]], atol=1e-5)
    assert shapes(params) == {"scale": (2,), "bias": (2,)}


def test_the_gradient_of_layer_norm_is_that_of_its_formula():
    def formula(x):
        variance = jnp.var(x, axis=-1, keepdims=True)
        return (x - jnp.mean(x, axis=-1, keepdims=True)) / jnp.sqrt(variance + 1e-5)

    x, dy = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    x = x.at[0, 0].set(2.0)  # features that do not vary
    (y, pull), (expected, expected_pull) = jax.vjp(standardise, x), jax.vjp(formula, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(dy)[0], expected_pull(dy)[0], rtol=1e-4, atol=1e-5)


def test_encoder_keeps_its_parameters_and_shape():
    image = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3)) - 0.5
    embed, params = jax.jit(Encoder(4).init_with_output)(jax.random.key(1), image)
    assert embed.shape == (2, 128)
    assert shapes(params) == {
        "conv0/kernel": (4, 4, 3, 4),
        "conv0/bias": (4,),
        "conv1/kernel": (4, 4, 4, 8),
        "conv1/bias": (8,),
        "conv2/kernel": (4, 4, 8, 16),
        "conv2/bias": (16,),
        "conv3/kernel": (4, 4, 16, 32),
        "conv3/bias": (32,),
    }


def test_decoder_keeps_its_parameters_and_shape():
    image, params = jax.jit(Decoder(4).init_with_output)(jax.random.key(1), jnp.ones((2, 7)))
    assert image.shape == (2, 64, 64, 3)
    assert shapes(params) == {
        "input/kernel": (7, 128),
        "input/bias": (128,),
        "conv0/kernel": (5, 5, 128, 16),
        "conv0/bias": (16,),
        "conv1/kernel": (5, 5, 16, 8),
        "conv1/bias": (8,),
        "conv2/kernel": (6, 6, 8, 4),
        "conv2/bias": (4,),
        "conv3/kernel": (6, 6, 4, 3),
        "conv3/bias": (3,),
    }


def test_an_image_is_encoded_alike_alone_and_in_a_ragged_batch():
    image = jax.random.uniform(jax.random.key(0), (BLOCK + 1, 64, 64, 3)) - 0.5
    encoder = Encoder(2)
    params, encode = jax.jit(encoder.init)(jax.random.key(1), image[:1]), jax.jit(encoder.apply)
    together = encode(params, image)
    for index in (0, BLOCK):  # the first of a whole block, and the only one of a padded block
        alone = encode(params, image[index : index + 1])
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("initializer", "limit"), [("glorot", (6 / 14) ** 0.5), ("torch", 0.5)])
def test_dense_initialisation(initializer, limit):
    # Fan in 4, fan out 10: glorot sqrt(6 / 14), torch 1 / sqrt(4).
    params = Linear(10, initializer).init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    assert 0.8 * limit < jnp.max(jnp.abs(params["kernel"])) <= limit
    assert jnp.any(params["bias"]) == (initializer == "torch")


def test_a_transposed_convolution_counts_the_fan_of_torch_from_its_output():
    # Kernel 5, 128 channels to 16: 1 / sqrt(25 * 16) = 0.05, not 1 / sqrt(25 * 128) = 0.0177.
    init = jax.jit(Decoder(4, "torch").init)
    params = init(jax.random.key(0), jnp.ones((1, 7)))["params"]["conv0"]
    for leaf in (params["kernel"], params["bias"]):
        assert 0.04 < np.max(np.abs(leaf)) <= 0.05


def test_heads_answer_in_float32_whatever_they_compute_in():
    feat = jnp.ones((3, 2, 6), jnp.float32)
    value, params = MLP(2, 8, dtype=jnp.bfloat16).init_with_output(jax.random.key(0), feat)
    (loc, scale), _ = ActorHead(2, 2, 8, dtype=jnp.bfloat16).init_with_output(
        jax.random.key(0), feat
    )
    decoder = StateDecoder(4, 2, 8, dtype=jnp.bfloat16)
    state, _ = decoder.init_with_output(jax.random.key(0), feat[0])
    assert (value.shape, loc.shape, scale.shape) == ((3, 2), (3, 2, 2), (3, 2, 2))
    assert {x.dtype for x in (value, loc, scale, state, *jax.tree.leaves(params))} == {
        jnp.dtype(jnp.float32)
    }
    assert jnp.all(jnp.abs(loc) <= 1.0)
    assert jnp.all((scale > 0.1) & (scale < 2.1))


def test_a_head_in_bfloat16_tells_values_apart_that_bfloat16_would_round_together():
    feat = jnp.linspace(-1.0, 1.0, 64)[:, None]
    head = MLP(1, 32, dtype=jnp.bfloat16)
    variables = head.init(jax.random.key(0), feat)
    variables["params"]["output"]["bias"] = jnp.array([100.0])  # bfloat16 knows 100 and 100.5
    assert len(np.unique(head.apply(variables, feat))) > 32


@pytest.mark.parametrize("layer", ["dense", "convolution", "transposed"])
def test_the_gradient_of_a_bias_in_bfloat16_is_summed_in_float32(layer):
    # The gradient of every output is 1 / 4096, so that the bias gets 1. Sums of bfloat16 values
    # in bfloat16 stop growing long before.
    def mean(bias):
        if layer == "dense":
            params = {"kernel": jnp.ones((1, 1)), "bias": bias}
            y = Linear(1, dtype=jnp.bfloat16).apply({"params": params}, jnp.ones((64, 64, 1)))
        else:
            form = FORMS["stock"]
            apply = form.convolve if layer == "convolution" else form.convolve_transpose
            x = jnp.ones((4096, 2, 2, 1) if layer == "convolution" else (1024, 1, 1, 1))
            kernel = jnp.ones((2, 2, 1, 1), jnp.bfloat16)
            y = apply(x.astype(jnp.bfloat16), [(kernel, bias)])
        assert y.dtype == jnp.bfloat16 and y.size == 4096
        return jnp.mean(y.astype(jnp.float32))

    assert jax.grad(mean)(jnp.ones(1))[0] == pytest.approx(1.0, abs=1e-3)


def test_the_embedding_is_projected_apart_from_the_recurrence():
    # posterior(h, project(e)) is one dense layer on [h, e], so that e can be projected beforehand.
    rssm = RSSM("gaussian", groups=3, classes=1, deter=4, hidden=5, cell="plain", embed=6)
    key = jax.random.key(0)
    deter, embed = jax.random.normal(key, (2, 4)), jnp.linspace(-1.0, 1.0, 12).reshape(2, 6)
    variables = rssm.init(jax.random.key(1), deter[:, :3], deter, jnp.ones((2, 2)), embed)
    params = variables["params"]
    kernel = jnp.concatenate([params["post_deter"]["kernel"], params["post_embed"]["kernel"]])
    bias = jnp.broadcast_to(params["post_deter"]["bias"], (2, 5))
    hidden = elu(jnp.concatenate([deter, embed], axis=-1) @ kernel + bias)
    raw = hidden @ params["post_stats"]["kernel"]
    projected = rssm.apply(variables, embed, method="project")
    stats = rssm.apply(variables, deter, projected, method="posterior")
    np.testing.assert_allclose(stats["mean"], raw[:, :3], atol=1e-6)
    np.testing.assert_allclose(
        stats["std"], 2.0 * jax.nn.sigmoid(raw[:, 3:] / 2.0) + 0.1, atol=1e-6
    )

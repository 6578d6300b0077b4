"""The C++ convolutions against `jax.lax`, and what happens where they cannot be compiled."""

import os
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convolution import assert_same, layers_of, normal

from coworld_jax.networks import convolution, direct
from coworld_jax.training import native

CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
LAYOUT = ("NHWC", "HWIO", "NHWC")
ACTIVATIONS = {"none": lambda z: z, "elu": jax.nn.elu, "relu": jax.nn.relu}


@pytest.fixture(scope="session")
def block():
    """Images of a block, once XLA knows the functions."""
    if shutil.which((os.environ.get("CXX") or "c++").split()[0]) is None:
        pytest.skip("there is no C++ compiler")
    before = list(direct._registered)
    assert native.use_native_convolutions(CACHE / "native")
    (size,) = direct._registered
    direct._registered[:] = before  # tests of other files find the process as it was
    return size


@pytest.fixture(autouse=True)
def unregistered(monkeypatch):
    """Without `library`, a test has none, whatever others have done in this process."""
    monkeypatch.setattr(direct, "_registered", [])


@pytest.fixture
def library(block, unregistered, monkeypatch):
    """The functions, for one test."""
    monkeypatch.setattr(direct, "_registered", [block])


def layer(function, stride, activation):
    """One of `direct.conv` and `direct.conv_transpose` as a function of [N, H, W, C]."""

    def apply(x, kernel, bias):
        y = function(direct.split(x), kernel, bias, stride, activation)
        return direct.join(y, x.shape[0])

    return apply


def lax_layer(transpose, stride, activation):
    """The same layer from `jax.lax` and `jax.nn`."""

    def apply(x, kernel, bias):
        strides, options = (stride, stride), {"dimension_numbers": LAYOUT, "precision": "highest"}
        if transpose:
            options["transpose_kernel"] = True
            z = jax.lax.conv_transpose(x, kernel.swapaxes(2, 3), strides, "VALID", **options)
        else:
            z = jax.lax.conv_general_dilated(x, kernel, strides, "VALID", **options)
        return ACTIVATIONS[activation](z + jnp.broadcast_to(bias, z.shape))

    return apply


@pytest.mark.parametrize(
    ("images", "height", "width", "channels", "features", "k", "stride", "activation"),
    [
        (16, 9, 6, 3, 5, 4, 2, "elu"),
        (21, 8, 11, 4, 9, 3, 1, "relu"),  # a block that is not full, tiles of 8 and 1 channels
        (33, 64, 64, 3, 4, 4, 2, "none"),  # more pixels than the gradient of a kernel takes at once
        (16, 12, 12, 18, 13, 6, 2, "elu"),  # a kernel that does not stay in the cache
        (16, 7, 10, 1, 2, 5, 3, "relu"),
    ],
)
@pytest.mark.usefixtures("library")
def test_layers_and_gradients_are_those_of_lax(
    images, height, width, channels, features, k, stride, activation
):
    kernel, bias = normal(1, k, k, channels, features), normal(2, features)
    x = normal(0, images, height, width, channels)
    have = layer(direct.conv, stride, activation)
    assert_same(have, lax_layer(False, stride, activation), x, kernel, bias)
    x = normal(3, images, height // 2, width // 2, channels)
    have = layer(direct.conv_transpose, stride, activation)
    assert_same(have, lax_layer(True, stride, activation), x, kernel, bias)


@pytest.mark.usefixtures("library")
def test_a_kernel_beyond_the_cache_gives_the_same():
    # 4 * 4 * 96 * 48 weights are more than 256 KiB: the loop over channels is then outside.
    x, kernel, bias = normal(0, 16, 6, 6, 96), 0.1 * normal(1, 4, 4, 96, 48), normal(2, 48)
    assert_same(layer(direct.conv, 2, "elu"), lax_layer(False, 2, "elu"), x, kernel, bias)
    x = normal(3, 16, 2, 2, 96)
    have, want = layer(direct.conv_transpose, 2, "elu"), lax_layer(True, 2, "elu")
    assert_same(have, want, x, kernel, bias)


@pytest.mark.usefixtures("library")
def test_split_and_join_move_each_image_to_its_lane(block):
    x = normal(0, block + 3, 2, 5, 4)
    blocks = direct.split(x)
    assert blocks.shape == (2, 2, 5, 4, block)
    np.testing.assert_array_equal(blocks[1, ..., 2], x[block + 2])
    assert not jnp.any(blocks[1, ..., 3:])
    np.testing.assert_array_equal(direct.join(blocks, x.shape[0]), x)


@pytest.mark.usefixtures("library")
def test_elu_is_exact_to_rounding_and_keeps_nan():
    z = jnp.concatenate([jnp.linspace(-100.0, 5.0, 4001), jnp.array([jnp.nan, -jnp.inf, 1e30])])
    z = jnp.pad(z, (0, 4016 - z.size)).reshape(16, 251, 1, 1)
    one, none = jnp.ones((1, 1, 1, 1)), jnp.zeros(1)
    y = layer(direct.conv, 1, "elu")(z, one, none)
    np.testing.assert_allclose(y, jnp.where(z > 0, z, jnp.expm1(z)), rtol=0, atol=1.5e-7)
    assert jnp.isnan(layer(direct.conv, 1, "relu")(z, one, none)).sum() == 1


@pytest.mark.usefixtures("library")
def test_layers_of_a_mapped_axis_are_those_of_each_element():
    x, kernel, bias = normal(0, 3, 16, 6, 6, 2), normal(1, 3, 4, 4, 2, 3), normal(2, 3, 3)
    apply = layer(direct.conv, 2, "elu")
    one_by_one = jnp.stack([apply(x[i], kernel[i], bias[i]) for i in range(3)])
    np.testing.assert_array_equal(jax.vmap(apply)(x, kernel, bias), one_by_one)


@pytest.mark.usefixtures("library")
def test_sums_do_not_depend_on_which_thread_is_first():
    x, kernel, bias = normal(0, 64, 30, 30, 3), normal(1, 5, 5, 3, 8), normal(2, 8)
    weigh = normal(3, 64, 13, 13, 8)
    loss = lambda *arrays: jnp.sum(layer(direct.conv, 2, "elu")(*arrays) * weigh)  # noqa: E731
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
    first = gradients(x, kernel, bias)
    for _ in range(5):
        for a, b in zip(first, gradients(x, kernel, bias), strict=True):
            np.testing.assert_array_equal(a, b)


def lowered(images, dtype=jnp.float32, k=4, platform="cpu"):
    shapes = jnp.zeros((images, 13, 12, 3), dtype), layers_of((k, k, 3, 4))
    layers = [(kernel.astype(dtype), bias) for kernel, bias in shapes[1]]
    traced = jax.jit(convolution.convolve).trace(shapes[0], layers)
    return traced.lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.usefixtures("library")
def test_stacks_use_the_library_where_it_fits(block):
    assert "coworld_jax.gather" in lowered(block)
    for text in (
        lowered(block - 1),  # a policy sees few images
        lowered(block, jnp.bfloat16),
        lowered(block, k=9),
        lowered(block, platform="cuda"),
    ):
        assert "coworld_jax" not in text


def test_stacks_do_without_a_library():
    assert "coworld_jax" not in lowered(64)


@pytest.mark.usefixtures("library")
def test_stacks_of_the_library_are_those_of_lax(block):
    x, down = normal(7, block + 1, 13, 12, 3), layers_of((4, 4, 3, 4), (4, 4, 4, 2))
    up = layers_of((5, 5, 3, 4), (6, 6, 4, 2))
    pixels = layers_of((3, 3, 3, 4), (3, 3, 4, 2))
    for name, layers in (("convolve", down), ("convolve_transpose", up)):
        stock, own = (getattr(convolution.FORMS[form], name) for form in ("stock", "direct"))
        assert_same(own, stock, x, layers)
    stock, own = (convolution.PIXEL_FORMS[form] for form in ("stock", "direct"))
    assert_same(partial(own, strides=(2, 1)), partial(stock, strides=(2, 1)), x, pixels)


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("no-such-compiler", "No such file or directory: 'no-such-compiler'"), ("false", "status 1")],
)
def test_without_a_compiler_a_warning_says_what_to_do(monkeypatch, caplog, compiler, reason):
    monkeypatch.setenv("CXX", compiler)
    assert not native._register(None)
    (line,) = caplog.messages
    assert reason in line
    assert "Install a C++ compiler, name one in CXX, or leave that variable empty." in line
    assert not direct._registered


def test_an_empty_compiler_leaves_the_convolutions_to_xla(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "")
    assert not native._register(None)
    assert caplog.messages == []


@pytest.mark.usefixtures("block")
def test_the_library_is_compiled_once(tmp_path):
    compiler = (os.environ.get("CXX") or "c++").split()
    native._library(compiler, tmp_path / "native")
    (library,) = (tmp_path / "native").iterdir()
    made = library.stat().st_mtime_ns
    native._library(compiler, tmp_path / "native")
    assert library.stat().st_mtime_ns == made


@pytest.mark.usefixtures("block")
def test_a_folder_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    compiler = (os.environ.get("CXX") or "c++").split()
    assert native._library(compiler, tmp_path / "file" / "native").images_of_block()

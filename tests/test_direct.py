"""The C++ functions against `jax.lax`, and what happens where they cannot be compiled."""

import os
import shutil
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P
from test_convolution import assert_same, layers_of, normal
from tiny_world_model import make_case

from coworld_jax import parallel
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.gradient import averaged
from coworld_jax.networks import convolution, direct
from coworld_jax.networks.layers import product
from coworld_jax.networks.products import kernel_gradient
from coworld_jax.training import native

CACHE = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
COMPILER = os.environ.get("CXX", "c++").split()
LAYOUT = ("NHWC", "HWIO", "NHWC")
ACTIVATIONS = {"none": lambda z: z, "elu": jax.nn.elu, "relu": jax.nn.relu}


@pytest.fixture(scope="session")
def block():
    """Images of a block, once XLA knows the functions."""
    if not COMPILER or shutil.which(COMPILER[0]) is None:
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
        (16, 12, 12, 18, 13, 6, 2, "elu"),  # tiles of 8, 4 and 1 channels
        (16, 7, 10, 1, 2, 5, 3, "relu"),
        (16, 9, 9, 2, 10, 8, 1, "elu"),  # the largest kernel
        (16, 5, 140, 1, 2, 3, 2, "relu"),  # rows longer than what a tile takes at once
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


def weighed_sum(x, kernel, bias):
    y = layer(direct.conv, 2, "elu")(x, kernel, bias)
    return jnp.sum(y * jnp.arange(y.size, dtype=jnp.float32).reshape(y.shape) / y.size)


@pytest.mark.usefixtures("library")
def test_gradients_of_a_mapped_axis_are_those_of_each_element():
    arrays = normal(0, 3, 16, 6, 6, 2), normal(1, 3, 4, 4, 2, 3), normal(2, 3, 3)
    both = jax.value_and_grad(weighed_sum, (0, 1, 2))
    one_by_one = [both(*(array[i] for array in arrays)) for i in range(3)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *one_by_one)
    jax.tree.map(np.testing.assert_array_equal, jax.vmap(both)(*arrays), expected)


@pytest.mark.usefixtures("library")
def test_devices_that_share_a_batch_find_the_same_gradient():
    x, kernel, bias = normal(0, 32, 6, 6, 2), normal(1, 4, 4, 2, 3), normal(2, 3)

    def mean(x, axis_name=None):
        loss = lambda kernel: jnp.mean(layer(direct.conv, 2, "elu")(x, kernel, bias) ** 2)  # noqa: E731
        return averaged(jax.grad(loss)(kernel), axis_name)

    mesh = parallel.make_mesh(2, 32)
    shared = jax.shard_map(
        partial(mean, axis_name=parallel.AXIS),
        mesh=mesh,
        in_specs=P(parallel.AXIS),
        out_specs=P(),
        check_vma=False,
    )
    np.testing.assert_allclose(shared(x), mean(x), rtol=1e-5, atol=1e-6)


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


def pixels(x, layers):
    return convolution.convolve_pixels(x, layers, (2,))


def errors(x, layers):
    image = jax.eval_shape(convolution.convolve_transpose, x, layers)
    return convolution.squared_errors(x, layers, jnp.ones(image.shape))


STACKS = (convolution.convolve, convolution.convolve_transpose, errors, pixels)


def lowered(stack, images, dtype=jnp.float32, k=4, platform="cpu"):
    x, (layer,) = jnp.zeros((images, 13, 12, 3), dtype), layers_of((k, k, 3, 4))
    layers = [(layer[0].astype(dtype), layer[1])]
    return jax.jit(stack).trace(x, layers).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.usefixtures("library")
def test_stacks_use_the_library_where_it_fits(stack, block):
    assert "coworld_jax." in lowered(stack, block)
    for text in (
        lowered(stack, block - 1),  # a policy sees few images
        *([] if stack is pixels else [lowered(stack, block, jnp.bfloat16)]),
        lowered(stack, block, k=9),
        lowered(stack, block, platform="cuda"),
    ):
        assert "coworld_jax." not in text


@pytest.mark.parametrize("stack", STACKS)
def test_stacks_do_without_a_library(stack):
    assert "coworld_jax." not in lowered(stack, 64)


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


@pytest.mark.usefixtures("library")
def test_squared_errors_of_the_library_are_those_of_lax(block):
    x, layers = normal(7, block + 1, 13, 12, 3), layers_of((5, 5, 3, 4), (6, 6, 4, 3))
    image = normal(8, block + 1, 62, 58, 3)  # C++ adds four pixels of a row at a time: two are left
    stock, own = (
        partial(convolution.FORMS[form].squared_errors, image=image) for form in ("stock", "direct")
    )
    assert_same(own, stock, x, layers)

    def slope(layers):
        return jax.grad(lambda layers: jnp.sum(own(x, layers)))(layers)

    # Several seeds compare with the same images.
    both = jax.vmap(slope)(jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), layers))
    for seed, sign in enumerate((1, -1)):
        alone = slope(jax.tree.map(lambda leaf, sign=sign: sign * leaf, layers))
        tiny.close(jax.tree.map(lambda leaf, seed=seed: leaf[seed], both), alone)
    for form in (own, stock):
        with pytest.raises(AssertionError):
            form(x, layers, image=image[:, :1])


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("rows", [1, 37, 513])  # 512 are summed at once
@pytest.mark.parametrize("inputs", [1, 10, 17])
def test_kernel_gradients_of_the_library_are_those_of_jax(rows, inputs, block):
    for outputs in (1, block + 3, 3 * block + 1, 4 * block, 5 * block + 1):  # tiles, and parts
        x, dy = normal(0, 2, rows, inputs), normal(1, 2, rows, outputs)
        want = jnp.einsum("sri,srj->sij", x, dy)
        tiny.close(jax.vmap(direct.multiply_rows)(x, dy), want, 1e-4)
        tiny.close(kernel_gradient(x, dy), want.sum(0), 1e-4)


@pytest.mark.usefixtures("library")
def test_kernel_gradients_use_the_library_where_it_fits():
    def text(size, dtype=jnp.float32, platform="cpu", rows=4):
        x, kernel = jnp.ones((rows, 9), dtype), jnp.ones((9, size), dtype)
        loss = jax.jit(jax.grad(lambda kernel: product(x, kernel, dtype).sum().astype("float32")))
        return loss.trace(kernel).lower(lowering_platforms=(platform,)).as_text()

    assert "multiply_rows" in text(5)
    large, many = text(2**15), text(5, rows=2**16)
    for unfit in (large, many, text(5, jnp.bfloat16), text(5, platform="cuda")):
        assert "multiply_rows" not in unfit
    direct._registered.clear()
    jax.clear_caches()
    assert "multiply_rows" not in text(5)


@pytest.mark.usefixtures("library")
def test_a_world_model_learns_the_same_with_the_library(block):
    case = make_case("gaussian")
    model, params = case.agent.model, case.state.world_model
    image = normal(3, block, 64, 64, 3)
    feat = normal(4, block, model.rssm.deter + model.rssm.stoch)

    def loss(params):
        errors = world_model.observation_loss(model, params, feat[None], image[None])
        return jnp.mean(errors) + jnp.mean(world_model.encode_image(model, params, image) ** 2)

    def gradients():
        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        calls = compiled.as_text()
        used = ["coworld_jax.correlate" in calls, "coworld_jax.spread_errors" in calls]
        return used, compiled(params)

    used, have = gradients()
    direct._registered.clear()
    jax.clear_caches()
    unused, want = gradients()
    assert (used, unused) == ([True, True], [False, False])
    tiny.close(have, want)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("function", [direct.conv, direct.conv_transpose])
def test_shapes_that_do_not_agree_are_refused(function, block):
    x, kernel, bias = jnp.zeros((1, 9, 9, 2, block)), jnp.zeros((4, 4, 2, 3)), jnp.zeros(3)
    for arrays in (
        (x[..., 1:], kernel, bias),
        (x[:, :, :, :1], kernel, bias),
        (x, kernel[1:], bias),
        (x, kernel, bias[1:]),
        (x, kernel, bias.astype(jnp.bfloat16)),
    ):
        with pytest.raises(AssertionError):
            function(*arrays, 2, "elu")
    with pytest.raises(ValueError, match="A kernel of 9 rows is larger than the largest one, 8"):
        function(x, jnp.zeros((9, 9, 2, 3)), bias, 2, "elu")


@pytest.mark.usefixtures("library")
def test_images_and_rows_that_do_not_agree_are_refused(block):
    x, kernel, bias = jnp.zeros((1, 5, 5, 2, block)), jnp.zeros((4, 4, 2, 3)), jnp.zeros(3)
    image = jnp.zeros((1, 12, 12, 3, block))
    for arrays in (
        (x, kernel, bias, image[:, 1:]),
        (x, kernel, bias, image[:, :, :, :1]),
        (x, kernel, bias, image.astype(jnp.bfloat16)),
        (x, kernel, bias[1:], image),
    ):
        with pytest.raises(AssertionError):
            direct.squared_errors(*arrays, 2)
    rows = jnp.zeros((6, 4))
    for other in (rows[1:], rows.astype(jnp.bfloat16), rows[None]):
        with pytest.raises(AssertionError):
            direct.multiply_rows(rows, other)


@pytest.mark.usefixtures("library")
def test_an_image_smaller_than_the_kernel_is_refused(block):
    x, layers = jnp.zeros((block, 3, 5, 3)), layers_of((4, 4, 3, 4))
    with pytest.raises(ValueError, match="Images of 3x5 pixels are smaller than a kernel of 4x4"):
        convolution.convolve(x, layers)


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


def test_a_compiler_that_fails_is_quoted(monkeypatch, caplog, tmp_path):
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\ncase "$*" in *-dM*) exit 0;; esac\n'
                      'echo "direct.cc:1: error: no C++17" >&2; exit 1\n')  # fmt: skip
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    assert not native._register(None)
    assert "(direct.cc:1: error: no C++17)" in caplog.text


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_compiler_leaves_the_convolutions_to_xla(monkeypatch, caplog, empty):
    monkeypatch.setenv("CXX", empty)
    assert not native._register(None)
    assert caplog.messages == []


@pytest.mark.usefixtures("block")
def test_the_library_is_compiled_once_and_again_if_it_is_damaged(tmp_path):
    native._library(COMPILER, tmp_path / "native")
    (library,) = (tmp_path / "native").iterdir()
    made = library.stat()
    native._library(COMPILER, tmp_path / "native")
    assert library.stat().st_mtime_ns == made.st_mtime_ns
    damaged = tmp_path / "damaged" / library.name
    damaged.parent.mkdir()
    damaged.write_bytes(b"half of it")
    assert native._library(COMPILER, damaged.parent).images_of_block()
    assert damaged.stat().st_size == made.st_size


@pytest.mark.usefixtures("block")
def test_a_folder_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "file").touch()
    assert native._library(COMPILER, tmp_path / "file" / "native").images_of_block()

"""ResNets: their official sizes, the names of their weights, and one block written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.agents import r3m
from coworld_jax.networks.resnet import ResNet, _Block, _torch_name, resnet_params


def state_dict(depth: int) -> dict[str, np.ndarray]:
    """Random weights under torchvision's names."""
    shapes = jax.eval_shape(ResNet(depth).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    found, rng = {}, np.random.default_rng(0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["params"]):
        name = _torch_name(tuple(part.key for part in path))
        shape = tuple(leaf.shape[axis] for axis in (3, 2, 0, 1)) if leaf.ndim == 4 else leaf.shape
        found[name] = rng.uniform(0.5, 1.0, shape).astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("depth", "learnt", "features"),
    [(18, 11_176_512, 512), (34, 21_284_672, 512), (50, 23_508_032, 2048)],
)
def test_sizes_are_torchvisions(depth: int, learnt: int, features: int) -> None:
    weights = state_dict(depth)
    assert sum(x.size for name, x in weights.items() if "running" not in name) == learnt
    network, params = resnet_params(weights | {"fc.weight": np.zeros((1000, features))})
    assert network == ResNet(depth) and network.features == features
    out = jax.eval_shape(network.apply, params, jnp.zeros((2, 64, 64, 3)))
    assert out.shape == (2, features)


def test_names_are_torchvisions() -> None:
    weights = state_dict(50)
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer4.2.bn3.running_mean": (2048,),
        "layer3.0.downsample.1.bias": (1024,),
    }.items():
        assert weights[name].shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer3.1.conv2.weight": None}, "lack layer3.1.conv2.weight"),
        ({"layer9.0.bn1.bias": np.zeros(2)}, "layer9.0.bn1.bias belongs to no layer"),
        ({"bn1.bias": np.zeros(3)}, r"bn1.bias has shape \(3,\)"),
    ],
)
def test_other_weights_are_refused(change: dict[str, np.ndarray | None], message: str) -> None:
    weights = state_dict(18) | change
    with pytest.raises(ValueError, match=message):
        resnet_params({name: value for name, value in weights.items() if value is not None})


def test_a_block_with_stride_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 6, 7, 3)), jnp.float32)
    block = _Block(width=4, stride=2, expansion=1)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.2, 1.0, leaf.shape), jnp.float32),
        block.init(jax.random.key(0), x),
    )

    def conv_norm(x: jax.Array, name: str, pad: int, stride: int) -> np.ndarray:
        inner = params["params"][name]
        y = jax.lax.conv_general_dilated(
            x, inner["conv"]["kernel"], (stride,) * 2, [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        y, norm = np.asarray(y), {k: np.asarray(v) for k, v in inner.items() if k != "conv"}
        return (y - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]

    y = conv_norm(jnp.asarray(np.maximum(conv_norm(x, "conv1", 1, 2), 0.0)), "conv2", 1, 1)
    expected = np.maximum(y + conv_norm(x, "downsample", 0, 2), 0.0)
    np.testing.assert_allclose(block.apply(params, x), expected, rtol=1e-4, atol=1e-4)


def test_checkpoints_of_r3m_are_found_behind_their_prefix() -> None:
    weights = {f"r3m.module.convnet.{k}": v for k, v in state_dict(18).items()}
    network, _ = r3m.load_params(weights | {"r3m.module.lang_rew.weight": np.zeros(3)})
    assert network.depth == 18
    with pytest.raises(ValueError, match="no checkpoint of R3M"):
        r3m.load_params({"weight": np.zeros(3)})


def test_images_are_prepared_as_in_the_evaluation_of_r3m() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 96, 128, 3), np.uint8)
    found = r3m.prepare(jnp.asarray(image))
    assert found.shape == (1, 224, 224, 3) and found.dtype == jnp.uint8
    grey = r3m.normalise(jnp.full((1, 1, 1, 3), 255, jnp.uint8))[0, 0, 0]
    np.testing.assert_allclose(grey, [(1 - 0.485) / 0.229, 0.544 / 0.224, 0.594 / 0.225], rtol=1e-5)

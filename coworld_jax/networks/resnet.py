"""ResNet-18, -34 and -50 without their classifier, for inference: R3M's encoder.

Batch normalisation uses its running statistics, which are parameters here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of each stage, by depth; 50 has bottlenecks of three convolutions, the others two."""
_WIDTHS = (64, 128, 256, 512)
_EPS = 1e-5
_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


class ResNet(nn.Module):
    """He et al. (2016), as torchvision has it: stride on the 3x3 convolution of a bottleneck."""

    depth: int  # 18, 34 or 50

    @property
    def features(self) -> int:
        """Size of the embedding: 512, or 2048 for a depth of 50."""
        return _WIDTHS[-1] * _expansion(self.depth)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised image to its embedding: ``[N, 224, 224, 3] -> [N, features]``."""
        return jnp.mean(self.stages(image)["layer4"], axis=(1, 2))

    @nn.compact
    def stages(self, image: jax.Array) -> dict[str, jax.Array]:
        """Outputs of ``maxpool`` and of ``layer1`` ... ``layer4``, each ``[N, h, w, channels]``."""
        x = nn.relu(_ConvNorm(64, 7, 2, name="conv1")(image))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        found = {"maxpool": x}
        for stage, (width, count) in enumerate(zip(_WIDTHS, BLOCKS[self.depth], strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                x = _Block(width, stride, _expansion(self.depth), name=name)(x)
            found[f"layer{stage + 1}"] = x
        return found


class _Block(nn.Module):
    """Two 3x3 convolutions, or a bottleneck 1x1, 3x3, 1x1, beside a shortcut."""

    width: int
    stride: int
    expansion: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = self.width * self.expansion
        kernels = (1, 3, 1) if self.expansion > 1 else (3, 3)
        y = x
        for index, kernel in enumerate(kernels):
            last = index == len(kernels) - 1
            # The stride lies on the first 3x3 convolution.
            stride = self.stride if index == kernels.index(3) else 1
            width = outputs if last else self.width
            y = _ConvNorm(width, kernel, stride, name=f"conv{index + 1}")(y)
            y = y if last else nn.relu(y)
        if self.stride > 1 or x.shape[-1] != outputs:
            x = _ConvNorm(outputs, 1, self.stride, name="downsample")(x)
        return nn.relu(x + y)


class _ConvNorm(nn.Module):
    """A convolution without bias, padded as PyTorch pads, then batch normalisation."""

    outputs: int
    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = self.kernel // 2
        x = nn.Conv(
            self.outputs,
            (self.kernel, self.kernel),
            (self.stride, self.stride),
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            name="conv",
        )(x)
        ones, zeros = nn.initializers.ones, nn.initializers.zeros
        starts = {"scale": ones, "bias": zeros, "mean": zeros, "var": ones}
        norm = {name: self.param(name, init, (self.outputs,)) for name, init in starts.items()}
        scale = norm["scale"] * jax.lax.rsqrt(norm["var"] + _EPS)
        shift = norm["bias"] - norm["mean"] * scale
        return x * jnp.broadcast_to(scale, x.shape) + jnp.broadcast_to(shift, x.shape)


def resnet_params(weights: Mapping[str, np.ndarray]) -> tuple[ResNet, dict[str, Any]]:
    """The network that a torchvision state dictionary belongs to, and its parameters.

    Args:
        weights: name, as in ``layer1.0.conv1.weight``, to array. The classifier ``fc`` and counts
            of batches are left out.

    Raises:
        ValueError: a weight is missing, unknown or of another shape.
    """
    weights = {
        name: value
        for name, value in weights.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    network = ResNet(_depth(weights))
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    needed = jax.tree_util.tree_leaves_with_path(shapes["params"])
    params: dict[str, Any] = {}
    for path, leaf in needed:
        parts = tuple(part.key for part in path)
        name = _torch_name(parts)
        if name not in weights:
            raise ValueError(f"The weights of a ResNet-{network.depth} lack {name}.")
        value = np.asarray(weights[name], np.float32)
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        if value.shape != leaf.shape:
            raise ValueError(f"{name} has shape {value.shape} in our layout, not {leaf.shape}.")
        place = params
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    unknown = sorted(set(weights) - {_torch_name(tuple(p.key for p in path)) for path, _ in needed})
    if unknown:
        raise ValueError(f"{unknown[0]} belongs to no layer of a ResNet-{network.depth}.")
    return network, {"params": params}


def _expansion(depth: int) -> int:
    return 4 if depth == 50 else 1


def _depth(weights: Mapping[str, np.ndarray]) -> int:
    """18, 34 or 50, from the names of the weights."""
    if "layer1.0.conv3.weight" in weights:
        return 50
    return 34 if "layer1.2.conv1.weight" in weights else 18


def _torch_name(parts: tuple[str, ...]) -> str:
    """``(layer1_0, conv1, conv, kernel)`` is ``layer1.0.conv1.weight`` there."""
    *block, layer = (part for part in parts[:-1] if part != "conv")
    place = "".join(f"{part.replace('_', '.')}." for part in block)
    if parts[-1] == "kernel":
        return f"{place}{'downsample.0' if layer == 'downsample' else layer}.weight"
    norm = "downsample.1" if layer == "downsample" else layer.replace("conv", "bn")
    return f"{place}{norm}.{_NORM[parts[-1]]}"

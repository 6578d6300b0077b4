"""R3M's frozen encoder: images in, embeddings out, as its evaluation code prepares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import augment
from coworld_jax.networks import ResNet, resnet_params

_SHORT_SIDE = 256
CROP = 224
_MEAN = (0.485, 0.456, 0.406)  # of ImageNet
_STD = (0.229, 0.224, 0.225)
_PREFIX = "convnet."


def load_params(weights: Mapping[str, np.ndarray]) -> tuple[ResNet, dict[str, Any]]:
    """The encoder of a checkpoint; its language head is left out.

    Args:
        weights: of ``torch_file.read_tensors``: names hold ``convnet.`` after any prefix, as
            in ``r3m.module.convnet.conv1.weight``.

    Raises:
        ValueError: no such weights, or not those of a ResNet-18, -34 or -50.
    """
    found = {name.split(_PREFIX, 1)[1]: value for name, value in weights.items() if _PREFIX in name}
    if not found:
        raise ValueError(f"No weight has {_PREFIX} in its name: this is no checkpoint of R3M.")
    return resnet_params(found)


def prepare(image: jax.Array) -> jax.Array:
    """The short side resized to 256 as Pillow does, then the middle 224x224 pixels.

    Args:
        image: uint8 ``[N, height, width, 3]``.

    Returns:
        uint8 ``[N, 224, 224, 3]``.
    """
    resized = augment.resize_bilinear(image, *resized_shape(*image.shape[1:3]))
    return augment.centre_crop(resized, CROP)


def resized_shape(height: int, width: int) -> tuple[int, int]:
    """Height and width with a short side of 256; the long one is rounded down."""
    short = min(height, width)
    return int(_SHORT_SIDE * height / short), int(_SHORT_SIDE * width / short)


def normalise(image: jax.Array) -> jax.Array:
    """``(x / 255 - mean) / std`` of ImageNet for each colour, ``[..., 3]``."""
    scaled = image.astype(jnp.float32) / 255.0
    mean, std = (jnp.broadcast_to(jnp.asarray(x), image.shape) for x in (_MEAN, _STD))
    return (scaled - mean) / std


def embed(network: ResNet, params: dict[str, Any], image: jax.Array) -> jax.Array:
    """Embeddings of raw images: uint8 ``[N, height, width, 3] -> [N, features]``.

    Reference: R3M, Nair et al. (2022), and its evaluation code.
    """
    return network.apply(params, normalise(prepare(image)))

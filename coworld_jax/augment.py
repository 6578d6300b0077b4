"""What is done to images and episodes before a network sees them, as functions of arrays.

Images have their channels last; frames of a stack lie one after another among the channels.
Offsets are (row, column). Random offsets are arguments: the same ones give the same images.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

_PILLOW_BITS = 22  # of the fraction of Pillow's weights


def random_shift(image: jax.Array, offset: jax.Array, pad: int) -> jax.Array:
    """Each image moved by a few pixels, its edge repeated.

    Equal to padding by ``pad`` and taking the window that begins at ``offset``;
    ``offset = (pad, pad)`` changes nothing.

    Args:
        image: ``[B, height, width, C]``.
        offset: int in ``0 ... 2 * pad``, (row, column), ``[B, 2]``.
        pad: pixels.

    Returns:
        ``[B, height, width, C]``.

    Reference: DrQ-v2, Yarats et al. (2021). Its bilinear sampler differs from these whole pixels
    by at most 0.0023 grey levels of 255.
    """
    chex.assert_rank([image, offset], [4, 2])
    edges = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    height, width = image.shape[1:3]
    return crop(jnp.pad(image, edges, mode="edge"), offset, (height, width))


def crop(image: jax.Array, offset: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The window of ``size`` that begins at ``offset``, for each image.

    Args:
        image: ``[B, height, width, C]``.
        offset: int, (row, column), ``[B, 2]``.
        size: height and width of the window.

    Returns:
        ``[B, *size, C]``.
    """
    chex.assert_rank([image, offset], [4, 2])
    channels = image.shape[-1]

    def window(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (*size, channels))

    return jax.vmap(window)(image, offset)


def centre_crop(image: jax.Array, size: int) -> jax.Array:
    """The middle ``size`` rows and columns: ``[..., height, width, C] -> [..., size, size, C]``.

    An odd margin is divided as Python rounds its half: to the even number.
    """
    height, width = image.shape[-3:-1]
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[..., top : top + size, left : left + size, :]


def stack_rows(start: jax.Array, row: jax.Array, frames: int) -> jax.Array:
    """Rows of the frames that a stack holds, oldest first.

    Before the first row of the episode, that row is repeated.

    Args:
        start: first row of the episode, int ``[...]``.
        row: row of the newest frame, int ``[...]``.
        frames: F.

    Returns:
        int ``[..., F]``.
    """
    chex.assert_equal_shape([start, row])
    back = jnp.arange(frames - 1, -1, -1).reshape((1,) * jnp.ndim(row) + (-1,))
    return jnp.maximum(row[..., None] - back, start[..., None])


def stack_channels(frames: jax.Array) -> jax.Array:
    """Frames one after another among the channels: ``[..., F, H, W, C] -> [..., H, W, F * C]``."""
    moved = jnp.moveaxis(frames, -4, -2)
    return moved.reshape(*moved.shape[:-2], -1)


def n_step(
    reward: jax.Array, discount: jax.Array, gamma: float, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Reward and discount of ``steps`` steps taken as one.

    ``r = Σ_{i < n} γ^i r_i`` and ``d = γ^n d_{n-1}``: only the last step's discount counts.

    Args:
        reward: of the rows that follow a state, ``[..., n]``.
        discount: of the same rows, 0 where the task ended, ``[..., n]``.
        gamma: ``γ``.
        steps: n.

    Returns:
        Both ``[...]``.

    Reference: V-D4RL's replay buffer.
    """
    chex.assert_equal_shape([reward, discount])
    chex.assert_axis_dimension(reward, -1, steps)
    powers = jnp.asarray(gamma ** np.arange(steps), reward.dtype)
    # Not a matrix product: accelerators round its factors.
    total = jnp.sum(reward * jnp.broadcast_to(powers, reward.shape), axis=-1)
    return total, gamma**steps * discount[..., -1]


def resize_bicubic(image: jax.Array, size: int) -> jax.Array:
    """Images resized as OpenCV's ``INTER_CUBIC`` does, for larger sizes.

    The kernel has ``a = -0.75``; Pillow's and ``jax.image.resize``'s have -0.5 and differ by up to
    18 grey levels. Half-pixel centres, edges repeated. One value in 700 differs from OpenCV's, by
    one grey level: its sums are rounded in another order.

    Args:
        image: uint8 ``[..., height, width, C]``.
        size: height and width of the result.

    Returns:
        uint8 ``[..., size, size, C]``.
    """
    chex.assert_type(image, jnp.uint8)
    rows, columns = (_cubic_weights(old, size) for old in image.shape[-3:-1])
    exact = jax.lax.Precision.HIGHEST
    across = jnp.einsum("...hwc,vw->...hvc", image.astype(jnp.float32), columns, precision=exact)
    both = jnp.einsum("...hvc,uh->...uvc", across, rows, precision=exact)
    return jnp.clip(jnp.floor(both + 0.5), 0, 255).astype(jnp.uint8)


def resize_bilinear(image: jax.Array, height: int, width: int) -> jax.Array:
    """Images resized as Pillow's ``BILINEAR`` does, in its whole-number arithmetic.

    A smaller result averages over as many pixels as it replaces. Columns come first, and are
    rounded before the rows; Pillow 13 takes rows first where it finds that cheaper.

    Args:
        image: uint8 ``[..., h, w, C]``.

    Returns:
        uint8 ``[..., height, width, C]``.
    """
    chex.assert_type(image, jnp.uint8)
    half = 1 << (_PILLOW_BITS - 1)

    def weigh(equation: str, image: jax.Array, weights: np.ndarray) -> jax.Array:
        total = jnp.einsum(equation, image.astype(jnp.int32), weights)
        return jnp.clip((total + half) >> _PILLOW_BITS, 0, 255)

    old_height, old_width = image.shape[-3:-1]
    if width != old_width:
        image = weigh("...hwc,vw->...hvc", image, _triangle_weights(old_width, width))
    if height != old_height:
        image = weigh("...hvc,uh->...uvc", image, _triangle_weights(old_height, height))
    return image.astype(jnp.uint8)


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """Weights of old pixels in each new one: float32 ``[new, old]``."""
    a = -0.75
    place = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(place).astype(int)
    x = place - first
    weights = np.zeros((new, old))
    for tap, distance in enumerate((1 + x, x, 1 - x, 2 - x)):
        near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        pixel = np.clip(first - 1 + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), pixel), near if tap in (1, 2) else far)
    return weights.astype(np.float32)


def _triangle_weights(old: int, new: int) -> np.ndarray:
    """Weights of old pixels in each new one, in units of ``2^-22``: int32 ``[new, old]``."""
    scale = max(old / new, 1.0)  # a smaller image widens the triangle
    centre = (np.arange(new) + 0.5) * old / new
    first = np.maximum((centre - scale + 0.5).astype(int), 0)
    last = np.minimum((centre + scale + 0.5).astype(int), old)
    pixel = np.arange(old)
    distance = np.abs(pixel[None] - centre[:, None] + 0.5) / scale
    inside = (pixel[None] >= first[:, None]) & (pixel[None] < last[:, None])
    weights = np.where(inside, np.maximum(1.0 - distance, 0.0), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.rint(weights * (1 << _PILLOW_BITS)).astype(np.int32)

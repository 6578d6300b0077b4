"""Drawing by signed distances: anti-aliased shapes without a renderer or image files.

A shape is a plane of distances in units of the scene, negative inside. `paint` covers the pixels
within it and blends those that its edge crosses. Every distance is computed once for each pixel:
XLA fuses a whole picture into one loop over its pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF_WIDTH = 1.25  # units from the middle of the picture to its edge, without zoom

Colour = tuple[float, float, float]  # red, green, blue in 0 .. 255
Plane = jax.Array | np.ndarray  # float32 [n, n]


class View(NamedTuple):
    """Where in the scene each pixel lies."""

    x: np.ndarray  # float32 [n, n], to the right of an unturned picture
    y: np.ndarray  # float32 [n, n], up
    per_unit: float  # pixels per unit of the scene


class Canvas(NamedTuple):
    """A picture in the making, planes in 0 .. 255."""

    red: Plane
    green: Plane
    blue: Plane


def make_view(size: int, *, degrees: float, zoom: float, mirrored: bool) -> View:
    """A camera above the middle of the scene.

    Args:
        size: height and width of the picture, in pixels.
        degrees: by which the picture turns anticlockwise.
        zoom: how much larger everything appears.
        mirrored: exchange left and right of the picture.
    """
    middle = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    right, down = np.meshgrid(middle * HALF_WIDTH / zoom, middle * HALF_WIDTH / zoom)
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    x, y = cosine * right - sine * down, -sine * right - cosine * down
    if mirrored:
        x, y = x[:, ::-1], y[:, ::-1]
    per_unit = size * zoom / (2.0 * HALF_WIDTH)
    return View(x.astype(np.float32), y.astype(np.float32), per_unit)


def disc(view: View, centre: jax.Array, radius: float) -> Plane:
    """Distance to a disc: ``|p - centre| - radius``.

    Args:
        centre: ``[2]``.
    """
    return jnp.sqrt((view.x - centre[0]) ** 2 + (view.y - centre[1]) ** 2) - radius


def capsule(view: View, start: jax.Array, end: jax.Array, radius: float) -> Plane:
    """Distance to a line with round ends, ``radius`` thick to each side.

    Args:
        start, end: ``[2]``, not the same point.
    """
    along = end - start
    x, y = view.x - start[0], view.y - start[1]
    share = jnp.clip((x * along[0] + y * along[1]) / jnp.sum(along**2), 0.0, 1.0)
    return jnp.sqrt((x - share * along[0]) ** 2 + (y - share * along[1]) ** 2) - radius


def union(shapes: Sequence[Plane]) -> Plane:
    """Distance to whichever of some shapes is nearest."""
    return functools.reduce(jnp.minimum, shapes)


def paint(canvas: Canvas, view: View, distance: Plane, colour: Colour) -> Canvas:
    """``canvas`` with a shape on top: ``(1 - cover) * canvas + cover * colour``.

    A pixel is covered by ``1/2 - distance``, measured in pixels, limited to [0, 1].
    """
    cover = jnp.clip(0.5 - distance * view.per_unit, 0.0, 1.0)
    return Canvas(*(plane + cover * (new - plane) for plane, new in zip(canvas, colour)))


def pixels(canvas: Canvas) -> jax.Array:
    """The finished picture, uint8 ``[n, n, 3]``.

    The three bytes of a pixel are put into one word first: XLA would otherwise compute the whole
    picture once for each colour, or not vectorise.
    """
    red, green, blue = ((plane + 0.5).astype(jnp.int32) for plane in canvas)
    words = red | (green << 8) | (blue << 16)
    return jax.lax.bitcast_convert_type(words, jnp.uint8)[..., :3]

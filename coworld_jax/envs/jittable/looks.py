"""Colours, grounds and the moving background of the planar scenes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.envs.jittable.drawing import Canvas, Colour, View, make_view
from coworld_jax.envs.jittable.planar import Dials

_FINE = 4  # samples of the ground per pixel and axis
_STRIPE = 0.25  # units, side of a check; a stripe is 0.7 of it wide
_CORNER = 1.2  # units, half the side of the arena


class Palette(NamedTuple):
    """Colours of one look."""

    ground: Colour
    texture: Colour  # the ground's second colour
    around: Colour  # outside the arena
    place: Colour
    place_core: Colour
    body: Colour
    body_core: Colour
    limb: Colour
    second: Colour  # of the ring that is pushed, and of the joints


_PALETTES = {
    "day": Palette(
        ground=(222, 226, 230),
        texture=(196, 204, 214),
        around=(120, 130, 142),
        place=(38, 150, 84),
        place_core=(150, 224, 170),
        body=(214, 76, 42),
        body_core=(250, 168, 120),
        limb=(52, 58, 70),
        second=(46, 96, 196),
    ),
    "night": Palette(
        ground=(26, 30, 52),
        texture=(44, 50, 84),
        around=(10, 10, 20),
        place=(232, 196, 60),
        place_core=(120, 96, 20),
        body=(120, 220, 240),
        body_core=(30, 110, 150),
        limb=(230, 230, 240),
        second=(230, 110, 200),
    ),
    "desk": Palette(
        ground=(176, 130, 84),
        texture=(150, 106, 64),
        around=(64, 48, 40),
        place=(250, 240, 210),
        place_core=(210, 70, 60),
        body=(70, 74, 84),
        body_core=(160, 166, 178),
        limb=(240, 200, 60),
        second=(40, 140, 110),
    ),
}


class Look(NamedTuple):
    """How a scene is drawn."""

    view: View
    colours: Palette
    ground: Callable[[jax.Array], Canvas]  # simulator steps, int32 [] -> what lies below


def make_look(dials: Dials, size: int) -> Look:
    """The look that ``dials`` describe, for pictures of ``size`` pixels."""
    colours = _PALETTES[dials.palette]

    def view(pixels: int) -> View:
        return make_view(pixels, degrees=dials.camera, zoom=dials.zoom, mirrored=dials.mirrored)

    if dials.background:
        return Look(view(size), colours, _waves(view(size), colours))
    canvas = _ground(view(size * _FINE), colours, dials.texture)
    return Look(view(size), colours, lambda time: canvas)


def _ground(fine: View, colours: Palette, texture: str) -> Canvas:
    """The resting ground, averaged over the samples of each pixel."""
    x, y = fine.x, fine.y
    second = {
        "plain": np.zeros_like(x, bool),
        "checks": (np.floor(x / _STRIPE) + np.floor(y / _STRIPE)) % 2 == 1,
        "stripes": np.floor((x + y) / _STRIPE) % 2 == 1,
        "rings": np.floor(np.hypot(x, y) / _STRIPE) % 2 == 1,
    }[texture]
    outside = np.maximum(abs(x), abs(y)) > _CORNER
    planes = np.where(second[..., None], np.array(colours.texture), np.array(colours.ground))
    planes = np.where(outside[..., None], np.array(colours.around), planes)
    size = len(x) // _FINE
    mean = planes.reshape(size, _FINE, size, _FINE, 3).mean((1, 3)).astype(np.float32)
    return Canvas(*np.moveaxis(mean, -1, 0))


def _waves(view: View, colours: Palette) -> Callable[[jax.Array], Canvas]:
    """Two waves that move through each other, between the ground's colour and the one around it.

    ``sin(p + t) = sin(p) cos(t) + cos(p) sin(t)``: no sine is computed for each pixel.
    """
    phases = (5.0 * view.x + 2.0 * view.y, 7.0 * view.y - 3.0 * view.x)
    waves = [(np.sin(phase), np.cos(phase)) for phase in phases]

    def ground(time: jax.Array) -> Canvas:
        angles = (0.23 * time, -0.31 * time)
        total = sum(
            sine * jnp.cos(angle) + cosine * jnp.sin(angle)
            for (sine, cosine), angle in zip(waves, angles)
        )
        share = 0.5 + 0.25 * total
        return Canvas(*(a + share * (b - a) for a, b in zip(colours.ground, colours.around)))

    return ground

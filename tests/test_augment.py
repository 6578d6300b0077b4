"""Shifts, crops, stacks, n-steps and resizing against loops over pixels and rows, and Pillow."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from coworld_jax import augment


def frames(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_random_shift_repeats_the_edge() -> None:
    image, offset = frames(0, 3, 6, 8, 2), np.array([[0, 0], [4, 3], [1, 2]])
    found = np.asarray(augment.random_shift(jnp.asarray(image), jnp.asarray(offset), 2))
    for n, i, j in np.ndindex(3, 6, 8):
        row = min(max(i + offset[n, 0] - 2, 0), 5)
        column = min(max(j + offset[n, 1] - 2, 0), 7)
        assert np.array_equal(found[n, i, j], image[n, row, column])


def test_the_middle_offset_changes_nothing() -> None:
    image = frames(1, 2, 9, 7, 9)
    middle = jnp.full((2, 2), 4)
    np.testing.assert_array_equal(augment.random_shift(jnp.asarray(image), middle, 4), image)


def test_crop_takes_rows_first() -> None:
    image = frames(2, 2, 10, 12, 3)
    found = augment.crop(jnp.asarray(image), jnp.asarray([[1, 5], [4, 0]]), (6, 7))
    np.testing.assert_array_equal(found[0], image[0, 1:7, 5:12])
    np.testing.assert_array_equal(found[1], image[1, 4:10, 0:7])


@pytest.mark.parametrize(("height", "width", "top", "left"), [(9, 6, 2, 0), (11, 7, 2, 0)])
def test_centre_crop_rounds_half_to_even(height: int, width: int, top: int, left: int) -> None:
    image = frames(3, height, width, 3)
    np.testing.assert_array_equal(
        augment.centre_crop(jnp.asarray(image), 6), image[top : top + 6, left : left + 6]
    )


def test_stacks_repeat_the_first_row_of_their_episode() -> None:
    start, row = jnp.asarray([0, 0, 7, 7]), jnp.asarray([0, 1, 8, 12])
    found = augment.stack_rows(start, row, 3)
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 1], [7, 7, 8], [10, 11, 12]])


def test_stacked_frames_lie_one_after_another_among_the_channels() -> None:
    stack = frames(4, 2, 3, 5, 4, 3)
    found = augment.stack_channels(jnp.asarray(stack))
    assert found.shape == (2, 5, 4, 9)
    np.testing.assert_array_equal(found[..., 3:6], stack[:, 1])


def test_n_steps_use_the_last_discount_alone() -> None:
    reward = jnp.asarray([[1.0, 2.0, 4.0], [3.0, 5.0, 7.0]])
    discount = jnp.asarray([[0.0, 0.5, 1.0], [1.0, 1.0, 0.25]])
    total, last = augment.n_step(reward, discount, 0.5, 3)
    np.testing.assert_allclose(total, [1.0 + 1.0 + 1.0, 3.0 + 2.5 + 1.75])
    np.testing.assert_allclose(last, [0.125, 0.125 * 0.25])


def bicubic(image: np.ndarray, size: int) -> np.ndarray:
    """Every pixel from its sixteen neighbours, with a = -0.75."""
    height, width, channels = image.shape

    def weight(distance: float) -> float:
        x, a = abs(distance), -0.75
        if x <= 1.0:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2.0 else 0.0

    found = np.zeros((size, size, channels))
    for u, v in np.ndindex(size, size):
        y, x = (u + 0.5) * height / size - 0.5, (v + 0.5) * width / size - 0.5
        for i in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
            for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                pixel = image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                found[u, v] += weight(y - i) * weight(x - j) * pixel
    return np.clip(np.floor(found + 0.5), 0, 255)


def test_bicubic_resizing_is_opencvs_kernel() -> None:
    image = frames(5, 8, 6, 3)
    found = np.asarray(augment.resize_bicubic(jnp.asarray(image), 11)).astype(int)
    assert np.max(np.abs(found - bicubic(image, 11))) <= 1
    assert np.mean(found != bicubic(image, 11)) < 0.02
    pillow = Image.fromarray(image).resize((11, 11), Image.Resampling.BICUBIC)
    assert np.max(np.abs(found - np.asarray(pillow).astype(int))) > 5  # a = -0.5 there


@pytest.mark.parametrize(
    ("old", "new"), [((16, 16), (37, 37)), ((9, 14), (20, 31)), ((30, 30), (11, 11))]
)
def test_bilinear_resizing_is_pillows_to_the_last_bit(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    image = frames(6, *old, 3)
    expected = Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(augment.resize_bilinear(jnp.asarray(image), *new), expected)

"""A policy is called with frames, or with states, and with nothing else."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.method import Player
from coworld_jax.policy import AgentPolicy

FRAME = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def look(params, memory, observation, key, *, explore):
    """An action that depends on every number of the observation."""
    seen = observation.astype(jnp.float32).reshape(1, -1)
    return memory + 1, jnp.tanh(seen @ params / seen.shape[1] / 100)


def actor(reads, size):
    params = jax.random.normal(jax.random.key(1), (size, 2))
    player = Player(
        reads, params=lambda state: state, start=lambda n: jnp.zeros(n), act=look, discount=0.9
    )
    return AgentPolicy(player, params, 64, 5, explore=False).episode(0)


@pytest.fixture(scope="module")
def of_frames():
    return actor("image", 64 * 64 * 3)


@pytest.fixture(scope="module")
def of_states():
    return actor("state", 5)


@pytest.mark.parametrize(
    "wrong",
    [
        *(FRAME.astype(dtype) for dtype in (np.int8, np.int32, np.int64, np.uint16, bool)),
        *(FRAME.astype(dtype) / dtype(255) for dtype in (np.float16, np.float32, np.float64)),
        FRAME.astype(object), FRAME[None], FRAME[..., 0], FRAME[..., :1], FRAME.transpose(2, 0, 1),
        np.concatenate([FRAME, FRAME[..., :1]], axis=-1), FRAME[:32, :32], FRAME[:0],
        np.zeros((84, 84, 3), np.uint8), FRAME.reshape(-1), np.zeros(5, np.float32),
        np.zeros(5, np.uint8), np.uint8(3), 3, None, "frame",
    ],
    ids=lambda wrong: f"{np.asarray(wrong).dtype}{list(np.shape(wrong))}",
)  # fmt: skip
def test_what_is_no_frame_is_refused(of_frames, wrong):
    with pytest.raises(ValueError, match=r"a frame is uint8 \[64, 64, 3\]: height, width and RGB"):
        of_frames(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        FRAME, np.zeros(5, np.int64), np.zeros(5, np.uint8), np.zeros(5, np.float16),
        np.zeros(5, bool), np.zeros(4, np.float32), np.zeros((1, 5), np.float32),
        np.zeros((5, 1), np.float32), np.float32(1.0), None,
    ],
    ids=lambda wrong: f"{np.asarray(wrong).dtype}{list(np.shape(wrong))}",
)  # fmt: skip
def test_what_is_no_state_is_refused(of_states, wrong):
    with pytest.raises(ValueError, match=r"it reads states: float32 \[5\]"):
        of_states(wrong)


def test_a_refused_frame_is_no_frame_of_the_episode(of_frames):
    """The next one acts as if nothing had been asked."""
    fresh = actor("image", 64 * 64 * 3)
    with pytest.raises(ValueError):
        fresh(FRAME / 255)
    np.testing.assert_array_equal(fresh(FRAME), actor("image", 64 * 64 * 3)(FRAME))


@pytest.mark.parametrize(
    "view",
    [
        FRAME[::-1], FRAME[:, ::-1], np.asfortranarray(FRAME), FRAME[:, :, ::-1],
        np.repeat(np.repeat(FRAME, 2, 0), 2, 1)[::2, ::2], jnp.asarray(FRAME),
    ],
    ids=["upside down", "mirrored", "columns first", "BGR", "every second", "jax"],
)  # fmt: skip
def test_views_act_as_their_copies(of_frames, view):
    np.testing.assert_array_equal(of_frames(view), of_frames(np.array(view, order="C")))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_states_of_simulators_are_taken(of_states, dtype):
    state = np.linspace(-1, 1, 10, dtype=dtype)[::2]
    np.testing.assert_array_equal(of_states(state), of_states(state.astype(np.float32)))

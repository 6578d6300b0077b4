"""Seeds of episodes."""

from __future__ import annotations

import zlib

import numpy as np


def episode_seed(seed: int, stream: str, index: int) -> int:
    """The seed of episode ``index`` of a named ``stream``, a pure function of all three.

    Args:
        seed: of the run, not negative.
        stream: what the episodes are for, such as ``"source/replay"``; streams do not collide.
        index: of the episode in its stream, not negative.

    Returns:
        A uint32, the range that ``numpy.random.RandomState`` takes.

    Raises:
        ValueError: a negative ``seed`` or ``index``.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"Seeds and indices of episodes start at 0, not at {min(seed, index)}.")
    # crc32 and not hash(): the latter changes from one process to the next.
    words = np.random.SeedSequence([seed, zlib.crc32(stream.encode()), index])
    return int(words.generate_state(1, np.uint32)[0])

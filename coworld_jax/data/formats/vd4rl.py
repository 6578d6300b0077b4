"""V-D4RL's hdf5 shards: episodes end to end, 84 pixels, channels first.

``observation`` uint8 ``[N, 3, 84, 84]``, ``action``, ``reward``, ``discount`` and ``step_type`` (0
first, 1 middle, 2 last). A row is a time step of dm_env with the action that led to it, as in an
episode file, so that rows are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from coworld_jax.data.faults import DataError
from coworld_jax.data.formats.foreign import (
    Cut,
    Found,
    Request,
    action_rows,
    check_frames,
    member,
    number_rows,
    opened_hdf5,
    read_all,
    share_rows,
)
from coworld_jax.types import Episode

MARK = "step_type"
"""A file with this array is such a shard."""
_FIRST, _MIDDLE, _LAST = 0, 1, 2


def read(path: Path, request: Request) -> Iterator[Found | Cut]:
    """Episodes of one shard, one in memory at a time.

    Raises:
        DataError: damaged or incomplete, or an episode that the shard's edge cuts, unless the
            request says to leave it out.
    """
    image_key = request.image_key if request.image_key is not None else "observation"
    with opened_hdf5(path) as file:
        step_type = read_all(path, member(path, file, MARK))
        total = len(step_type)
        frames = member(path, file, image_key)
        _, channels, height, width = (*frames.shape, 0, 0, 0, 0)[:4]
        if len(frames.shape) != 4 or channels != 3:
            reason = f"has shape {list(frames.shape)}, but [{total}, 3, 84, 84] is needed"
            raise DataError.of(path, image_key, reason)
        check_frames(path, image_key, (total, height, width, channels), frames.dtype)
        if len(frames) != total:
            raise DataError.of(path, image_key, f"has {len(frames)} rows, but {MARK!r} has {total}")
        action = action_rows(path, "action", read_all(path, member(path, file, "action")), total)
        reward = number_rows(path, "reward", read_all(path, member(path, file, "reward")), total)
        discount = share_rows(
            path, "discount", read_all(path, member(path, file, "discount")), total
        )
        episodes = _episodes(path, step_type, request.drop_cut)
        whole = sum(rows.stop - rows.start for rows in episodes)
        if whole < total:
            yield Cut(total - whole)
        for rows in episodes:
            image = read_all(path, frames, rows).transpose(0, 2, 3, 1)
            yield Found(Episode(image, action[rows], reward[rows], discount[rows], {}))


def _episodes(path: Path, step_type: np.ndarray, drop_cut: bool) -> list[slice]:
    """Rows of each episode.

    Args:
        drop_cut: leave out rows before the first first one, and after the last last one.

    Raises:
        DataError: first and last rows do not alternate from the first row of the shard to the end.
    """
    step_type = step_type.reshape(-1)
    strange = np.flatnonzero(~np.isin(step_type, (_FIRST, _MIDDLE, _LAST)))
    if strange.size:
        reason = f"is {step_type[strange[0]]} in row {strange[0]}, but 0, 1 or 2 is needed"
        raise DataError.of(path, MARK, reason)
    firsts, lasts = np.flatnonzero(step_type == _FIRST), np.flatnonzero(step_type == _LAST)
    edges = 0, len(step_type)
    if drop_cut:
        if not firsts.size or not lasts.size:
            return []
        edges = int(firsts[0]), int(lasts[-1]) + 1
        firsts, lasts = firsts[firsts < edges[1]], lasts[lasts >= edges[0]]
    # Where an episode must begin if those before are whole, against where one does.
    begins = np.concatenate([edges[:1], lasts + 1])
    found = np.concatenate([firsts, edges[1:]])
    cut = [min(pair) for pair in zip(begins, found) if pair[0] != pair[1]]
    cut += found[len(begins) :].tolist()
    if cut:
        reason = (
            f"cuts an episode at row {cut[0]} of {len(step_type)}: a shard holds whole ones; "
            "--drop_cut leaves out what the first or last row of a shard cuts"
        )
        raise DataError.of(path, MARK, reason)
    return [slice(int(first), int(last) + 1) for first, last in zip(firsts, lasts)]

"""OGBench's flat npz files: trajectories end to end, an action in the row of the frame it is for.

``observations`` uint8 ``[N, S, S, 3]``, ``actions`` ``[N, A]``, ``terminals`` ``[N]`` (1 in the
last row of a trajectory). ``actions[t]`` leads from ``observations[t]`` to
``observations[t + 1]``, so the last row of a trajectory is a frame and no transition.
``rewards[t]`` and ``masks[t]`` (0 where the task ended) belong to ``actions[t]``; the files as
released have neither, for the reward depends on the goal that OGBench's single-task environments
choose.
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
    led,
    number_rows,
    per_row,
    share_rows,
)
from coworld_jax.data.npz import array_names, explained, opened, read_array, read_form, read_pieces
from coworld_jax.types import Episode

MARK = "terminals"
"""A file with this array is one of them."""
_REWARDS, _MASKS = "rewards", "masks"


def read(path: Path, request: Request) -> Iterator[Found | Cut]:
    """Trajectories of one file as episodes, one in memory at a time; numbers are read at once.

    Raises:
        DataError: damaged or incomplete, no rewards, or a last trajectory without its end, unless
            the request says to leave it out.
    """
    image_key = request.image_key if request.image_key is not None else "observations"
    with opened(path) as archive:
        shape, dtype, _ = read_form(path, archive, image_key)
        check_frames(path, image_key, shape, dtype)
        total = shape[0]
        terminals = share_rows(path, MARK, read_array(path, archive, MARK), total)
        action = action_rows(path, "actions", read_array(path, archive, "actions"), total)
        names = set(array_names(archive))
        reward = _rewards(path, request, names, total)
        if reward is None:
            reward = number_rows(path, _REWARDS, read_array(path, archive, _REWARDS), total)
        mask = np.ones(total, np.float32)
        if _MASKS in names:
            mask = share_rows(path, _MASKS, read_array(path, archive, _MASKS), total)
        others = {
            name: read_array(path, archive, name)
            for name in sorted(names - {image_key, MARK, "actions", _REWARDS, _MASKS})
        }
        left_out = tuple(name for name in others if not per_row(others[name], total))
        ends = np.flatnonzero(terminals == 1.0) + 1
        cut = total - int(ends[-1]) if ends.size else total
        if cut and not request.drop_cut:
            reason = (
                f"is not 1 in the last row, {total - 1}: the last trajectory has no end; "
                "--drop_cut leaves it out"
            )
            raise DataError.of(path, MARK, reason)
        lengths = np.diff(ends, prepend=0)
        left = [cut] if cut else []
        pieces = read_pieces(path, archive, image_key, [*lengths.tolist(), *left])
        for end, length in zip(ends, lengths, strict=True):
            image = next(pieces)
            rows, steps = slice(end - length, end), slice(end - length, end - 1)
            discount = led(mask[steps])
            discount[0] = 1.0
            extras = {key: value[rows] for key, value in others.items() if key not in left_out}
            episode = Episode(image, led(action[steps]), led(reward[steps]), discount, extras)
            yield Found(episode, left_out)
        for rest in pieces:  # also where none is left: the file's checksum comes after its end
            yield Cut(len(rest))


def _rewards(path: Path, request: Request, names: set[str], total: int) -> np.ndarray | None:
    """Rewards from the file that the user gave, or None if ``path`` has its own.

    Raises:
        DataError: neither, or the given file does not fit.
    """
    if request.rewards is None:
        if _REWARDS in names:
            return None
        raise DataError.of(
            path,
            _REWARDS,
            "is missing, as in OGBench's base files: compute the rewards of your task with "
            f"OGBench's relabel_dataset and give them as --rewards=FILE.npy, float [{total}], "
            "row t for actions[t], or add them (and masks, 0 where the task ended) to the file",
        )
    with explained(request.rewards, "", "is no npy file"):
        value = np.load(request.rewards, allow_pickle=False)
        if not isinstance(value, np.ndarray):
            raise ValueError("an archive, not one array")
    return number_rows(request.rewards, _REWARDS, value, total)

"""Minari datasets: hdf5, one group for each episode, ``T`` transitions and ``T + 1`` observations.

``actions[t]`` leads from ``observations[t]`` to ``observations[t + 1]``, where ``rewards[t]`` and
``terminations[t]`` are due. Frames are raw or, by Minari's default, JPEG. They are read with h5py
alone, so that no environment of the source need exist here, and written by Minari itself, so that
Minari reads them. Actions are scaled from the bounds of the recorded action space to [-1, 1].
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from coworld_jax.data.episodes import load_episode
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats.foreign import (
    Found,
    Request,
    action_rows,
    check_frames,
    hdf5,
    led,
    member,
    number_rows,
    opened_hdf5,
    per_row,
    read_all,
    share_rows,
    some_of,
)
from coworld_jax.data.formats.units import Units, recorded_units
from coworld_jax.data.metadata import IMPORT_NAME, read_json
from coworld_jax.data.npz import array_names, explained, opened
from coworld_jax.types import Episode

MARK = re.compile(r"episode_(\d+)")
"""A file with such groups is one of them."""
_METADATA, _RECORD = "metadata.json", "coworld_jax_dataset"
# Attributes of a group that hold what Minari has no place for: see `write`.
_NAME, _RESET_ACTION, _RESET_REWARD = "file", "reset_action", "reset_reward"
_OWN = ("image", "action", "reward", "discount")
_JPEG = b"\xff\xd8\xff"


def read(path: Path, request: Request) -> Iterator[Found]:
    """Episodes of one ``main_data.hdf5``, one in memory at a time.

    Raises:
        DataError: damaged or incomplete, no frames, or actions that are no vectors.
    """
    with opened_hdf5(path) as file:
        numbers = sorted(int(found[1]) for name in file if (found := MARK.fullmatch(name)))
        if not numbers:
            raise DataError.of(path, "", "holds no groups episode_0, episode_1, ...")
        units = _units(path, file)
        for number in numbers:
            group = file[f"episode_{number}"]
            if not isinstance(group, hdf5().Group):
                raise DataError.of(path, f"episode_{number}", "is an array instead of a group")
            with explained(path, f"episode_{number}"):
                attributes = dict(group.attrs)
            yield _episode(path, group, attributes, units, request.image_key)


def _units(path: Path, file: Any) -> Units | None:
    """What the actions were recorded in: Minari keeps their space beside the file, before in it."""
    beside = path.parent / _METADATA
    if beside.exists():
        return recorded_units(beside, read_json(beside))
    with explained(path, ""):
        return recorded_units(path, dict(file.attrs))


def _episode(
    path: Path,
    group: Any,
    attributes: dict[str, Any],
    units: Units | None,
    image_key: str | None,
) -> Found:
    steps = len(read_all(path, member(path, group, "rewards")))

    def column(key: str) -> tuple[Path, str, np.ndarray, int]:
        return path, f"{group.name[1:]}/{key}", read_all(path, member(path, group, key)), steps

    action = led(action_rows(*column("actions"), units))
    reward = led(number_rows(*column("rewards")))
    discount = 1.0 - led(share_rows(*column("terminations")))
    arrays = _arrays(group)
    frames_key = _frames_key(path, group, arrays, image_key)
    image = _frames(path, arrays.pop(frames_key))
    if len(image) != steps + 1:
        reason = f"has {len(image)} rows, but {steps} rewards need {steps + 1}"
        raise DataError.of(path, f"{group.name[1:]}/{frames_key}", reason)
    extras: dict[str, np.ndarray] = {}
    left_out = []
    for key, dataset in arrays.items():
        short = key.partition("/")[2] or key  # observations may be one array
        if _NAME not in attributes:  # of our own export, folders are in the key's own name
            short = short.replace("/", ".")
        fits = dataset.shape and dataset.dtype.kind != "O" and not _is_jpeg(path, dataset)
        value = read_all(path, dataset) if fits else np.zeros(())
        if short not in (*_OWN, *extras) and per_row(value, steps + 1):
            extras[short] = value
        elif not (_NAME in attributes and short == "discount"):
            left_out.append(key)
    name = None
    if _NAME in attributes:  # our own export
        name = str(attributes[_NAME])
        action[0], reward[0] = attributes[_RESET_ACTION], attributes[_RESET_REWARD]
        discount = share_rows(
            path, "infos/discount", read_all(path, member(path, group["infos"], "discount")),
            steps + 1,
        )  # fmt: skip
    return Found(Episode(image, action, reward, discount, extras), tuple(left_out), name, units)


def _arrays(group: Any) -> dict[str, Any]:
    """Every array of observations and infos, by its path below the episode."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, hdf5().Dataset) and name.split("/")[0] in ("observations", "infos"):
            found[name] = item

    group.visititems(note)
    return found


def _frames_key(path: Path, group: Any, arrays: dict[str, Any], image_key: str | None) -> str:
    if image_key is not None:
        if image_key not in arrays:
            reason = f"is missing; the episode has: {some_of(arrays) or 'no observations'}"
            raise DataError.of(path, f"{group.name[1:]}/{image_key}", reason)
        return image_key
    looking = [
        key
        for key, dataset in arrays.items()
        if key.startswith("observations") and (dataset.ndim == 4 or _is_jpeg(path, dataset))
    ]
    if len(looking) == 1:
        return looking[0]
    what = f"{len(looking)} arrays of frames ({some_of(looking)})" if looking else "no frames"
    has = "" if looking else f"; it has: {some_of(arrays) or 'no observations'}"
    reason = f"holds {what}{has}: name the array of frames with --image_key"
    raise DataError.of(path, f"{group.name[1:]}/observations", reason)


def _is_jpeg(path: Path, dataset: Any) -> bool:
    """Whether rows are files: bytes of one length each, or of any length."""
    if not dataset.shape or not len(dataset):
        return False
    ragged = hdf5().check_vlen_dtype(dataset.dtype) == np.uint8
    if not ragged and not (dataset.ndim == 2 and dataset.dtype == np.uint8):
        return False
    return read_all(path, dataset, slice(0, 1))[0].tobytes().startswith(_JPEG)


def _frames(path: Path, dataset: Any) -> np.ndarray:
    key, value = dataset.name[1:], read_all(path, dataset)
    if _is_jpeg(path, dataset):
        frames = []
        for row, content in enumerate(value):
            with explained(path, key, f"cannot be read as JPEG in row {row}"):
                frames.append(np.asarray(Image.open(io.BytesIO(content.tobytes()))))
        shapes = {frame.shape for frame in frames}
        if len(shapes) > 1:
            raise DataError.of(path, key, f"has frames of several shapes: {sorted(shapes)}")
        value = np.stack(frames)
    elif value.ndim == 4 and value.shape[1] == 3 != value.shape[3]:
        value = value.transpose(0, 2, 3, 1)
    check_frames(path, key, value.shape, value.dtype)
    return value


def read_record(path: Path) -> dict[str, Any] | None:
    """The ``dataset.json`` that an export took along, or None."""
    beside = path.parent / _METADATA
    if not beside.exists():
        return None
    metadata = read_json(beside)
    if _RECORD not in metadata:
        return None
    record: dict[str, Any] = metadata[_RECORD]
    return record


def write(
    directory: Path,
    name: str,
    paths: Sequence[Path],
    record: dict[str, Any] | None,
    units: Units | None,
) -> Iterator[int]:
    """Write episode files as the Minari dataset ``name`` into ``directory``; yields rows written.

    Frames stay raw, so that nothing is lost. What a Minari episode has no place for is kept beside
    it: the discount and the extras as infos, the reset's action and reward and the file's name as
    attributes of the group, ``record`` in the dataset's metadata. Actions that were scaled from
    ``units`` go back to them, as float64, which loses nothing on the way here and back.

    Raises:
        DataError: a bad file, files that disagree, or no Minari here.
    """
    try:
        import gymnasium
        import minari
        from minari.data_collector import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise DataError(
            "Writing Minari datasets needs minari: install the extra `data`, for example "
            "`bash launch/setup_env.sh envs,data,dev`."
        ) from error
    first = load_episode(paths[0])
    size = first.action.shape[1]
    space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    if units is not None:
        if units.low.size != size:
            reason = f"has {size} coordinates, but {IMPORT_NAME} has units of {units.low.size}"
            raise DataError.of(paths[0], "action", reason)
        double: Any = np.float64  # gymnasium's annotation knows float32 alone
        space = gymnasium.spaces.Box(units.low, units.high, dtype=double)
    storage = MinariStorage.new(
        directory,
        observation_space=gymnasium.spaces.Box(0, 255, first.image.shape[1:], np.uint8),
        action_space=space,
        data_format="hdf5",
        jpeg_encoding=False,
    )
    about = {"dataset_id": name, "minari_version": minari.__version__}
    storage.update_metadata(about if record is None else about | {_RECORD: record})
    for index, path in enumerate(paths):
        episode = load_episode(path)
        if episode.action.shape[1] != size:
            reason = f"has {episode.action.shape[1]} coordinates, but {paths[0].name} has {size}"
            raise DataError.of(path, "action", reason)
        _check_exportable(path, episode)
        ended = episode.discount[1:] == 0.0
        truncated = np.zeros(len(ended), bool)
        truncated[-1:] = ~ended[-1:]
        buffer = EpisodeBuffer(
            observations=episode.image,
            actions=episode.action[1:] if units is None else units.original(episode.action[1:]),
            rewards=episode.reward[1:],
            terminations=ended,
            truncations=truncated,
            infos={"discount": episode.discount, **episode.extras},
        )
        storage.update_episodes([buffer])
        attributes = {
            _NAME: path.stem, _RESET_ACTION: episode.action[0], _RESET_REWARD: episode.reward[0]
        }  # fmt: skip
        storage.update_episode_metadata([attributes], [index])
        yield len(episode.reward)


def _check_exportable(path: Path, episode: Episode) -> None:
    """Make sure that Minari takes all that an episode file holds.

    Raises:
        DataError: it would lose something.
    """
    with opened(path) as archive:
        names = set(array_names(archive))
    for key in sorted(names - {*_OWN, *episode.extras}):
        raise DataError.of(path, key, "holds no array of numbers, which is all Minari takes")
    for key, value in episode.extras.items():
        if not per_row(value, len(episode.reward)):
            reason = f"is {value.dtype} {list(value.shape)}, but Minari takes numbers, a row each"
            raise DataError.of(path, key, reason)
    if len(episode.reward) < 2:
        raise DataError.of(path, "reward", "has the reset alone, but Minari needs a transition")

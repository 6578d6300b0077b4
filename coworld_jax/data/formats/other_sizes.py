"""Episode files with frames of another size, or with channels first: resized and turned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coworld_jax.data.episodes import load_episode
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats.foreign import Found, Request, check_frames


def read(path: Path, request: Request) -> Iterator[Found]:
    """The episode of one file, with all of its keys and its name.

    Raises:
        DataError: a damaged file, no episode, or frames that are no squares.
    """
    if request.image_key not in (None, "image"):
        raise DataError.of(path, "image", "is the key of an episode file's frames: no --image_key")
    episode = load_episode(path, image_shape=(None, None, None))
    image = episode.image
    if image.shape[1] == 3 != image.shape[3]:
        image = image.transpose(0, 2, 3, 1)
    check_frames(path, "image", image.shape, image.dtype)
    yield Found(episode._replace(image=image), name=path.stem)

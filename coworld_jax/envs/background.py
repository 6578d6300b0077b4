"""Moving pictures behind a simulated body: clips from a user's folder, or generated ones.

A *clip* is a video (read by PyAV), an animated image (GIF, WebP, APNG) or all still images of one
folder in the order of their names; subfolders are searched too. Each episode draws a clip, and a
frame to begin with, from its seed; a clip that ends begins again. Frames are cut to a square,
resized, and kept in memory: 12 KB each at 64 x 64.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

_ANIMATED = (".gif", ".webp", ".apng")
_VIDEO = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_STILL = (".png", ".jpg", ".jpeg", ".bmp")
# The generated clip: plane waves in each colour, drifting.
_WAVES = 3
_FREQUENCY = 3.0  # largest, in periods per frame width
_DRIFT = 0.3  # largest, in radians per env_step


class Background:
    """The picture behind the body at each env_step of an episode.

    Args:
        folder: with images; if empty, clips are generated.
        size: height and width of the frames.

    Raises:
        ValueError: there is no such folder, or nothing in it that can be shown.
    """

    def __init__(self, folder: str, size: int) -> None:
        self._size = size
        self._clips = _find_clips(Path(folder)) if folder else []
        for clip in self._clips:  # its first frame: most faults show here, before a run
            self._read(clip[0], frames=1)
        self._loaded: dict[int, np.ndarray] = {}
        self._generator = np.random.default_rng(0)  # of the episode
        self.begin(0)

    def begin(self, seed: int) -> None:
        """Draw what the episode of ``seed`` shows."""
        self._generator = np.random.default_rng(seed)
        if self._clips:
            index = int(self._generator.integers(len(self._clips)))
            if index not in self._loaded:
                self._loaded[index] = self._load(self._clips[index])
            self._frames = self._loaded[index]
            self._first = int(self._generator.integers(len(self._frames)))
        else:
            shape = (_WAVES, 3)  # each colour has its own waves
            self._waves = self._generator.uniform(-_FREQUENCY, _FREQUENCY, (2, *shape))
            self._drift = self._generator.uniform(-_DRIFT, _DRIFT, shape)
            self._phase = self._generator.uniform(0, 2 * np.pi, shape)

    def frame(self, step: int) -> np.ndarray:
        """The picture after ``step`` env_steps, uint8 ``[size, size, 3]``."""
        if self._clips:
            return self._frames[(self._first + step) % len(self._frames)]
        place = np.arange(self._size) / self._size * 2 * np.pi
        across, down = self._waves
        angle = (
            place[None, :, None, None] * across
            + place[:, None, None, None] * down
            + self._drift * step
            + self._phase
        )  # [size, size, _WAVES, 3]
        waves = np.sin(angle).mean(axis=2)  # in [-1, 1]
        return (127.5 * (1.0 + waves)).astype(np.uint8)

    def _load(self, clip: list[Path]) -> np.ndarray:
        """Frames of a clip, uint8 ``[F, size, size, 3]``."""
        return np.stack([frame for path in clip for frame in self._read(path)])

    def _read(self, path: Path, frames: int | None = None) -> list[np.ndarray]:
        """The first ``frames`` pictures of a file, or all, each uint8 ``[size, size, 3]``.

        Raises:
            ValueError: it cannot be read, or holds none.
        """
        pictures = _video_pictures(path) if _is_video(path) else _image_pictures(path)
        try:
            found = [
                np.asarray(ImageOps.fit(picture, (self._size, self._size)))
                for picture in itertools.islice(pictures, frames)
            ]
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as pictures: {error}.") from error
        if not found:
            raise ValueError(f"{path} holds no picture: remove it.")
        return found


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _VIDEO


def _image_pictures(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as file:
        for picture in ImageSequence.Iterator(file):
            yield picture.convert("RGB")


def _video_pictures(path: Path) -> Iterator[Image.Image]:
    import av

    with av.open(str(path)) as video:
        if not video.streams.video:
            raise ValueError("it has sound alone")
        for frame in video.decode(video=0):
            yield frame.to_image()


def _find_clips(folder: Path) -> list[list[Path]]:
    if not folder.is_dir():
        raise ValueError(f"The background {folder} is no folder.")
    clips: list[list[Path]] = []
    for place in sorted([folder, *(path for path in folder.rglob("*") if path.is_dir())]):
        files = sorted(path for path in place.iterdir() if path.is_file())
        clips += [[path] for path in files if path.suffix.lower() in _ANIMATED + _VIDEO]
        stills = [path for path in files if path.suffix.lower() in _STILL]
        clips += [stills] if stills else []
    if not clips:
        raise ValueError(
            f"The background {folder} holds no pictures ({', '.join(_STILL + _ANIMATED + _VIDEO)})."
        )
    videos = [clip[0] for clip in clips if _is_video(clip[0])]
    if videos and importlib.util.find_spec("av") is None:
        raise ValueError(
            f"{videos[0]} is a video, which the package av reads: pip install av, or unpack its "
            "frames into a folder."
        )
    return clips

"""Which files of a source are read, and in which format they are."""

from __future__ import annotations

from pathlib import Path

from coworld_jax.data.episodes import IMAGE_SHAPE
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats import minari, ogbench, other_sizes, vd4rl
from coworld_jax.data.formats.foreign import opened_hdf5, some_of
from coworld_jax.data.npz import array_names, opened, read_form

FORMATS = {
    "vd4rl": vd4rl.read,
    "ogbench": ogbench.read,
    "minari": minari.read,
    "episodes": other_sizes.read,
}
_HDF5, _NPZ = (".hdf5", ".h5"), (".npz",)
_SUFFIXES = {"vd4rl": _HDF5, "minari": _HDF5, "ogbench": _NPZ, "episodes": _NPZ}


def find(source: Path, form: str | None) -> tuple[str, list[Path], list[Path]]:
    """The format of a source, its files, and those that are set aside.

    OGBench keeps a validation set ``NAME-val.npz`` beside ``NAME.npz``, of the same task: of a
    directory with both, only the latter is read.

    Raises:
        DataError: nothing there, or nothing of a known format.
    """
    if not source.exists():
        raise DataError.of(source, "", "is not there")
    files = [source] if source.is_file() else _files(source, form)
    form = _recognise(files[0]) if form is None else form
    if form == "episodes" and all(_loads(path) for path in files):
        reason = "is an episode file: its directory loads as it is, without an import"
        raise DataError.of(files[0], "", reason)
    aside = [path for path in files if form == "ogbench" and _trained_on(path) in files]
    return form, [path for path in files if path not in aside], aside


def _files(source: Path, form: str | None) -> list[Path]:
    places = [source, source / "data"]  # Minari keeps its file in data/
    inside = sorted(path for place in places if place.is_dir() for path in place.iterdir())
    wanted = _HDF5 + _NPZ if form is None else _SUFFIXES[form]
    files = [path for path in inside if path.suffix in wanted and path.name[0] != "."]
    if len({path.suffix in _NPZ for path in files}) > 1:
        raise DataError.of(source, "", "holds hdf5 and npz files: say which with --format")
    if not files:
        reason = f"holds no files {', '.join('*' + suffix for suffix in wanted)}"
        raise DataError.of(source, "", reason)
    return files


def _trained_on(path: Path) -> Path | None:
    """The file that ``NAME-val.npz`` is the validation set of, by its name."""
    stem = path.stem.removesuffix("-val")
    return None if stem == path.stem else path.with_stem(stem)


def _loads(path: Path) -> bool:
    """Whether the frames of an episode file need no import."""
    with opened(path) as archive:
        return read_form(path, archive, "image").shape[1:] == IMAGE_SHAPE


def _recognise(path: Path) -> str:
    """The format of a file by what it holds."""
    keys: list[str]
    if path.suffix in _NPZ:
        with opened(path) as archive:
            keys = array_names(archive)
        if ogbench.MARK in keys:
            return "ogbench"
        if "image" in keys and "action" in keys:
            return "episodes"
    else:
        with opened_hdf5(path) as file:
            keys = list(file)
        if vd4rl.MARK in keys:
            return "vd4rl"
        if any(minari.MARK.fullmatch(key) for key in keys):
            return "minari"
    raise DataError.of(
        path,
        "",
        f"is of no known format, for it holds {some_of(keys) or 'nothing'}: V-D4RL's hdf5 has "
        f"{vd4rl.MARK!r}, OGBench's npz {ogbench.MARK!r}, Minari's hdf5 'episode_0'",
    )

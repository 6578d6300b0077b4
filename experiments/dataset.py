"""Look at an offline dataset, look for what is wrong with it, or bring it from elsewhere.

    python -m experiments.dataset inspect DIR          # what it is, in figures and pictures
    python -m experiments.dataset validate DIR         # the first fault of each file
    python -m experiments.dataset import SOURCE DIR    # V-D4RL, OGBench, Minari, frames of 84 px
    python -m experiments.dataset export DIR NAME-v0   # a Minari dataset, without loss

``inspect`` draws frames, returns and actions into ``DIR.pictures``; ``validate`` reads every file
to its last byte. Both exit with 1 where there are faults. ``import`` finds the format out, and
resizes frames of another size to 64 pixels.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from coworld_jax.data import (
    DataError,
    Fault,
    Summary,
    Survey,
    format_bytes,
    load_episode,
    read_metadata,
    survey,
    validate_directory,
)
from coworld_jax.data.directory import episode_files
from coworld_jax.data.episodes import row_bytes
from coworld_jax.data.formats import FORMATS, Request, export_minari, import_episodes
from coworld_jax.data.memory import host_bytes
from coworld_jax.data.metadata import UNFINISHED, read_import
from experiments.command import as_path, one_sentence, refuse_unused

_MINIMUM_ROWS = flags.DEFINE_integer(
    "minimum_rows", 50, "validate: an episode with fewer rows is a fault (learning.length).",
    lower_bound=1,
)  # fmt: skip
_ACTION_SIZE = flags.DEFINE_integer(
    "action_size", None, "validate: coordinates of an action; those of most files if not given.",
    lower_bound=1,
)  # fmt: skip

_OUT = flags.DEFINE_string(
    "out", None, "inspect: where the pictures go; DIR.pictures, beside DIR, if not given.",
    allow_override=True,  # experiments.collect has one as well; a process runs one command
)  # fmt: skip
_FORMAT = flags.DEFINE_enum("format", None, list(FORMATS), "import: found out if not given.")
_IMAGE_KEY = flags.DEFINE_string(
    "image_key", None, "import: the array of frames, where a source has several."
)
_REWARDS = flags.DEFINE_string(
    "rewards", None, "import: .npy of rewards, a row for each action, where an npz has none."
)
_DROP_CUT = flags.DEFINE_boolean(
    "drop_cut", False, "import: leave out an episode that the edge of a file cuts."
)

_PLACES = {
    "inspect": ["DIR"],
    "validate": ["DIR"],
    "import": ["SOURCE", "DIR"],
    "export": ["DIR", "NAME-v0"],
}
# Flags that each command reads; another one would be ignored, and is refused.
_USED = {
    "inspect": ("out",),
    "validate": ("minimum_rows", "action_size"),
    "import": ("format", "image_key", "rewards", "drop_cut"),
    "export": (),
}
_LISTED = 20  # faults that `inspect` names
_STRIPS = 6  # episodes on the contact sheet, from the best to the worst
_SECONDS = 5.0  # between two lines of progress


def inspect(directory: Path, out: Path | None = None) -> int:
    """Print what a dataset is and draw it; returns the exit status.

    Args:
        directory: of the episodes.
        out: where the pictures go; ``DIRECTORY.pictures``, beside the episodes, if not given.

    Raises:
        DataError: no episode files there, or a bad ``dataset.json``.
    """
    found, faults = survey(directory)
    print(directory)
    print(f"  {'origin':<11} {_origin(directory)}")
    if found is not None:
        for name, text in _lines(found.summary):
            print(f"  {name:<11} {text}")
        name = directory.resolve().name
        out = directory.resolve().with_name(f"{name}.pictures") if out is None else out
        try:
            pictures, unshown = _draw(found, out, name)
        except OSError as error:
            reason = f"cannot be written to ({error.strerror}): name another place with --out"
            raise DataError.of(out, "", reason) from error
        for label, picture in zip(("pictures", "", ""), pictures):
            print(f"  {label:<11} {picture}")
        faults = sorted({*faults, *unshown})
    if faults:
        files = len({fault.file for fault in faults})
        print(f"  {'faults':<11} {len(faults)} in {files} files:")
        for fault in faults[:_LISTED]:
            print(f"    {fault}")
        if len(faults) > _LISTED:
            print(f"    and {len(faults) - _LISTED} more.")
        print(f"    All of them: python -m experiments.dataset validate {_quoted(directory)}")
    return 1 if faults else 0


def _origin(directory: Path) -> str:
    metadata = read_metadata(directory)
    if metadata is not None:
        return (
            f"{metadata['task']}, profile {metadata['profile']}, action repeat "
            f"{metadata['action_repeat']}"
        )
    record = read_import(directory)
    if record is not None:
        resized = f", {record['resized']}" if record["resized"] else ""
        return f"imported from {record['source']} ({record['format']}){resized}"
    unfinished = read_metadata(directory, UNFINISHED)
    if unfinished is not None:
        return f"an unfinished collection of {unfinished['task']}"
    return "unknown: no dataset.json, as in released datasets"


def _quoted(place: Path) -> str:
    """As a shell takes it."""
    return shlex.quote(str(place))


def _draw(found: Survey, out: Path, title: str) -> tuple[list[Path], list[Fault]]:
    """Write the pictures; returns them, and the faults of images that could not be shown."""
    from coworld_jax.evaluation import dataset_pictures  # Matplotlib takes a second to import

    order = np.argsort(found.returns, kind="stable")[::-1]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, _STRIPS).round().astype(int))]
    clips, titles = [], []
    faults: list[Fault] = []
    for index in chosen:
        path = found.paths[index]
        try:
            clips.append(load_episode(path).image)
        except DataError as error:
            faults.extend(error.faults)
        else:
            file = path.name.encode(errors="backslashreplace").decode()  # for Matplotlib
            titles.append(f"return {found.returns[index]:.4g}   {file}")
    pictures = [out / "returns.png"]
    dataset_pictures.returns_histogram(pictures[0], found.returns, title=title)
    if clips:
        pictures.append(out / "frames.png")
        dataset_pictures.contact_sheet(pictures[-1], clips, titles)
    if len(found.played):
        pictures.append(out / "actions.png")
        dataset_pictures.action_histograms(pictures[-1], found.played, title=title)
    return pictures, faults


def _lines(summary: Summary) -> list[tuple[str, str]]:
    if summary.shortest == summary.longest:
        rows = f"{summary.longest} rows each"
    else:
        rows = f"of {summary.shortest} to {summary.longest} rows"
    size = summary.rows * row_bytes(summary.action_size)
    outside = summary.actions_outside / max(summary.env_steps, 1)
    returns = ", ".join(f"{name} {value:.4g}" for name, value in summary.returns.items())
    lines = [
        ("episodes", f"{summary.episodes}, {rows}; {summary.terminated} end in a terminal state"),
        ("env_steps", f"{summary.env_steps}"),
        ("memory", f"{format_bytes(size)} when loaded; {format_bytes(host_bytes())} are free"),
        (
            "actions",
            f"{summary.action_size} coordinates; in {summary.actions_outside} of "
            f"{summary.env_steps} env_steps ({outside:.2%}) one is outside [-1, 1]",
        ),
        ("returns", returns),
    ]
    if summary.acting_resets:
        lines.append(
            (
                "note",
                f"row 0 of {summary.acting_resets} episodes has an action or a reward; a reset has "
                "none, so actions may be shifted by a row",
            )
        )
    return lines


def validate(directory: Path, *, minimum_rows: int, action_size: int | None) -> int:
    """Print the faults of a dataset, one for each bad file; returns the exit status."""
    faults = validate_directory(directory, minimum_rows=minimum_rows, action_size=action_size)
    for fault in faults:
        print(fault)
    if faults:
        print(f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'}.")
        return 1
    episodes = len(episode_files(directory))
    print(f"{episodes} {'episode' if episodes == 1 else 'episodes'}, no fault.")
    return 0


def import_source(source: Path, out: Path, *, form: str | None, request: Request) -> int:
    """Make an episode directory of another project's dataset; returns the exit status.

    Raises:
        DataError: the source cannot be used as it is.
    """
    made = import_episodes(
        source,
        out,
        form=form,
        request=request,
        command=shlex.join(["python", "-m", "experiments.dataset", *sys.argv[1:]]),
        progress=_Progress(),
    )
    print(f"{out}: {made.episodes} episodes, {made.rows} rows, from {source} ({made.form}).")
    if made.resized:
        print(f"Frames were resized, {made.resized}.")
    if made.units is not None:
        print(
            f"Actions were scaled to [-1, 1] from {made.units.low.tolist()} and "
            f"{made.units.high.tolist()}, the bounds of the recorded action space."
        )
    if made.split:
        print(f"Of the source's episodes {made.split} went on after an end: they were cut there.")
    if made.actions_outside:
        print(f"In {made.actions_outside:.2%} of the env_steps an action is outside [-1, 1].")
    if made.single:
        print(f"Left out: {made.single} episodes of a single row.")
    if made.cut_rows:
        print(f"Left out: {made.cut_rows} rows of episodes that the edge of a file cuts.")
    for name in made.aside:
        print(f"Left out: {name}, a validation set; import it by its own name where it is wanted.")
    for name, episodes in made.left_out.items():
        print(f"Left out: {name} of {episodes} episodes, which is not one number row per frame.")
    print(f"Look at it: python -m experiments.dataset inspect {_quoted(out)}")
    return 0


def export(directory: Path, out: Path) -> int:
    """Write an episode directory as a Minari dataset; returns the exit status.

    Raises:
        DataError: bad files, or a name that Minari refuses.
    """
    export_minari(directory, out, progress=_Progress())
    print(f"{out}: a Minari dataset, lossless; with MINARI_DATASETS_PATH={out.absolute().parent}")
    print(f"it is minari.load_dataset({out.name!r}).")
    return 0


class _Progress:
    """A line every few seconds."""

    def __init__(self) -> None:
        self._shown = time.monotonic()

    def __call__(self, episodes: int, rows: int) -> None:
        if time.monotonic() - self._shown >= _SECONDS:
            self._shown = time.monotonic()
            print(f"dataset: {episodes} episodes, {rows} rows ...", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name."""
    command, *places = arguments[1:] if len(arguments) > 1 else [""]
    if command not in _PLACES or len(places) != len(_PLACES[command]):
        uses = ", or ".join(f"{name} {' '.join(places)}" for name, places in _PLACES.items())
        raise app.UsageError(f"Use: python -m experiments.dataset {uses}.")
    directory, *others = map(as_path, places)
    with one_sentence("dataset: interrupted; nothing is left behind."):
        refuse_unused(command, _USED)
        match command:
            case "inspect":
                status = inspect(directory, None if _OUT.value is None else as_path(_OUT.value))
            case "validate":
                status = validate(
                    directory, minimum_rows=_MINIMUM_ROWS.value, action_size=_ACTION_SIZE.value
                )
            case "import":
                rewards = None if _REWARDS.value is None else as_path(_REWARDS.value)
                request = Request(_IMAGE_KEY.value, rewards, _DROP_CUT.value)
                status = import_source(directory, others[0], form=_FORMAT.value, request=request)
            case _:
                status = export(directory, others[0])
    sys.exit(status)


if __name__ == "__main__":
    app.run(main)

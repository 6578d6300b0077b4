"""Look at an offline dataset, or look for what is wrong with it.

    python -m experiments.dataset inspect DIR     # what it is: sizes, returns, actions
    python -m experiments.dataset validate DIR    # every fault, by file and key

``inspect`` reads no images; ``validate`` reads every file to its last byte. Both exit with 1 where
there are faults.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from coworld_jax.data import (
    DataError,
    Summary,
    format_bytes,
    read_metadata,
    summarise,
    validate_directory,
)
from coworld_jax.data.episodes import row_bytes
from coworld_jax.data.memory import host_bytes

_MINIMUM_ROWS = flags.DEFINE_integer(
    "minimum_rows", 50, "validate: an episode with fewer rows is a fault (learning.length).",
    lower_bound=1,
)  # fmt: skip
_ACTION_SIZE = flags.DEFINE_integer(
    "action_size", None, "validate: coordinates of an action; those of most files if not given.",
    lower_bound=1,
)  # fmt: skip


def inspect(directory: Path) -> int:
    """Print what a dataset is; returns the exit status.

    Raises:
        DataError: no episode files there, or a bad ``dataset.json``.
    """
    metadata = read_metadata(directory)
    summary, faults = summarise(directory)
    print(directory)
    if metadata is None:
        print("  origin      unknown: no dataset.json, as in released datasets")
    else:
        print(
            f"  origin      {metadata['task']}, profile {metadata['profile']}, action repeat "
            f"{metadata['action_repeat']}"
        )
    if summary is not None:
        for name, text in _lines(summary):
            print(f"  {name:<11} {text}")
    if faults:
        files = len({fault.file for fault in faults})
        print(
            f"  faults      {len(faults)} in {files} files, for example: {faults[0]}\n"
            f"              All: python -m experiments.dataset validate {directory}"
        )
    return 1 if faults else 0


def _lines(summary: Summary) -> list[tuple[str, str]]:
    if summary.shortest == summary.longest:
        rows = f"{summary.longest} rows each"
    else:
        rows = f"of {summary.shortest} to {summary.longest} rows"
    size = summary.rows * row_bytes(summary.action_size)
    returns = ", ".join(f"{name} {value:.4g}" for name, value in summary.returns.items())
    lines = [
        ("episodes", f"{summary.episodes}, {rows}; {summary.terminated} end in a terminal state"),
        ("env_steps", f"{summary.env_steps}"),
        ("memory", f"{format_bytes(size)} when loaded; {format_bytes(host_bytes())} are free"),
        (
            "actions",
            f"{summary.action_size} coordinates; {summary.actions_outside} of {summary.rows} rows "
            "have one outside [-1, 1]",
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
    """Print every fault of a dataset; returns the exit status."""
    faults = validate_directory(directory, minimum_rows=minimum_rows, action_size=action_size)
    for fault in faults:
        print(fault)
    if faults:
        print(f"{len(faults)} faults.")
        return 1
    print(f"{len(list(directory.glob('*.npz')))} episodes, no fault.")
    return 0


def main(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name."""
    if len(arguments) != 3 or arguments[1] not in ("inspect", "validate"):
        raise app.UsageError("Use: python -m experiments.dataset inspect DIR, or validate DIR.")
    directory = Path(arguments[2])
    try:
        if arguments[1] == "inspect":
            sys.exit(inspect(directory))
        sys.exit(
            validate(directory, minimum_rows=_MINIMUM_ROWS.value, action_size=_ACTION_SIZE.value)
        )
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    app.run(main)

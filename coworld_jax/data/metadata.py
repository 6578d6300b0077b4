"""``dataset.json``: where a directory of episodes comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coworld_jax.data.faults import DataError
from coworld_jax.data.replacing import replacing

METADATA_NAME = "dataset.json"
UNFINISHED = "collection.json"  # in the place of dataset.json while episodes are still missing
IMPORT_NAME = "import.json"  # of a directory that was made from a foreign format
# What an evaluation compares with its environment; other keys are for readers.
_TEXTS, _COUNTS = ("task", "profile"), ("action_size", "action_repeat", "image_size")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``value`` in one step: a kill leaves the old or the new file."""
    with replacing(path) as file:
        file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DataError: it holds none.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError.of(path, "", f"is no JSON file ({error})") from error
    if not isinstance(value, dict):
        raise DataError.of(path, "", "is no JSON object")
    return value


def write_metadata(
    directory: Path | str, metadata: Mapping[str, Any], name: str = METADATA_NAME
) -> Path:
    """Replace ``dataset.json`` in one step."""
    path = Path(directory) / name
    write_json(path, metadata)
    return path


def read_metadata(directory: Path | str, name: str = METADATA_NAME) -> dict[str, Any] | None:
    """The record of a directory, or None where there is none, as in released datasets.

    Raises:
        DataError: it is no JSON object, or a key that evaluations rely on is missing or odd.
    """
    path = Path(directory) / name
    if not path.exists():
        return None
    metadata = read_json(path)
    for keys, kind, what in ((_TEXTS, str, "a text"), (_COUNTS, int, "an integer")):
        for key in keys:
            if key not in metadata:
                raise DataError.of(path, key, "is missing")
            if not isinstance(metadata[key], kind) or isinstance(metadata[key], bool):
                raise DataError.of(path, key, f"is {metadata[key]!r} instead of {what}")
    return metadata


def read_import(directory: Path | str) -> dict[str, Any] | None:
    """What `formats.import_episodes` noted about a directory, or None where it did not make it.

    Raises:
        DataError: it is no JSON object, or a text is missing.
    """
    path = Path(directory) / IMPORT_NAME
    if not path.exists():
        return None
    record = read_json(path)
    for key in ("format", "source", "resized"):
        if key not in record:
            raise DataError.of(path, key, "is missing")
    return record

"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unfinished(path: Path) -> Path:
    """Where `replacing` writes; a kill leaves it there."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path to write, which then takes the place of ``path``.

    A reader sees the old file or the whole new one. So does a program that starts after a kill. The
    folder is made when missing. After an error the old file stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

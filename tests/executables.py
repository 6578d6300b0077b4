"""Programs that tests pretend: scripts in the place of an interpreter or a command."""

from __future__ import annotations

from pathlib import Path


def executable(path: Path, text: str) -> Path:
    """A script of this text; its folder is made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path

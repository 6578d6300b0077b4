"""``python -m coworld_jax.envs.probe``: print the OpenGL backend that renders here."""

from __future__ import annotations

import sys

from coworld_jax.envs.graphics import GraphicsError, choose_backend
from coworld_jax.envs.versions import VersionError


def main() -> int:
    """Print the choice; 1 with a sentence on stderr if there is none."""
    try:
        print(choose_backend())
    except (GraphicsError, VersionError) as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Finding the first quantity that became NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Within one update, causes before effects: the first of them is the one to name.
_PARTS = ("model", "actor", "critic")
_EFFECTS = ("loss", "grad_norm")


class NonFiniteError(RuntimeError):
    """A loss or a gradient became NaN or infinite."""


def check_finite(values: Mapping[str, np.ndarray], updates: int) -> None:
    """Make sure that the metrics of a chunk are finite.

    Args:
        values: ``<domain>/<part>/<quantity>`` to its value at each update, ``[K]``; a part that is
            not known here counts as an effect of those that are.
        updates: done before the chunk.

    Raises:
        NonFiniteError: names the earliest bad update, and there the first bad quantity: losses
            before the sum of them, the world model before what is learnt inside it.
    """

    def order(bad: tuple[int, str]) -> tuple[int, int, bool, str]:
        index, name = bad
        _, *parts = name.split("/")
        part = parts[0] if parts else ""
        place = _PARTS.index(part) if part in _PARTS else len(_PARTS)
        return index, place, bool(parts) and parts[-1] in _EFFECTS, name

    finite = {name: np.isfinite(value) for name, value in values.items()}
    bad = [(int(np.argmin(ok)), name) for name, ok in finite.items() if not ok.all()]
    if bad:
        index, name = min(bad, key=order)
        raise NonFiniteError(f"{name} is not finite at update {updates + index + 1}")

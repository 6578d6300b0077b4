"""The paper's numbers, from ``published.json``: ``{table: {"rows": {row: {pair: [mean, std]}}}}``.

Transcribed from arXiv 2305.15260v4. A standard deviation is null where the paper prints none. The
notes name the printed averages that disagree with the printed rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from experiments.studying.study import Arm


@cache
def _tables() -> dict[str, Any]:
    path = Path(__file__).with_name("published.json")
    tables: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tables


def published(table: str, arm: Arm, pair: str) -> tuple[float, float | None] | None:
    """Mean and standard deviation that the paper prints for an arm on a pair, if it does."""
    if not table:
        return None
    rows, name = _tables()[table]["rows"], arm.name
    return tuple(rows[name][pair]) if name in rows and pair in rows[name] else None


def published_average(table: str, arm: Arm, pairs: Sequence[str]) -> float | None:
    """The mean over pairs of what the paper prints for an arm, if it has a value for each of them.

    It is computed from the rows, since some of the printed averages are wrong.
    """
    found = [printed[0] for pair in pairs if (printed := published(table, arm, pair)) is not None]
    return sum(found) / len(found) if pairs and len(found) == len(pairs) else None


def further_table(table: str, measure: str) -> str:
    """The table of a further measure beside ``table``; "" where the paper prints none."""
    name = f"{table}_{measure}"
    return name if name in _tables() else ""


def notes(table: str) -> list[str]:
    """What to know about a table of the paper."""
    return list(_tables()[table]["notes"]) if table else []


def chosen_source(pair: str) -> str | None:
    """The source that the paper's Table 13 says was chosen for a multi-source pair."""
    found: str | None = _tables()["table_13"]["chosen"].get(pair)
    return found

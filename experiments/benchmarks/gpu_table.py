"""One table from what ``launch/benchmark_gpu.sh`` has measured: figures, limits, largest costs.

python -m experiments.benchmarks.gpu_table OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_COSTS = 3  # parts of the profile that are named


def table(directory: Path) -> str:
    """Markdown, from the files of ``directory``: suite.json, loop.json and profile.json.

    Raises:
        FileNotFoundError: one is missing.
    """
    suite, loop, profile = (
        json.loads((directory / f"{name}.json").read_text())
        for name in ("suite", "loop", "profile")
    )
    seconds = {
        (row["preset"], row["batch"], row["length"]): row["seconds"] for row in suite["rows"]
    }
    rows: list[tuple[str, ...]] = [
        ("`released` 50x50, bfloat16", _milliseconds(seconds["released", 50, 50]), "10 ms", "5 ms"),
        ("`released` 16x64, bfloat16", _milliseconds(seconds["released", 16, 64]), "8 ms", ""),
        ("loop over its updates", f"{loop['wall_over_updates_alone'] - 1:.1%}", "10 %", ""),
    ]
    rows += [_cost(number, cost) for number, cost in enumerate(profile["costs"][:_COSTS], 1)]
    lines = [f"{suite['device']}, {suite['versions']}", "", "| what | measured | must | aim |"]
    lines += ["|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


def _cost(number: int, cost: dict[str, Any]) -> tuple[str, ...]:
    return f"cost {number}: {cost['name']}", f"{cost['share']:.0%}", "", ""


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))

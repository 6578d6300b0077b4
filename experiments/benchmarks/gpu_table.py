"""One table from what ``launch/benchmark_gpu.sh`` has measured.

python -m experiments.benchmarks.gpu_table OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from experiments.benchmarks.gpu import ROWS, SEEDS
from experiments.benchmarks.timing import read_lines

_STEPS_AIM = "1,000,000"  # env_steps/s
_COSTS = 3  # parts of the profile that are named
_HEAD = ("what", "measured", "must", "aim", "arithmetic", "memory", "steps", "of the bound")


def table(directory: Path) -> str:
    """Markdown, from rows.jsonl, playing.json, loop.json and profile.json, where they are.

    A row that was not reached says so. The bounds are those of `limits`; the last column is the
    largest of them over the measured time.
    """
    lines = read_lines(directory / "rows.jsonl")
    found = {row["name"]: row for row in lines}
    rows = [_row(name, found) for name in (row.name for row in ROWS)]
    rows += [_gain(seeds, found) for seeds in (4, 16, 64)]
    rows += _playing(read_lines(directory / "playing.json"))
    rows += _loop(read_lines(directory / "loop.json"))
    rows += _costs(read_lines(directory / "profile.json"))
    machine = sorted({f"{row['device']}, {row['versions']}" for row in lines})
    return "\n".join(
        [
            *(machine or ["Nothing was measured."]),
            "",
            f"| {' | '.join(_HEAD)} |",
            "|---" * len(_HEAD) + "|",
            *(f"| {' | '.join([*row, *[''] * (len(_HEAD) - len(row))])} |" for row in rows),
        ]
    )


def _row(name: str, found: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    if name not in found:
        return name, "not reached"
    row = found[name]
    if "error" in row:
        return name, row["error"]
    figures = (row[key] for key in ("ms", "must_ms", "aim_ms"))
    bounds = (row[f"{key}_ms"] for key in ("arithmetic", "memory", "steps"))
    return name, *map(_milliseconds, (*figures, *bounds)), f"{row['reached']:.0%}"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ms"


def _gain(seeds: int, found: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """How many times as many updates ``seeds`` seeds make as one, in the better form."""
    name, must = f"{seeds} seeds over one, {SEEDS.name}", "6" if seeds == 16 else ""
    one = [row["ms"] for key, row in found.items() if key == SEEDS.name and "ms" in row]
    several = [
        row["ms"]
        for key, row in found.items()
        if key.startswith(f"{SEEDS.name}, {seeds} seeds") and "ms" in row
    ]
    if not one or not several:
        return name, "not reached", must
    return name, f"{seeds * one[0] / min(several):.1f}", must


def _playing(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rendered env_steps per second, for each number of episodes that are played at once."""
    if not figures:
        return [("planar env_steps/s", "not reached", "", _STEPS_AIM)]
    task, rates = figures[-1]["task"], figures[-1]["env_steps_per_second"]
    return [
        (f"`{task}` env_steps/s, {episodes} at once", f"{rate:,.0f}", "", _STEPS_AIM)
        for episodes, rate in rates.items()
    ]


def _loop(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    name = "loop over its updates"
    if not figures:
        return [(name, "not reached", "10 %")]
    return [(name, f"{figures[-1]['wall_over_updates_alone'] - 1:.1%}", "10 %")]


def _costs(figures: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    costs = figures[-1]["costs"] if figures else []
    return [
        (f"cost {number}: {cost['name']}", f"{cost['share']:.0%}")
        for number, cost in enumerate(costs[:_COSTS], 1)
    ]


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))

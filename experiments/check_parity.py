"""Check our functions against values that official code gave, of CoWorld and of the baselines.

    python -m experiments.check_parity --fixture=FILE

Puts the file's weights and random numbers into our networks and updates, prints one JSON line per
quantity (``max_rel`` is the largest absolute difference over the largest absolute reference value;
null where a value is missing, of another shape or not finite) and, last, ``{"passed": true}`` or
``false``. The file's content tells which method it belongs to. Exits with 1 when a quantity differs
by more than `experiments.parity.compare` allows, and names each of those on standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from coworld_jax.training import runtime
from experiments.command import as_path
from experiments.parity import FixtureError, check_parity

_FIXTURE = flags.DEFINE_string(
    "fixture", None, "An .npz file of weights, inputs and outputs.", required=True
)


def check(fixture: Path) -> bool:
    """Print the differences of a fixture; whether all of them pass."""
    try:
        differences = check_parity(fixture)
    except FixtureError as error:
        print(f"FixtureError: {error}", file=sys.stderr)
        differences = []
    for difference in differences:
        quantity, max_abs, max_rel, passed = difference
        print(json.dumps({"quantity": quantity, "max_abs": max_abs, "max_rel": max_rel}))
        if not passed:
            print(f"{quantity} does not agree.", file=sys.stderr)
    passed = bool(differences) and all(difference.passed for difference in differences)
    print(json.dumps({"passed": passed}), flush=True)
    return passed


def main(arguments: Sequence[str]) -> None:
    """Check the flags' fixture."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    runtime.configure()
    if not check(as_path(_FIXTURE.value)):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)

"""What tiny runs learn is what they learnt when it was written down: see record_digests.py.

A commit that changes it on purpose says so and writes ``digests.json`` anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from record_digests import FILE, machine, result, runs, save_data

NAMES = tiny.cases(runs(Path("data")), quick=("single source",))


@pytest.fixture(scope="module")
def record():
    """What was written down."""
    assert FILE.exists(), f"there is no {FILE.name}: run python tests/record_digests.py"
    return json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("digests") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FILE.parent), prepend=":")
        save_data(directory)
        yield directory


@pytest.mark.parametrize("name", NAMES)
def test_a_run_learns_what_it_did(name, record, data, tmp_path):
    found, wanted = result(runs(data)[name], tmp_path / "run"), record["runs"][name]
    assert found["updates"] == wanted["updates"]
    assert found["sums"] == pytest.approx(wanted["sums"], rel=1e-3, abs=1e-6)
    if machine() == record["machine"]:
        assert found["digest"] == wanted["digest"]


def test_the_record_holds_every_run(record, tmp_path):
    assert set(record["runs"]) == set(runs(tmp_path))
    digests = {run["digest"] for run in record["runs"].values()}
    # Two devices add up in another order; no two runs are one.
    assert len(digests) == len(record["runs"])

"""What tiny runs learn is what they learnt when it was written down: see record_digests.py.

A commit that changes it on purpose says so and writes ``digests.json`` anew.
"""

from __future__ import annotations

import json

import pytest
from record_digests import FILE, machine, result, runs, save_data

RECORD = json.loads(FILE.read_text())
DEFAULT = ("single source",)  # of the suite that runs without -m slow


def names() -> list[object]:
    """The recorded runs, as parameters of a test."""
    return [
        pytest.param(name, marks=[] if name in DEFAULT else [pytest.mark.slow])
        for name in RECORD["runs"]
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("digests") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FILE.parent), prepend=":")
        save_data(directory)
        yield directory


@pytest.mark.parametrize("name", names())
def test_a_run_learns_what_it_did(name, data, tmp_path):
    found, wanted = result(runs(data)[name], tmp_path / "run"), RECORD["runs"][name]
    assert found["updates"] == wanted["updates"]
    assert found["sums"] == pytest.approx(wanted["sums"], rel=1e-3, abs=1e-6)
    if machine() == RECORD["machine"]:
        assert found["digest"] == wanted["digest"]


def test_the_record_holds_every_run(tmp_path):
    assert set(RECORD["runs"]) == set(runs(tmp_path))
    digests = {run["digest"] for run in RECORD["runs"].values()}
    # Two devices add up in another order; no two runs are one.
    assert len(digests) == len(RECORD["runs"])

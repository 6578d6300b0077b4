"""The measurement of reading: that it measures what it says."""

from __future__ import annotations

import pytest

from experiments.benchmarks import data


def test_reading_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(data, "_STEPS", 9)
    figures = data.measure(52)
    assert (figures["frames"], figures["episodes"]) == (52, 6)  # five of 10 rows, one of 2
    assert figures["frame_bytes"] == 52 * 64 * 64 * 3 and figures["seconds"] > 0
    # compressed, and not as blank or as random frames are
    assert 0.01 < figures["file_bytes"] / figures["frame_bytes"] < 0.5
    assert figures["frames_per_second"] == pytest.approx(52 / figures["seconds"])
    grown = figures["peak_bytes"] - figures["base_bytes"]
    assert grown >= 0 and figures["growth_over_frames"] == grown / figures["frame_bytes"]
    assert figures["base_bytes"] > 50e6  # the process has Python and jax in it
    with pytest.raises(ValueError, match="at least 2 frames"):
        data.measure(1)

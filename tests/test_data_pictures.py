"""What ``experiments.dataset inspect`` draws: frames, returns, actions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from episodes import make_episode
from PIL import Image

from coworld_jax.data import DataError, save_episode
from coworld_jax.evaluation import dataset_pictures
from coworld_jax.evaluation.dataset_pictures import (
    action_histograms,
    contact_sheet,
    percent,
    returns_histogram,
)
from experiments import dataset


def test_pictures_lie_beside_the_episodes(tmp_path, capsys, monkeypatch):
    directory = tmp_path / "walk"
    for index in range(8):
        episode = make_episode(index, 9)
        episode.action[1 : 1 + index % 3, 1] = 2.0  # 0, 1, 2, 0, 1, 2, 0, 1 of them
        save_episode(directory, episode, name=f"{index}")
    before = sorted(directory.iterdir())
    titles, draw = [], dataset_pictures.contact_sheet
    monkeypatch.setattr(
        dataset_pictures, "contact_sheet",
        lambda path, clips, names: (titles.extend(names), draw(path, clips, names)),
    )  # fmt: skip
    assert dataset.inspect(directory) == 0
    returns = [float(title.split()[1]) for title in titles]
    assert len(returns) == 6 and returns == sorted(returns, reverse=True)  # the best one first
    assert sorted(directory.iterdir()) == before
    made = tmp_path / "walk.pictures"
    assert {path.name for path in made.iterdir()} == {"frames.png", "returns.png", "actions.png"}
    text = capsys.readouterr().out
    assert all(str(path) in text for path in made.iterdir())
    assert "in 7 of 64 env_steps (10.94%) one is outside [-1, 1]" in text
    assert dataset.inspect(directory, tmp_path / "elsewhere") == 0
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3
    with pytest.raises(DataError, match="0.npz/x cannot be written to .*: name another place with"):
        dataset.inspect(directory, directory / "0.npz" / "x")


def test_damaged_images_are_a_fault_and_the_other_episodes_are_drawn(tmp_path, capsys):
    """The numbers of such a file can be read, so that only drawing finds it."""
    directory = tmp_path / "walk"
    for index in range(3):
        path = save_episode(directory, make_episode(index, 9), name=f"{index}")
    content = bytearray(path.read_bytes())
    content[2000] ^= 0xFF
    path.write_bytes(content)
    assert dataset.inspect(directory) == 1
    text = capsys.readouterr().out
    assert "2.npz: key 'image' cannot be read" in text
    assert (tmp_path / "walk.pictures" / "frames.png").exists()


def test_frames_of_the_sheet_are_the_first_to_the_last(tmp_path):
    """Levels of grey that count the time appear in order from left to right."""
    long = np.broadcast_to(np.arange(1, 38, dtype=np.uint8)[:, None, None, None], (37, 64, 64, 3))
    contact_sheet(tmp_path / "x.png", [long * 6, long[:2] * 6], ["one", "two"], frames=4)
    image = np.asarray(Image.open(tmp_path / "x.png").convert("L")).astype(int)
    seen = image[image.shape[0] // 3]
    levels = [level for level, follows in itertools.pairwise(seen) if level == follows]
    order = list(dict.fromkeys(level for level in levels if level < 255))
    assert order == [6, 78, 150, 222]  # frames 0, 12, 24 and 36


def test_histograms_hold_what_they_are_given(tmp_path):
    axes = returns_histogram(tmp_path / "r.png", np.array([1.0, 2.0, 2.0, 9.0], np.float32))
    assert sum(bar.get_height() for bar in axes.patches) == 4
    flat = returns_histogram(tmp_path / "f.png", np.full(5, 3.0, np.float32))
    assert [bar.get_height() for bar in flat.patches] == [5]

    action = np.zeros((8, 5), np.float32)
    action[:2, 3] = (1.5, -1.01)
    action[0, 4] = -3.0
    panels = action_histograms(tmp_path / "a.png", action, title="walk")
    titles = [panel.get_title() for panel in panels]
    assert titles == [
        *(f"coordinate {index}: 0 % outside" for index in range(3)),
        "coordinate 3: 25.00 % outside",
        "coordinate 4: 12.50 % outside",
    ]
    assert panels[0].figure.get_suptitle() == (
        "walk: 25.00 % of the actions reach outside [-1, 1]"  # 2 of 8, one row has two
    )
    for panel in panels:  # every action is in a bar
        bars = [patch for patch in panel.patches if abs(patch.get_width()) < 0.2]
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100.0)


def test_a_share_is_rounded_to_all_or_nothing_only_if_it_is():
    assert [percent(share) for share in (0.0, 1e-9, 0.5, 1.0 - 1e-9, 1.0)] == [
        "0 %", "0.01 %", "50.00 %", "99.99 %", "100 %"
    ]  # fmt: skip

"""Data that first have to be imported: the command is named, and no part of a source gets lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from episodes import ROWS, make_episode, save_raw, save_three
from test_data_formats import FIRST, LENGTHS, assert_counts, save_minari, save_ogbench, save_vd4rl

from coworld_jax.data import DataError, load_directory, load_episode, validate_directory
from coworld_jax.data.formats import Request, import_episodes
from experiments import dataset as command

ROOT = Path(__file__).resolve().parent.parent

# --- frames of another size -----------------------------------------------------------------------


def wide(size=84, first=False):
    """Frames whose top right corner is red."""
    frames = np.zeros((ROWS, size, size, 3), np.uint8)
    frames[:, : size // 4, -size // 4 :, 0] = 200
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)) if first else frames


@pytest.mark.parametrize(("size", "first"), [(84, False), (84, True), (64, True), (100, False)])
def test_episode_files_of_another_size_are_resized_and_keep_all_else(tmp_path, size, first):
    source = tmp_path / "source"
    source.mkdir()
    extra = {"state": np.ones((ROWS, 2)), "is_last": np.arange(ROWS) == ROWS - 1}
    save_raw(source / "one.npz", image=wide(size, first), **extra)
    (fault,) = validate_directory(source, minimum_rows=1)
    assert f"`python -m experiments.dataset import {source} NEW_DIR` resizes" in fault.reason
    imported = import_episodes(source, tmp_path / "out")
    assert imported.form == "episodes"
    assert imported.resized == ("" if size == 64 else f"{size} to 64 pixels, filter hamming")
    assert validate_directory(tmp_path / "out", minimum_rows=1) == []
    episode = load_episode(tmp_path / "out" / "one.npz")
    assert (episode.image[:, :14, 50:, 0] == 200).all() and not episode.image[:, 18:].any()
    assert not episode.image[..., 1:].any()
    np.testing.assert_array_equal(episode.action, make_episode(1, ROWS).action)
    np.testing.assert_array_equal(episode.extras["state"], extra["state"])


def test_one_file_of_another_size_is_enough_and_none_is_refused(tmp_path):
    source = save_three(tmp_path / "source")
    with pytest.raises(DataError, match="is an episode file: its directory loads as it is"):
        import_episodes(source, tmp_path / "out")
    save_raw(source / "wide.npz", image=wide())
    import_episodes(source, tmp_path / "out")
    names = [path.name for path in sorted(source.iterdir())]
    loaded = load_directory(tmp_path / "out", minimum_rows=1)
    assert list(loaded.files) == names and loaded.lengths.tolist() == [9, 6, 8, ROWS]


def test_frames_that_are_no_squares_are_named(tmp_path):
    source = save_raw(tmp_path / "x.npz", image=np.zeros((ROWS, 84, 96, 3), np.uint8))
    with pytest.raises(DataError, match=r"x.npz: key 'image' has shape .*but square frames"):
        import_episodes(source, tmp_path / "out")
    with pytest.raises(DataError, match="no --image_key"):
        import_episodes(source, tmp_path / "out", request=Request(image_key="pixels"))


# --- a run that is pointed at a source ------------------------------------------------------------


def vd4rl(place):
    (place / "walker_walk/expert/84px").mkdir(parents=True)
    save_vd4rl(place / "walker_walk/expert/84px/shard_0.hdf5", size=64)
    return place, place / "walker_walk/expert/84px"


def minari(place):
    save_minari(place / "data", jpeg=False)
    return place, place / "data"


def single_file(place):
    path = save_vd4rl(place / "x.hdf5", size=64)
    return path, path


def ogbench(place):
    return place, save_ogbench(place / "my data.npz")


@pytest.mark.parametrize("save", [vd4rl, minari, single_file, ogbench])
def test_a_source_given_as_a_dataset_gets_the_command_that_imports_it(tmp_path, save):
    source = tmp_path / "source"
    source.mkdir()
    given, wanted = save(source)
    quoted = f"'{wanted}'" if " " in str(wanted) else str(wanted)
    hint = f"`python -m experiments.dataset import {quoted} NEW_DIR`"
    for skip_bad in (False, True):
        with pytest.raises(DataError) as info:
            load_directory(given, minimum_rows=1, skip_bad=skip_bad)
        assert hint in str(info.value) and len(str(info.value).splitlines()) == 1
    (fault,) = validate_directory(given, minimum_rows=1)
    assert hint in str(fault)
    import_episodes(wanted, tmp_path / "out")
    assert_counts(tmp_path / "out", last_discount=(1.0, 1.0, 0.0 if save is minari else 1.0))


def test_a_single_episode_file_is_no_dataset(tmp_path):
    path = save_raw(tmp_path / "x.npz")
    with pytest.raises(DataError, match=f"x.npz is no directory: .*, here {tmp_path}"):
        load_directory(path, minimum_rows=1)


# --- parts of a source ----------------------------------------------------------------------------


def test_a_validation_set_is_set_aside_and_named(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    save_ogbench(source / "cube-play-v0.npz")
    save_ogbench(source / "cube-play-v0-val.npz")
    save_ogbench(source / "puzzle-val.npz")  # which has no training set here
    assert command.import_source(source, tmp_path / "out", form=None, request=Request()) == 0
    assert "Left out: cube-play-v0-val.npz, a validation set" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "import.json").read_text())
    assert (record["files"], record["aside"]) == (2, ["cube-play-v0-val.npz"])
    assert len(list((tmp_path / "out").glob("*.npz"))) == 6
    import_episodes(source / "cube-play-v0-val.npz", tmp_path / "val")
    assert_counts(tmp_path / "val")


def shard(path, rows):
    """Only some rows of a whole shard."""
    save_vd4rl(path, size=64)
    with h5py.File(path, "a") as file:
        for key in list(file):
            value = file[key][rows]
            del file[key]
            file[key] = value
    return path


FRAMES = [list(range(first, first + rows)) for first, rows in zip(FIRST, LENGTHS)]


@pytest.mark.parametrize(
    ("rows", "frames", "lost"),
    [
        (slice(0, 10), FRAMES[:2], 2),  # the third episode has two of its four rows
        (slice(0, 11), FRAMES[:2], 3),
        (slice(2, 12), FRAMES[1:], 3),  # the first one has lost two
        (slice(2, 9), FRAMES[1:2], 4),
        (slice(0, 12), FRAMES, 0),
    ],
)
def test_what_the_edge_of_a_shard_cuts_may_be_left_out(tmp_path, rows, frames, lost, capsys):
    source = shard(tmp_path / "x.hdf5", rows)
    if lost:
        with pytest.raises(DataError, match="cuts an episode at row .*; --drop_cut leaves out"):
            import_episodes(source, tmp_path / "out")
    request = Request(drop_cut=True)
    assert command.import_source(source, tmp_path / "out", form=None, request=request) == 0
    said = f"Left out: {lost} rows of episodes that the edge of a file cuts."
    assert (said in capsys.readouterr().out) == (lost > 0)
    assert json.loads((tmp_path / "out" / "import.json").read_text())["cut_rows"] == lost
    episodes = [load_episode(path) for path in sorted((tmp_path / "out").glob("*.npz"))]
    assert [(one.image[:, 0, 0, 0] // 8).tolist() for one in episodes] == frames


def test_a_hole_inside_a_shard_is_no_edge(tmp_path):
    source = shard(tmp_path / "x.hdf5", [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    with pytest.raises(DataError, match="cuts an episode at row 4 of 11"):
        import_episodes(source, tmp_path / "out", request=Request(drop_cut=True))


@pytest.mark.parametrize("rows", [slice(1, 4), slice(3, 7), slice(0, 3)])
def test_a_shard_without_a_whole_episode_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match="x.hdf5 holds no episodes"):
        source = shard(tmp_path / "x.hdf5", rows)
        import_episodes(source, tmp_path / "out", request=Request(drop_cut=True))


def test_a_trajectory_without_its_end_may_be_left_out(tmp_path):
    whole = dict(np.load(save_ogbench(tmp_path / "x.npz")))
    np.savez(tmp_path / "x.npz", **{key: value[:-2] for key, value in whole.items()})
    with pytest.raises(DataError, match="the last trajectory has no end; --drop_cut leaves it"):
        import_episodes(tmp_path / "x.npz", tmp_path / "out")
    imported = import_episodes(tmp_path / "x.npz", tmp_path / "out", request=Request(drop_cut=True))
    assert (imported.episodes, imported.rows, imported.cut_rows) == (2, 8, 2)
    with pytest.raises(DataError, match="--drop_cut belongs to files of V-D4RL and OGBench"):
        save_minari(tmp_path / "data", jpeg=False)
        import_episodes(tmp_path / "data", tmp_path / "b", request=Request(drop_cut=True))


def test_a_trajectory_of_one_row_is_left_out_and_counted(tmp_path):
    whole = dict(np.load(save_ogbench(tmp_path / "x.npz")))
    ends = np.flatnonzero(whole["terminals"])
    twice = {key: np.insert(value, ends[0] + 1, value[ends[0]], 0) for key, value in whole.items()}
    np.savez(tmp_path / "x.npz", **twice)
    imported = import_episodes(tmp_path / "x.npz", tmp_path / "out")
    assert (imported.episodes, imported.single) == (3, 1)
    assert load_directory(tmp_path / "out", minimum_rows=2).lengths.min() > 1


# --- paths ----------------------------------------------------------------------------------------


def test_a_tilde_is_the_home_directory_in_every_path(tmp_path, monkeypatch):
    """A shell expands ``~/x`` but neither ``--out=~/x`` nor ``'~/x'``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    save_ogbench(tmp_path / "base.npz", rewards=False)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "experiments.dataset", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    run("import", "~/base.npz", "~/made", "--rewards=~/base.npy")
    assert len(list((tmp_path / "made").glob("*.npz"))) == 3
    run("inspect", "~/made", "--out=~/pictures")
    assert (tmp_path / "pictures" / "returns.png").exists()
    assert not (tmp_path / "~").exists()

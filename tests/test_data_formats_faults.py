"""Foreign datasets that cannot be imported: a sentence with file and key, and nothing is left."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from episodes import make_episode
from PIL import Image
from test_data_formats import LENGTHS, assert_counts, save_minari, save_ogbench, save_vd4rl

from coworld_jax.data import DataError, load_directory, save_episode
from coworld_jax.data.formats import Request, export_minari, import_episodes
from experiments import dataset

ROOT = Path(__file__).resolve().parent.parent
ROWS = sum(LENGTHS)
FRAMES = np.zeros((ROWS, 3, 84, 84), np.uint8)
STEPS = np.array([0, 1, 1, 1, 2, 0, 1, 2, 0, 1, 1, 2])


def vd4rl(**changes):
    return lambda place: save_vd4rl(place / "x.hdf5", size=64, **changes)


def ogbench(**changes):
    def save(place):
        return save_ogbench(place / "x.npz", **changes)

    return save


def minari(change):
    """A good dataset, then changed in place."""

    def save(place):
        path = save_minari(place / "data", jpeg=False) / "main_data.hdf5"
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return save


def replaced(key, value):
    def change(file):
        del file[key]
        if value is not None:
            file[key] = value

    return change


def jpeg(*contents):
    """Observations of the first episode as files of these bytes."""

    def change(file):
        del file["episode_0/observations"]
        kind = h5py.vlen_dtype(np.uint8)
        array = file.create_dataset("episode_0/observations", len(contents), kind)
        for row, content in enumerate(contents):
            array[row] = np.frombuffer(content, np.uint8)

    return change


def picture(width=64):
    content = io.BytesIO()
    Image.fromarray(np.zeros((width, width, 3), np.uint8)).save(content, "JPEG")
    return content.getvalue()


def text(name, content="text"):
    def save(place):
        (place / name).write_text(content)
        return place / name

    return save


def with_nan(shape, row):
    value = np.zeros(shape, np.float32)
    value[row] = np.nan
    return value


def episode_directory(place):
    return save_episode(place / "episodes", make_episode(0)).parent


def both(place):
    save_vd4rl(place / "x.hdf5")
    return save_ogbench(place / "x.npz").parent


BROKEN = {
    "nothing": (lambda place: place / "nowhere", "nowhere is not there"),
    "empty": (lambda place: place, r"holds no files \*.hdf5, \*.h5, \*.npz"),
    "episodes": (episode_directory, "is an episode file: its directory loads as it is"),
    "both": (both, "holds hdf5 and npz files: say which with --format"),
    "no hdf5": (text("x.hdf5"), "x.hdf5 is no hdf5 file, or is cut short"),
    "no npz": (text("x.npz"), "x.npz is no npz file, or is cut short"),
    "no data": (text("x.csv"), "x.csv is no hdf5 file"),
    "unknown": (vd4rl(step_type=None), "is of no known format, for it holds action, discount, obs"),
    "vd4rl no reward": (vd4rl(reward=None), "x.hdf5: key 'reward' is missing; the file has: actio"),
    "vd4rl frames": (vd4rl(observation=FRAMES[:, :2]), r"'observation' has shape \[12, 2, 84"),
    "vd4rl floats": (vd4rl(observation=FRAMES[..., :64, :64] / 2), "has dtype float64, but frames"),
    "vd4rl oblong": (vd4rl(observation=FRAMES[..., :64]), "but square frames"),
    "vd4rl few": (vd4rl(observation=FRAMES[:-1]), "'observation' has 11 rows, but 'step_type' has"),
    "vd4rl NaN": (vd4rl(action=with_nan((ROWS, 2), 7)), "'action' holds NaN .* first in row 7"),
    "vd4rl integers": (vd4rl(action=np.zeros((ROWS, 2), int)), "'action' has dtype int64, but"),
    "vd4rl discount": (vd4rl(discount=np.full(ROWS, 2.0)), "'discount' is 2 in row 0, outside"),
    "vd4rl single": (vd4rl(discount=np.float32(1)), "'discount' is a single value"),
    "vd4rl starts late": (vd4rl(step_type=np.roll(STEPS, -1)), "cuts an episode at row 0 of 12"),
    "vd4rl no end": (vd4rl(step_type=np.where(np.arange(12) == 11, 1, STEPS)), "at row 12 of 12"),
    "vd4rl no last": (vd4rl(step_type=np.where(np.arange(12) == 7, 1, STEPS)), "at row 8 of 12"),
    "vd4rl no first": (vd4rl(step_type=np.where(np.arange(12) == 5, 1, STEPS)), "at row 5 of 12"),
    "vd4rl twice last": (vd4rl(step_type=np.where(np.arange(12) == 6, 2, STEPS)), "at row 7 of 12"),
    "vd4rl types": (vd4rl(step_type=STEPS + 1), "'step_type' is 3 in row 4, but 0, 1 or 2"),
    "ogbench no end": (ogbench(terminals=np.zeros(ROWS)), "is not 1 in the last row, 11"),
    "ogbench few": (ogbench(actions=np.zeros((5, 2))), r"'actions' has shape \[5, 2\]"),
    "ogbench states": (ogbench(observations=np.zeros((ROWS, 9))), "has dtype float64, but frames"),
    "ogbench masks": (ogbench(masks=np.full(ROWS, -1.0)), "'masks' is -1 in row 0, outside"),
    "ogbench columns": (
        ogbench(observations=np.asfortranarray(np.zeros((ROWS, 64, 64, 3), np.uint8))),
        "'observations' is stored in Fortran order",
    ),
    "minari no actions": (minari(replaced("episode_1/actions", None)),
                          "'episode_1/actions' is missing; the file has: infos, observations"),
    "minari group": (minari(replaced("episode_0/actions", np.zeros((4, 2, 2)))),
                     r"'episode_0/actions' has shape \[4, 2, 2\]"),
    "minari discrete": (minari(replaced("episode_2/actions", np.zeros(3, int))),
                        "'episode_2/actions' has dtype int64, but actions are continuous"),
    "minari widths": (minari(replaced("episode_2/actions", np.zeros((3, 5)))),
                      "'action' has 5 coordinates, but episodes before have 2"),
    "minari rows": (minari(replaced("episode_1/observations", np.zeros((2, 64, 64, 3), np.uint8))),
                    "'episode_1/observations' has 2 rows, but 2 rewards need 3"),
    "minari states": (minari(replaced("episode_0/observations", np.zeros((5, 7)))),
                      "'episode_0/observations' holds no frames; it has: infos/short"),
    "minari array": (minari(replaced("episode_0", np.zeros(3))), "'episode_0' is an array instead"),
    "minari no jpeg": (minari(jpeg(picture(), b"\xff\xd8\xffno", *[picture()] * 3)),
                       "'episode_0/observations' cannot be read as JPEG in row 1"),
    "minari cut jpeg": (minari(jpeg(*[picture()] * 4, picture()[:-200])), "as JPEG in row 4"),
    "minari sizes": (minari(jpeg(*[picture()] * 4, picture(32))), "has frames of several shapes"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_bad_sources_are_named_and_nothing_is_left(tmp_path, name):
    save, reason = BROKEN[name]
    (tmp_path / "source").mkdir()
    source = save(tmp_path / "source")
    with pytest.raises(DataError, match=reason) as info:
        import_episodes(source, tmp_path / "out")
    assert len(str(info.value).splitlines()) == 1 and str(tmp_path / "source") in str(info.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("form", ["vd4rl", "minari", "ogbench"])
def test_no_damage_gets_through(tmp_path, form):
    """Cut short: always a sentence. Bytes overwritten: a sentence or a dataset, nothing between.

    (hdf5 keeps no checksums of raw arrays, so that a wrong pixel there looks like a right one.)
    """
    if form == "ogbench":
        source = save_ogbench(tmp_path / "x.npz")
    else:
        source = tmp_path / "x.hdf5"
        if form == "vd4rl":
            save_vd4rl(source)
        else:
            save_minari(tmp_path / "data", jpeg=False)
            source.write_bytes((tmp_path / "data" / "main_data.hdf5").read_bytes())
    whole, rng, refused = source.read_bytes(), np.random.default_rng(2), 0
    for share in np.linspace(0.02, 0.98, 25):
        source.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match="x\\."):
            import_episodes(source, tmp_path / "out", form=form)
    for number in range(40):
        content = bytearray(whole)
        first = int(rng.integers(min(len(whole), 4000 if number % 2 else len(whole))))
        content[first : first + 16] = rng.bytes(len(content[first : first + 16]))
        source.write_bytes(content)
        out = tmp_path / f"out{number}"
        try:
            import_episodes(source, out, form=form)
        except DataError:
            refused += 1
            assert not out.exists()
        else:
            assert load_directory(out, minimum_rows=1).lengths.size > 0
    assert refused > 0


def test_what_is_there_is_not_overwritten(tmp_path):
    source = save_ogbench(tmp_path / "x.npz")
    out = episode_directory(tmp_path)
    with pytest.raises(DataError, match="episodes is there already and is not empty"):
        import_episodes(source, out)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".empty.unfinished").mkdir()  # as a killed import leaves it
    (tmp_path / ".empty.unfinished" / "old.npz").write_text("half")
    import_episodes(source, tmp_path / "empty")
    assert_counts(tmp_path / "empty")
    assert not (tmp_path / ".empty.unfinished").exists()


def test_rewards_belong_to_one_npz_file(tmp_path):
    source = save_vd4rl(tmp_path / "x.hdf5")
    with pytest.raises(DataError, match="--rewards belongs to one npz file of OGBench"):
        import_episodes(source, tmp_path / "out", request=Request(rewards=tmp_path / "r.npy"))


@pytest.mark.parametrize("package", ["h5py", "minari"])
def test_a_package_that_is_not_there_is_named_with_the_extra(tmp_path, monkeypatch, package):
    source, episodes = save_vd4rl(tmp_path / "x.hdf5"), episode_directory(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(DataError, match=f"needs {package}: install the extra `data`"):
        if package == "h5py":
            import_episodes(source, tmp_path / "out")
        else:
            export_minari(episodes, tmp_path / "out-v0")
    assert not list(tmp_path.glob("*out*"))


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.dataset", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_the_commands_import_and_export(tmp_path, capsys):
    save_minari(tmp_path / "data", jpeg=True)
    done = command("import", tmp_path / "data", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"3 episodes, {ROWS} rows, from {tmp_path / 'data'} (minari)" in done.stdout
    assert "Left out: infos/short of 3 episodes" in done.stdout
    assert dataset.inspect(tmp_path / "out") == 0
    assert f"imported from {tmp_path / 'data'} (minari)\n" in capsys.readouterr().out
    done = command("export", tmp_path / "out", tmp_path / "again-v0")
    assert done.returncode == 0 and "minari.load_dataset('again-v0')" in done.stdout
    done = command("import", tmp_path / "data", tmp_path / "out")
    assert done.returncode == 1 and "is not empty" in done.stderr
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    done = command("import", tmp_path / "data", tmp_path / "link")
    assert done.returncode == 0 and len(list((tmp_path / "here").glob("*.npz"))) == 3
    assert not list(tmp_path.glob(".*"))  # nothing unfinished

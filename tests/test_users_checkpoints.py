"""Checkpoints whose files were damaged after they had been written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.records.checkpoint import Checkpointer, DamagedCheckpointError


def state(fill: float) -> dict[str, jax.Array]:
    return {"weights": jnp.full((64, 64), float(fill)), "bias": jnp.full((3,), -float(fill))}


def files(step: Path) -> list[Path]:
    return [path for path in step.rglob("*") if path.is_file()]


def empty_folder(step: Path) -> None:
    shutil.rmtree(step)
    step.mkdir()


def empty_files(step: Path) -> None:
    for path in files(step):
        path.write_bytes(b"")


def zeroed_files(step: Path) -> None:
    for path in files(step):
        path.write_bytes(bytes(path.stat().st_size))


def cut_files(step: Path) -> None:
    for path in files(step):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_record(step: Path) -> None:
    shutil.rmtree(step / "record")


def no_state(step: Path) -> None:
    shutil.rmtree(step / "state")


def zeroed_arrays(step: Path) -> None:
    for path in files(step / "state"):
        if path.parent.name == "d":
            path.write_bytes(bytes(path.stat().st_size))


def no_arrays(step: Path) -> None:
    for path in files(step / "state"):
        if path.parent.name == "d":
            path.unlink()


def record_of_another_kind(step: Path) -> None:
    for path in files(step / "record"):
        path.write_text("[]")


DAMAGES = [
    empty_folder, empty_files, zeroed_files, cut_files, no_record, no_state, zeroed_arrays,
    no_arrays, record_of_another_kind,
]  # fmt: skip


def save_two(directory: Path) -> None:
    with Checkpointer(directory) as writer:
        for step in (10, 20):
            writer.save(step, state(step), {"updates": step})


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_so_is_the_one_before(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    save_two(tmp_path)
    damage(tmp_path / "20")
    with Checkpointer(tmp_path, read_only=True) as reader:
        with pytest.raises(DamagedCheckpointError, match="20 is damaged .* from step 10") as caught:
            reader.restore(state(0.0))
        assert caught.value.step == 20 and "\n" not in str(caught.value)
        restored, host = reader.restore(state(0.0), 10)
    assert host == {"updates": 10}
    np.testing.assert_array_equal(restored["weights"], state(10)["weights"])


@pytest.mark.parametrize("damage", DAMAGES[:2], ids=lambda damage: damage.__name__)
def test_a_checkpoint_put_aside_makes_room_for_its_successor(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoints"
    save_two(directory)
    damage(directory / "20")
    with Checkpointer(directory) as writer:
        assert writer.put_aside(20).is_dir()
        assert writer.latest_step() == 10
        writer.save(20, state(21.0), {"updates": 20})
        assert float(writer.restore(state(0.0))[0]["bias"][0]) == -21.0


def test_without_an_earlier_checkpoint_another_workdir_is_the_way_out(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as writer:
        writer.save(5, state(5.0), {})
    no_record(tmp_path / "5")
    with (
        Checkpointer(tmp_path, read_only=True) as reader,
        pytest.raises(DamagedCheckpointError, match="no earlier one, so choose another --workdir"),
    ):
        reader.restore(state(0.0))

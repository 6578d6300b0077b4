"""Checkpoints: what is saved comes back, whatever happens to the process in between."""

import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.leaves import state_digest


class Pair(NamedTuple):
    first: Any
    second: Any


@flax.struct.dataclass
class Run:
    params: dict[str, Any]
    sources: tuple[Any, ...]
    updates: Any
    key: Any


def make_run(fill: float = 1.0, width: int = 4) -> Run:
    return Run(
        params={
            "dense/kernel [0]": jnp.arange(3.0 * width).reshape(3, width) * fill,
            "half": jnp.full((2,), fill, jnp.bfloat16),
            "empty": jnp.zeros((0, 3)),
        },
        sources=(Pair(jnp.full((2, 2), fill), np.arange(5, dtype=np.int64)), ()),
        updates=jnp.asarray(int(fill), jnp.int32),
        key=Pair(jax.random.key(7), jax.random.split(jax.random.key(8, impl="rbg"), 3)),
    )


def test_round_trip_keeps_values_types_and_keys(tmp_path: Path) -> None:
    run = make_run(3.0)
    with Checkpointer(tmp_path) as writer:
        assert writer.save(3, run, {"env_steps": 12, "replay": ["a", "b"]})
    with Checkpointer(tmp_path) as reader:
        restored, host = reader.restore(make_run(0.0))
    assert host == {"env_steps": 12, "replay": ["a", "b"]}
    assert isinstance(restored, Run) and isinstance(restored.sources[0], Pair)
    assert isinstance(restored.sources[0].second, np.ndarray)
    assert restored.sources[0].second.dtype == np.int64
    assert restored.params["half"].dtype == jnp.bfloat16
    assert restored.params["empty"].shape == (0, 3)
    np.testing.assert_array_equal(
        restored.params["dense/kernel [0]"], np.arange(12.0).reshape(3, 4) * 3
    )
    assert state_digest(restored) == state_digest(run) != state_digest(make_run(0.0))
    # The keys draw what the old ones would have drawn.
    np.testing.assert_array_equal(
        jax.random.uniform(restored.key.first, (2,)), jax.random.uniform(jax.random.key(7), (2,))
    )
    assert restored.key.second.dtype == run.key.second.dtype


def test_restores_into_shapes_without_arrays_and_into_numbers(tmp_path: Path) -> None:
    state = {"x": jnp.ones((2,)), "key": jax.random.key(1), "count": 5, "rate": 0.25}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {})
        shapes = jax.eval_shape(lambda: {"x": jnp.zeros((2,)), "key": jax.random.key(0)})
        restored, _ = checkpointer.restore({**shapes, "count": 0, "rate": 0.0})
    assert restored["count"] == 5 and type(restored["count"]) is int
    assert restored["rate"] == 0.25 and type(restored["rate"]) is float
    assert isinstance(restored["x"], jax.Array)
    assert state_digest(restored) == state_digest(state)


def test_buffers_may_be_donated_right_after_save(tmp_path: Path) -> None:
    overwrite = jax.jit(
        lambda state: jax.tree.map(lambda leaf: leaf * 0 - 1, state), donate_argnums=0
    )
    with Checkpointer(tmp_path) as checkpointer:
        for step in range(1, 6):
            state = {"w": jnp.full((300, 300), float(step)), "b": jnp.full((1000,), step)}
            jax.block_until_ready(state)
            checkpointer.save(step, state, {})
            jax.block_until_ready(overwrite(state))
            assert state["w"].is_deleted()
            restored, _ = checkpointer.restore(
                {"w": np.zeros((300, 300), np.float32), "b": np.zeros((1000,), np.int32)}, step
            )
            assert (restored["w"] == step).all() and (restored["b"] == step).all()


def test_numpy_leaves_and_host_record_may_change_right_after_save(tmp_path: Path) -> None:
    table, host = np.ones((200_000,)), {"replay": ["a"]}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"table": table}, host)
        table[:] = 9.0
        host["replay"].append("b")
        restored, record = checkpointer.restore({"table": table})
    assert (restored["table"] == 1.0).all()
    assert record == {"replay": ["a"]}


def test_keeps_the_latest_and_the_best(tmp_path: Path) -> None:
    scores = {1: 0.5, 2: 7.0, 3: None, 4: 7.0, 5: 6.0, 6: None, 7: None}
    kept_after = {}
    with Checkpointer(tmp_path, keep=2) as checkpointer:
        assert checkpointer.latest_step() is None and checkpointer.best_step() is None
        for step, score in scores.items():
            if score is not None:
                checkpointer.rate(step, score)
            checkpointer.save(step, {"x": jnp.asarray(step)}, {"step": step})
            checkpointer.wait()
            kept_after[step] = sorted(int(p.name) for p in tmp_path.iterdir() if p.is_dir())
        assert checkpointer.best_step() == 4  # the later of two equals
    # 2 is the best until 4 equals it; without a score a step never displaces the best.
    assert kept_after == {
        1: [1],
        2: [1, 2],
        3: [2, 3],
        4: [3, 4],
        5: [4, 5],
        6: [4, 5, 6],
        7: [4, 6, 7],
    }
    with Checkpointer(tmp_path, keep=2) as again:
        assert (again.latest_step(), again.best_step()) == (7, 4)
        assert again.restore({"x": jnp.asarray(0)}, again.best_step())[1] == {"step": 4}


def test_a_score_may_come_after_its_checkpoint(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        for step in (1, 2, 3, 4):
            checkpointer.save(step, {"x": jnp.asarray(step)}, {})
            if step == 2:
                checkpointer.rate(2, 1.0)
        assert checkpointer.steps() == [2, 4] and checkpointer.best_step() == 2
    with Checkpointer(tmp_path, read_only=True) as again:
        assert again.best_step() == 2


def test_without_scores_there_is_no_best(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, keep=1) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, {"x": jnp.asarray(step)}, {})
        assert checkpointer.best_step() is None
        assert [p.name for p in tmp_path.iterdir()] == ["3"]


def test_a_step_saved_twice_is_written_once_and_earlier_ones_are_refused(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.save(5, {"x": jnp.asarray(1)}, {})
        assert not checkpointer.save(5, {"x": jnp.asarray(2)}, {})
        with pytest.raises(ValueError, match="Step 4 lies before the latest checkpoint, 5"):
            checkpointer.save(4, {"x": jnp.asarray(1)}, {})
        with pytest.raises(ValueError, match="score of step 6 is nan"):
            checkpointer.rate(6, float("nan"))
        with pytest.raises(ValueError, match="host record of step 6 does not fit JSON"):
            checkpointer.save(6, {"x": jnp.asarray(1)}, {"bad": np.zeros(2)})
        assert checkpointer.restore({"x": jnp.asarray(0)})[0]["x"] == 1


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (make_run(width=8), r"kernel \[0\]'\] is float32\[3, 4\] there and float32\[3, 8\] here;"),
        (make_run().replace(updates=jnp.float32(1)), r"updates is int32\[\] there and float32\[\]"),
        (
            make_run().replace(key=Pair(1, 2)),
            r"is key<fry>\[\] there .* \(and 1 more such leaves\)",
        ),
        (
            make_run().replace(sources=((), ())),
            r"\.sources\[0\]\.first is .* there and absent here",
        ),
        (
            make_run().replace(params={"w": jnp.ones(2)}),
            r"params\['w'\] is absent there and float32",
        ),
    ],
)
def test_another_configuration_is_refused_in_one_sentence(
    tmp_path: Path, template: Run, words: str
) -> None:
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(9, make_run(), {})
        with pytest.raises(ValueError, match=words) as caught:
            checkpointer.restore(template)
    assert str(tmp_path / "9") in str(caught.value) and "\n" not in str(caught.value)


def test_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with Checkpointer(tmp_path / "none", read_only=True) as reader:
        assert reader.latest_step() is None
        with pytest.raises(FileNotFoundError, match="No checkpoint in .*none"):
            reader.restore({})
        with pytest.raises(ValueError, match="opened to read"):
            reader.save(1, {"x": jnp.ones(1)}, {})
    assert not (tmp_path / "none").exists()
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(2, {"x": jnp.ones(1)}, {})
        with pytest.raises(FileNotFoundError, match="of step 1 in .*: it has 2"):
            checkpointer.restore({"x": jnp.ones(1)}, 1)
    with pytest.raises(ValueError, match="keep is 0"):
        Checkpointer(tmp_path, keep=0)


def test_a_reader_leaves_the_save_of_another_process_alone(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"x": jnp.ones(1)}, {})
    under_way = tmp_path / "2.orbax-checkpoint-tmp"
    under_way.mkdir()
    with Checkpointer(tmp_path, read_only=True) as reader:
        assert reader.latest_step() == 1
    assert under_way.exists()
    with Checkpointer(tmp_path) as writer:
        assert writer.latest_step() == 1
        writer.save(2, {"x": jnp.ones(1)}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_devices_and_layout_change_neither_digest_nor_restore(tmp_path: Path) -> None:
    devices = jax.devices()
    assert len(devices) == 2, "tests run on two forced CPU devices (conftest.py)"
    mesh = Mesh(np.array(devices), ("devices",))
    plain = {"x": jnp.arange(8.0).reshape(4, 2), "key": jax.random.key(3)}
    whole = jax.device_put(plain, NamedSharding(mesh, PartitionSpec()))
    split = {
        **whole,
        "x": jax.device_put(plain["x"], NamedSharding(mesh, PartitionSpec("devices"))),
    }
    assert state_digest(plain) == state_digest(whole) == state_digest(split)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, plain, {})
        restored, _ = checkpointer.restore(split)
        assert restored["x"].sharding == split["x"].sharding
        assert len(restored["key"].sharding.device_set) == 2
        assert state_digest(restored) == state_digest(plain)
        checkpointer.save(2, split, {})
        back, _ = checkpointer.restore(plain)
    assert back["x"].devices() == plain["x"].devices() and not back["x"].committed
    assert state_digest(back) == state_digest(plain)


def test_a_restored_state_compiles_nothing_again(tmp_path: Path) -> None:
    traces = []

    @jax.jit
    def update(state: dict[str, jax.Array]) -> dict[str, jax.Array]:
        traces.append(1)
        return jax.tree.map(lambda leaf: leaf + 1, state)

    state = update({"x": jnp.zeros((3,)), "n": jnp.zeros((), jnp.int32)})
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state, {})
        restored, _ = checkpointer.restore(state)
    size = update._cache_size()
    update(restored)
    assert len(traces) == 1 and update._cache_size() == size


def test_digest_sees_every_kind_of_difference() -> None:
    base = {"a": jnp.zeros((2, 3)), "b": Pair(jax.random.key(1), 2)}
    variants = [
        base,
        {**base, "a": jnp.zeros((3, 2))},
        {**base, "a": jnp.zeros((2, 3), jnp.int32)},
        {**base, "a": jnp.zeros((2, 3)).at[1, 2].set(1e-30)},
        {**base, "b": Pair(jax.random.key(2), 2)},
        {**base, "b": Pair(jax.random.key_data(jax.random.key(1)), 2)},
        {**base, "b": Pair(jax.random.key(1), 3)},
        {"c": base["a"], "b": base["b"]},
        {**base, "b": {"first": base["b"].first, "second": 2}},
    ]
    assert len({state_digest(variant) for variant in variants}) == len(variants)
    copy = {"b": Pair(jax.random.key(1), 2), "a": np.zeros((2, 3), np.float32, order="F")}
    assert state_digest(copy) == state_digest(base)


TRAINER = """
    import sys
    import numpy as np
    from coworld_jax.records.checkpoint import Checkpointer

    checkpointer = Checkpointer(sys.argv[1], keep=2)
    template = [np.zeros((400, 100), np.float32) for _ in range(20)]
    step = checkpointer.latest_step() or 0
    if step:
        restored, host = checkpointer.restore(template)
        assert host == {"updates": step} and all((leaf == step).all() for leaf in restored)
    print("ready", step, flush=True)
    while True:
        step += 1
        state = [np.full((400, 100), step, np.float32) for _ in range(20)]
        checkpointer.rate(step, float(step % 7))
        checkpointer.save(step, state, {"updates": step})
        print("begun", step, flush=True)
"""


def test_a_run_killed_in_the_middle_of_saves_always_restores(tmp_path: Path) -> None:
    directory, chance = tmp_path / "checkpoints", random.Random(0)
    begun, torn = 0, 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(TRAINER), str(directory)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert child.stdout is not None and child.stderr is not None
        words = child.stdout.readline().split()
        assert words and words[0] == "ready", child.stderr.read()
        # A save waits for the one before: all but the last that was begun are complete.
        assert begun - 1 <= int(words[1]) <= begun + 1
        for _ in range(chance.randint(1, 4)):
            begun = int(child.stdout.readline().split()[1])
        time.sleep(chance.uniform(0.0, 0.08))
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate(timeout=30)
        *whole, _ = rest.split("\n")  # the kill may cut the last line
        begun = max([begun, *(int(line.split()[1]) for line in whole)])
        assert child.returncode == -signal.SIGKILL
        torn += any(not path.name.isdigit() for path in directory.iterdir())
    assert torn, "no kill met a save: this test has shown nothing"
    with Checkpointer(directory, keep=2) as checkpointer:
        step = checkpointer.latest_step()
        assert step is not None and begun - 1 <= step <= begun + 1
        template = [np.zeros((400, 100), np.float32) for _ in range(20)]
        for each in {step, checkpointer.best_step()}:
            restored, host = checkpointer.restore(template, each)
            assert host == {"updates": each} and all((leaf == each).all() for leaf in restored)

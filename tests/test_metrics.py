"""The record of a run survives a kill, and every mirror gets the same numbers."""

import io
import json
import math
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax.records import metrics
from coworld_jax.records.metrics import MetricsWriter, read_metrics
from coworld_jax.records.progress import Progress, SeedProgress, format_duration


def test_lines_hold_counters_and_values(tmp_path: Path) -> None:
    before = time.time()
    with MetricsWriter(tmp_path / "run") as writer:
        writer.write(50, 1000, {"target/model/kl": 0.5, "eta": np.float32(0.25)})
        writer.write(100, 2000, {"target/model/kl": jnp.asarray(1.5)})
        # Before the writer is closed: another process can follow the file.
        first, second = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert before - 1 <= first.pop("wall_time") <= second.pop("wall_time") <= time.time() + 1
    assert first == {"updates": 50, "env_steps": 1000, "target/model/kl": 0.5, "eta": 0.25}
    assert second == {"updates": 100, "env_steps": 2000, "target/model/kl": 1.5}


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(1, 2, {"a": math.nan, "b": -math.inf, "c": jnp.inf, "d": 3.0})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    record = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert [record[name] for name in "abcd"] == [None, None, None, 3.0]


def test_counters_cannot_be_overwritten(tmp_path: Path) -> None:
    writer = MetricsWriter(tmp_path)
    with writer, pytest.raises(ValueError, match="cannot be called 'env_steps'"):
        writer.write(1, 2, {"env_steps": 3.0})
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_resume_drops_a_torn_line_and_what_lies_beyond_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(tmp_path) as writer:
        for updates in (10, 20, 20, 30, 40):
            writer.write(updates, updates * 5, {"loss": updates / 10})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"updates": 50, "env_st')
    assert [record["updates"] for record in read_metrics(path)] == [10, 20, 20, 30, 40]
    with MetricsWriter(tmp_path) as writer:
        assert path.read_bytes() == whole
        assert writer.truncate(20) == 2
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
        writer.write(30, 150, {"loss": 7.0})
        assert writer.truncate(1000) == 0
        writer.write(40, 200, {"loss": 8.0})
    assert [(r["updates"], r["loss"]) for r in read_metrics(path)] == [
        (10, 1.0),
        (20, 2.0),
        (20, 2.0),
        (30, 7.0),
        (40, 8.0),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_lines_of_the_checkpoints_own_update_that_came_after_it_go_too(tmp_path: Path) -> None:
    with MetricsWriter(tmp_path) as writer:
        writer.write(10, 0, {"loss": 1.0})
        lines = writer.lines
        writer.write(10, 5, {"collection": 2.0})
        writer.write(20, 5, {"loss": 3.0})
    with MetricsWriter(tmp_path) as writer:
        assert writer.lines == 3 and writer.truncate(10, lines) == 2 and writer.lines == 1
        writer.write(10, 5, {"collection": 2.0})
        assert writer.lines == 2
    assert [record["updates"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [10, 10]


def test_a_kill_during_truncate_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = MetricsWriter(tmp_path)
    for updates in (1, 2, 3):
        writer.write(updates, 0, {})
    whole = (tmp_path / "metrics.jsonl").read_bytes()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(metrics.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.truncate(1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    monkeypatch.undo()
    with MetricsWriter(tmp_path) as again:
        assert again.truncate(1) == 2
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


@pytest.mark.parametrize(
    ("line", "words"), [("{oops", "line 2 is no JSON"), ('{"a": 1}', "line 2 has no 'updates'")]
)
def test_damage_elsewhere_than_at_the_end_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"updates": 1}\n' + line + '\n{"updates": 3}\n')
    with pytest.raises(ValueError, match=words):
        MetricsWriter(tmp_path)
    assert path.read_text().count("\n") == 3


def test_lines_survive_sigkill(tmp_path: Path) -> None:
    program = """
        import sys
        from coworld_jax.records.metrics import MetricsWriter

        writer, updates = MetricsWriter(sys.argv[1]), 0
        while True:
            updates += 1
            writer.write(updates, updates, {f"metric/{i}": i / 7 for i in range(100)})
            print(updates, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert child.stdout is not None
    for _ in range(200):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    confirmed = 200 + child.stdout.read().count("\n")  # communicate() forgets what was buffered
    child.wait(timeout=30)
    with MetricsWriter(tmp_path) as writer:
        records = read_metrics(tmp_path / "metrics.jsonl")
        assert confirmed <= len(records) <= confirmed + 1
        assert all(record["metric/99"] == 99 / 7 for record in records)
        assert [record["updates"] for record in records] == list(range(1, len(records) + 1))
        writer.truncate(100)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 100


@pytest.mark.parametrize(
    ("options", "module", "extra"),
    [
        ({"tensorboard": True}, "tensorboardX", "tensorboard"),
        ({"wandb_project": "coworld"}, "wandb", "wandb"),
    ],
)
def test_a_missing_mirror_is_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    module: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        MetricsWriter(tmp_path / "run", **options)
    text = str(caught.value)
    assert module in text and f"'.[{extra}]'" in text and "\n" not in text
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_finite_values_and_hides_what_was_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, directory: str, purge_step: int | None, filename_suffix: str) -> None:
            log.append(("open", Path(directory).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            log.append((name, value, step))

        def flush(self) -> None:
            log.append(("flush",))

        def close(self) -> None:
            log.append(("close",))

    module = ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with MetricsWriter(tmp_path, tensorboard=True) as writer:
        writer.write(5, 9, {"a": 1.0, "b": math.nan})
        writer.truncate(4)
    assert log == [
        ("open", "tensorboard", None),
        ("a", 1.0, 5),
        ("flush",),
        ("close",),
        ("open", "tensorboard", 5),
        ("close",),
    ]


def test_tensorboard_files_are_real(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")
    with MetricsWriter(tmp_path, tensorboard=True) as writer:
        writer.write(5, 9, {"source/model/kl": 1.0})
        writer.truncate(4)
        writer.write(5, 9, {"source/model/kl": 2.0})
    first, second = sorted((tmp_path / "tensorboard").iterdir())
    assert b"source/model/kl" in first.read_bytes() and b"source/model/kl" in second.read_bytes()


def test_wandb_goes_on_under_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, logged = [], []
    run = SimpleNamespace(
        define_metric=lambda *names, **options: logged.append((names, options)),
        log=logged.append,
        finish=lambda: logged.append("finish"),
    )
    module = ModuleType("wandb")
    module.init = lambda **options: begun.append(options) or run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    for updates in (1, 2):
        with MetricsWriter(tmp_path, wandb_project="duo", config={"seed": 3}) as writer:
            writer.write(updates, 7, {"loss": 0.5, "bad": math.inf})
    assert begun[0] == begun[1]
    assert begun[0]["project"] == "duo" and begun[0]["config"] == {"seed": 3}
    assert begun[0]["resume"] == "allow" and len(begun[0]["id"]) == 12
    assert begun[0]["reinit"] == "create_new"  # the writers of many seeds are open side by side
    assert logged[:3] == [
        (("*",), {"step_metric": "updates"}),
        {"updates": 1, "env_steps": 7, "loss": 0.5},
        "finish",
    ]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_writes_plain_lines_at_most_every_interval() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1000, stream=stream, clock=clock)
    for second in range(26):
        clock.now = 100.0 + second
        values = {"return": 41.0} if second == 3 else {"kl": second / 10}
        progress.update("pretrain", 100 + 4 * second, 50 * second, values)
    progress.message("saved")
    progress.close()
    # At 25 s: 100 updates in 25 s leave 800 at 4 a second, 200 s.
    assert stream.getvalue().splitlines() == [
        "pretrain 100/1000 | kl 0",
        "pretrain 140/1000 | 4.0 updates/s | 50 env_steps/s | kl 1 | return 41 | 3m35s left",
        "pretrain 180/1000 | 4.0 updates/s | 50 env_steps/s | kl 2 | return 41 | 3m25s left",
        "saved",
        "pretrain 200/1000 | 4.0 updates/s | 50 env_steps/s | kl 2.5 | return 41 | 3m20s left",
    ]


def test_progress_rates_forget_and_time_left_remembers() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(1400, stream=stream, clock=clock)
    for second in range(0, 201, 10):
        clock.now = 100.0 + second
        # 10 updates a second for 100 s, then 1 a second.
        progress.update("joint", min(10 * second, 900 + second), 0, {})
    # 1100 updates in 200 s: the 300 that are left take 300 / 5.5 = 55 s.
    assert stream.getvalue().splitlines()[-1] == (
        "joint 1100/1400 | 1.0 updates/s | 0 env_steps/s | 55s left"
    )


def test_updates_of_one_program_count_as_one() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(2000, stream=stream, clock=clock)
    for stretch in range(1, 4):
        clock.now = 100.0 + 100.0 * stretch
        with progress.at_once():
            for chunk in range(1, 6):
                progress.update("learn", 500 * (stretch - 1) + 100 * chunk, 0, {})
    assert stream.getvalue().splitlines() == [
        "learn 500/2000",
        "learn 1000/2000 | 5.0 updates/s | 0 env_steps/s | 3m20s left",
        "learn 1500/2000 | 5.0 updates/s | 0 env_steps/s | 1m40s left",
    ]


def test_seeds_show_the_sums_of_their_updates_and_env_steps() -> None:
    stream, clock = io.StringIO(), Clock()
    shared = Progress(4000, stream=stream, clock=clock)
    counts: dict[int, tuple[int, int]] = {}
    seeds = [SeedProgress(shared, seed, counts) for seed in range(4)]
    for second in (0, 10):
        clock.now = 100.0 + second
        with shared.at_once():
            for seed in seeds:
                seed.update("learn", 20 * second, 10 * second, {})
    # Four seeds make 20 updates and 10 env_steps a second each.
    assert (
        stream.getvalue()
        .splitlines()[-1]
        .startswith("learn, seed 3 800/4000 | 80.0 updates/s | 40 env_steps/s")
    )


def test_progress_lives_on_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream, clock = Terminal(), Clock()
    progress = Progress(10, stream=stream, clock=clock)
    progress.update("source", 1, 0, {"a_long_name_of_a_loss": 1.0})
    clock.now += 0.1
    progress.update("source", 2, 0, {})  # too soon to be drawn
    clock.now += 0.2
    progress.update("source", 4, 0, {})
    progress.message("saved")
    progress.close()
    first, second, third = stream.getvalue().split("\r")[1:4]
    assert first == "source 1/10 | a_long_name_of_\x1b[K" and len(first) == 29 + 3
    assert second == "source 4/10 | 10.0 updates/s \x1b[K"
    assert third == "\x1b[Ksaved\n"
    assert stream.getvalue().endswith("\r" + second + "\n")
    assert stream.getvalue().count("\n") == 2


def test_durations_read_as_people_say_them() -> None:
    assert [format_duration(s) for s in (0.4, 59.4, 60, 3599, 3600, 11_220)] == [
        "0s",
        "59s",
        "1m00s",
        "59m59s",
        "1h00m",
        "3h07m",
    ]

"""Studies: their plans, their commands, and a tiny one from nothing to its page."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_study import TINY, collected, made_tiny

from coworld_jax.config import flatten, override
from experiments.config_flags import normalise
from experiments.studying import running
from experiments.studying.commands import as_line, beginning_command, train_command
from experiments.studying.lengths import check_lengths
from experiments.studying.published import notes, published, published_rows
from experiments.studying.report import write_report
from experiments.studying.results import (
    read_results,
)
from experiments.studying.strips import read_frames
from experiments.studying.study import (
    Arm,
    find_study,
    runs_of,
    shared_beginnings,
    study_names,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", study_names())
def test_each_study_can_be_planned_and_its_commands_are_accepted(name, tmp_path):
    study = find_study(name)
    plan = running.make_plan(study, tmp_path)
    assert plan.missing == plan.runs
    assert len({run.place for run in plan.runs}) == len(plan.runs)
    assert {run.arm for run in plan.runs} == {arm.name for arm in study.arms}
    assert not study.baseline or study.baseline_arm.name == study.baseline
    assert not study.ratio or study.ratio in {arm.name for arm in study.arms}
    for run in plan.runs:
        if run.seed == 0:
            normalise(train_command(tmp_path, run)[2:])  # an unknown flag is refused


def test_every_published_row_of_a_table_is_reached_by_an_arm():
    reached: dict[str, set[str]] = {}
    for name in study_names():
        study = find_study(name)
        if study.table:
            found = {
                arm.published or arm.name
                for arm in study.arms
                for pair in study.pairs
                if published(study.table, arm, pair.name) is not None
            }
            reached.setdefault(study.table, set()).update(found)
    assert {table: set(published_rows(table)) - rows for table, rows in reached.items()} == {
        table: {"R3M (expert data)"} if table == "table_11" else set() for table in reached
    }  # R3M's own demonstrations are not among our datasets


def test_the_shared_phases_of_arms_are_trained_by_a_command_that_all_of_them_accept(tmp_path):
    run = list(runs_of(find_study("planar_ablation")))[1]
    place, wanted = run.beginning
    command = beginning_command(tmp_path, run, place)
    normalise(command[2:])
    given = [argument.removeprefix("--config.") for argument in command if "--config." in argument]
    made = override(run.config, [text for text in given if not text.startswith("data=")])
    assert flatten(made) == flatten(wanted)
    assert wanted.run.last_phase == "pretrain" and wanted.settings.coupling.state_alignment


def test_a_command_trains_what_the_plan_says():
    run = next(runs_of(find_study("figure_5a")))
    line = as_line(train_command(Path("root"), run))
    program, *arguments = shlex.split(line)
    assert program == "python"
    assert arguments == [
        "-m",
        "experiments.train",
        "--config=experiments/configs/robodesk.py:push_green,paper,coworld",
        "--config.seed=0",
        "--config.data=root/data/robodesk_push_green-medium-paper",
        "--workdir=root/runs/push_green-medium-paper/coworld/seed_0",
    ]


def test_a_source_that_is_the_target_is_left_out():
    runs = [run for run in runs_of(find_study("figure_3")) if run.seed == 0]
    assert len(runs) == 6 * 6 + 6  # Offline DV2, five single sources and several, by target
    assert all(run.config.target not in run.config.source for run in runs)


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="planar_transfer"):
        find_study("planar_transfr")


def test_the_paper_averages_that_its_rows_do_not_give_are_named():
    text = " ".join(notes("table_2") + notes("table_3"))
    for wrong, right in (("1712", "2209.8"), ("3781", "3482.8"), ("355", "317.5")):
        assert wrong in text and right in text


def test_an_arm_may_have_fewer_seeds_than_its_study():
    study = find_study("planar_transfer")
    few = {run.seed for run in runs_of(study) if run.arm == "bc"}
    assert few == set(range(10)) and {run.seed for run in runs_of(study)} == set(range(20))
    one = study._replace(seeds=1)
    assert {run.seed for run in runs_of(one)} == {0} and one.seeds_of("bc") == 1


def test_pairs_of_other_data_or_sizes_have_other_workdirs():
    medium, expert = find_study("planar_transfer"), find_study("baselines")
    of = [
        {run.place for run in runs_of(study)}
        for study in (medium, expert, medium._replace(size="small"))
    ]
    assert not (of[0] & of[1]) and not (of[0] & of[2])


def _start(root: Path) -> subprocess.Popen[str]:
    """`carry_out` of `TINY` in a process of its own, which signals can reach."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "import tiny_study\n"
        "from experiments.studying.running import carry_out\n"
        f"failed = carry_out(tiny_study.TINY, Path({str(root)!r}), 2)\n"
        "sys.exit(str(failed) if failed else 0)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def test_a_tiny_study_runs_is_stopped_goes_on_and_is_reported(tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    collected(root, TINY)
    stopped = _start(root)
    while not list(root.glob("runs/**/checkpoints")):
        assert stopped.poll() is None, stopped.stderr.read()
        time.sleep(0.1)
    stopped.send_signal(signal.SIGTERM)
    _, said = stopped.communicate(timeout=90)
    assert stopped.returncode != 0 and "Waiting for 2 processes to save" in said

    whole = _start(root)
    _, said = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    assert not running.make_plan(TINY, root).missing

    page, picture, results = write_report("tiny", TINY, root, out)
    records, data = read_results(results)
    assert [(r["arm"], r["seed"]) for r in records] == [
        ("Behaviour cloning", 0), ("Behaviour cloning", 1), ("online", 0)
    ]  # fmt: skip
    assert all(len(r["digest"]) == 64 and np.isfinite(r["return_mean"]) for r in records)
    assert len({r["data_digest"] for r in records}) == 2  # one dataset, and none
    text = page.read_text()
    assert "3 of 3 runs are finished" in text and "| Behaviour cloning |" in text
    assert "| planar_reach_downhill-medium-planar |" in text and "0, 1 | 2 |" in text
    assert picture.stat().st_size > 10_000
    assert list(data) == ["planar_reach_downhill-medium-planar"]
    # A second report from the records alone says the same, and keeps what it knew of the data.
    write_report("tiny", TINY, tmp_path / "nothing", out)
    assert page.read_text() == text
    assert read_results(results)[1] == data

    # Below another root, the runs of the report count as finished, but none of other settings.
    other = tmp_path / "other"
    assert len(running.make_plan(TINY, other).missing) == 3
    plan = running.make_plan(TINY, other, results)
    assert not plan.missing and not plan.to_collect and min(plan.seconds.values()) > 0.0
    assert running.carry_out(TINY, other, 1, together=True, reported=results) == {}
    assert not other.exists()
    arms = tuple(arm._replace(settings=(*arm.settings, "learning.batch=3")) for arm in TINY.arms)
    assert len(running.make_plan(TINY._replace(arms=arms), other, results).missing) == 3
    with pytest.raises(ValueError, match="There is no report .*tiny.json"):
        running.make_plan(TINY, other, tmp_path / "tiny.json")


@pytest.mark.slow  # two programs of two seeds
def test_the_seeds_of_an_arm_can_be_trained_in_one_process(tmp_path):
    study = TINY._replace(arms=tuple(arm._replace(seeds=2) for arm in TINY.arms))
    collected(tmp_path, study)
    assert not running.carry_out(study, tmp_path, 2, together=True)
    plan = running.make_plan(study, tmp_path)
    assert not plan.missing
    assert {run.seed for run in plan.finished} == {0, 1}
    assert (tmp_path / "runs/reach_downhill-medium-planar/online/summary.json").exists()


def test_a_run_of_other_settings_is_not_taken_for_one_of_the_study(tmp_path):
    run = next(runs_of(TINY))
    place = tmp_path / run.place
    place.mkdir(parents=True)
    other = flatten(run.config) | {"seed": 5, "source": list(run.config.source)}
    (place / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="another configuration"):
        running.make_plan(TINY, tmp_path)


def test_a_failed_run_is_named_and_the_others_are_done(tmp_path):
    def job(name: str, code: str) -> running.Job:
        return running.Job(name, [sys.executable, "-c", code], tmp_path / name / "log.txt")

    jobs = [job("good", "print('well')"), job("bad", "raise SystemExit('no such file')")]
    failed = running._do(jobs, 2, lambda: "")
    assert failed == {"bad": tmp_path / "bad" / "log.txt"}
    assert "no such file" in failed["bad"].read_text()
    assert "well" in jobs[0].log.read_text()


def test_jobs_of_one_workdir_follow_each_other(tmp_path):
    program = (
        "import os, sys, time; os.mkdir('busy'); time.sleep(0.3); os.rmdir('busy'); print(sys.argv)"
    )
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {program}"]
    jobs = [running.Job(name, command, tmp_path / "log.txt") for name in ("medium", "expert")]
    assert running._do(jobs, 2, lambda: "") == {}  # side by side, the second mkdir would fail


def test_the_frames_of_a_rollout_keep_their_times(tmp_path):
    from coworld_jax.evaluation.pictures import write_gif

    levels = np.repeat(np.array([0, 0, 100, 200, 200, 200], np.uint8), 16 * 32 * 3)
    film = levels.reshape(6, 16, 32, 3)  # two episodes in a row
    write_gif(tmp_path / "a.gif", film)
    frames = read_frames(tmp_path / "a.gif")
    assert [int(frame[0, 0, 0]) for frame in frames] == [0, 0, 100, 200, 200, 200]
    assert frames[0].shape == (16, 16, 3)


def test_arms_of_one_seed_share_what_they_do_alike():
    runs = list(runs_of(find_study("planar_ablation")))
    shared = shared_beginnings(runs)
    assert sorted(len(sharing) for sharing in shared.values()) == [5] * 20
    assert len({run.seed for run in next(iter(shared.values()))}) == 1
    # Other sources are pretrained otherwise, and other methods share nothing.
    assert not shared_beginnings(list(runs_of(find_study("planar_selection"))))
    assert not shared_beginnings(list(runs_of(find_study("baselines"))))


PLANAR = [name for name in study_names() if name.startswith("planar")]


@pytest.mark.parametrize("name", [*PLANAR, "baselines"])
def test_the_studies_on_planar_tasks_play_whole_episodes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the weights that an arm of baselines names are missing
    check_lengths(list(runs_of(find_study(name))))


def test_a_study_whose_phase_ends_within_an_episode_is_refused_before_anything_starts(tmp_path):
    study = find_study("planar_transfer")
    arms = (Arm("finetune", "finetune", ("source_updates=2250",)),)
    with pytest.raises(
        ValueError, match="Arm finetune on reach_downhill: .* multiple of 20 updates"
    ):
        running.carry_out(study._replace(arms=arms), tmp_path, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", study_names())
def test_each_study_runs_at_a_tiny_size(name, tmp_path):
    study = made_tiny(find_study(name))
    collected(tmp_path, study)
    failed = running.carry_out(study, tmp_path, 2)
    assert not failed, [log.read_text()[-2000:] for log in failed.values()]
    begun = list(tmp_path.glob("beginnings/*/*/seed_0/summary.json"))
    assert len(begun) == len(shared_beginnings(list(runs_of(study))))
    for path in write_report(name, study, tmp_path, tmp_path / "out"):
        assert path.stat().st_size > 0

"""The processes of a study: a tiny one from nothing to its page, stopped, killed and gone on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_study import ROOT, TINY, collected

from coworld_jax.data import read_json
from coworld_jax.records.files import lock, write_config
from experiments.studying import running
from experiments.studying.child import bound
from experiments.studying.processes import Job, carry_out_jobs
from experiments.studying.report import write_report
from experiments.studying.results import read_results
from experiments.studying.study import runs_of

INTERRUPTED = TINY._replace(seeds=1)


def start(root: Path, study: str) -> subprocess.Popen[str]:
    """`carry_out` in a process of its own, which signals can reach.

    Args:
        study: its name in this module.
    """
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "import test_study_running as tests\n"
        f"failed = tests.running.carry_out(tests.{study}, Path({str(root)!r}), 2)\n"
        "sys.exit(str(failed) if failed else 0)"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def stopped_by(number: int, root: Path) -> str:
    """What `INTERRUPTED` says below ``root`` when a signal ends it after the first checkpoint."""
    process = start(root, "INTERRUPTED")
    while not list(root.glob("runs/**/checkpoints/*/commit_success.txt")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=90)
    assert process.returncode != 0
    assert running.make_plan(INTERRUPTED, root).missing
    return said


def finished(root: Path, study: str) -> str:
    """What a study says below ``root`` until it has ended."""
    process = start(root, study)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def digests(root: Path) -> dict[Path, str]:
    """By place, the SHA-256 of what each run of `INTERRUPTED` has learnt."""
    places = [run.place for run in runs_of(INTERRUPTED)]
    return {place: read_json(root / place / "summary.json")["state_digest"] for place in places}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, str]:
    """The root of `TINY`, carried out without interruption, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    collected(root, TINY)
    return root, finished(root, "TINY")


@pytest.fixture
def begun(whole, tmp_path) -> Path:
    """A root with the data of `whole` alone."""
    shutil.copytree(whole[0] / "data", tmp_path / "data")
    return tmp_path


def test_a_study_says_what_time_is_left_after_each_job(whole):
    done = [line for line in whole[1].splitlines() if ": done after" in line]
    assert [line.split("; ")[1] for line in done] == ["1 of 3", "2 of 3", "3 of 3"]
    assert all(line.endswith(" h of runs are left.") for line in done)


def test_a_stopped_study_goes_on_to_the_same_results(whole, begun):
    assert "Waiting for 2 processes to save" in stopped_by(signal.SIGTERM, begun)
    finished(begun, "INTERRUPTED")
    assert digests(begun) == digests(whole[0])


@pytest.mark.slow
def test_a_killed_study_goes_on_to_the_same_results(whole, begun):
    stopped_by(signal.SIGKILL, begun)
    finished(begun, "INTERRUPTED")  # nothing that was left behind keeps it from its workdirs
    assert digests(begun) == digests(whole[0])


def test_a_study_is_reported(whole, tmp_path):
    out = tmp_path / "out"
    page, picture, results = write_report("tiny", TINY, whole[0], out)
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


def test_arms_with_equal_settings_are_trained_once_and_both_are_reported(whole, tmp_path):
    again = TINY._replace(arms=(*TINY.arms, TINY.arms[0]._replace(name="again")))
    plan = running.make_plan(again, whole[0])
    assert len(plan.runs) == 5 and len(plan.distinct) == 3 and not plan.missing
    page, _, results = write_report("again", again, whole[0], tmp_path / "out")
    returns = {(r["arm"], r["seed"]): r["return_mean"] for r in read_results(results)[0]}
    assert len(returns) == 5 and returns["again", 1] == returns["Behaviour cloning", 1]
    text = page.read_text()
    assert "5 of 5 runs are finished" in text and "No run is missing" in text


def test_each_missing_run_has_a_reason(tmp_path):
    first, third, second = runs_of(TINY)
    (tmp_path / first.place).mkdir(parents=True)
    log = tmp_path / first.place / "log.txt"
    log.write_text("It failed.")
    (tmp_path / second.place.parent / "failures.json").write_text('{"1": "nan in update 3."}')
    reasons = running._unfinished(tmp_path, [first, second, third])
    assert reasons[str(first.place)] == f"see {log}"
    assert reasons[str(second.place)].startswith("nan in update 3. ")
    assert "keeps it from being tried again" in reasons[str(second.place)]
    assert reasons[str(third.place)] == "it waits for another one"


@pytest.mark.slow  # two programs of two seeds
def test_the_seeds_of_an_arm_can_be_trained_in_one_process(tmp_path):
    cloning, online = (arm._replace(seeds=2) for arm in TINY.arms)
    study = TINY._replace(arms=(cloning, online, online._replace(name="again", seeds=1)))
    collected(tmp_path, study)
    assert not running.carry_out(study, tmp_path, 2, together=True)
    plan = running.make_plan(study, tmp_path)
    assert not plan.missing
    assert {run.seed for run in plan.finished} == {0, 1}
    place = next(run.place for run in plan.runs if run.arm == "online")
    assert read_json(tmp_path / place.parent / "config.json")["run.seeds"] == 2


def test_seeds_that_another_study_trains_together_stay_together(tmp_path):
    run = next(runs_of(TINY))
    assert "--config.run.seeds=2" in running._joint(tmp_path, run, 2).command
    together = replace(run.config, run=replace(run.config.run, seeds=4))
    write_config(tmp_path / run.place.parent, together)
    assert "--config.run.seeds=4" in running._joint(tmp_path, run, 2).command


def test_a_process_ends_with_the_one_that_started_it_also_where_that_is_killed(tmp_path):
    """The child sleeps in another session, as the runs of a study do."""
    told = tmp_path / "id"
    child = f"import os, time; open({str(told)!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(60)"
    program = (
        "import subprocess, sys\n"
        "from experiments.studying.child import bound\n"
        f"command = bound([sys.executable, '-c', {child!r}])\n"
        "subprocess.Popen(command, start_new_session=True).wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    while not (told.exists() and told.read_text().endswith(".")):
        assert parent.poll() is None
        time.sleep(0.02)
    number = int(told.read_text()[:-1])
    os.kill(number, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10.0
    while is_running(number):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.02)


def is_running(number: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_process_whose_parent_is_gone_does_not_begin():
    command = bound([sys.executable, "-c", "print('begun')"])
    command[command.index(str(os.getpid()))] = "1"
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1 and "1 that started this one is gone" in ended.stderr
    assert not ended.stdout


def job(folder: Path, code: str) -> Job:
    """A job that runs Python, with its log in a folder."""
    return Job(folder.name, [sys.executable, "-c", code], folder / "log.txt")


def test_a_failed_run_is_named_and_the_others_are_done(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    jobs = [job(good, "print('well')"), job(bad, "raise SystemExit('no such file')")]
    assert carry_out_jobs(jobs, 2, lambda: "") == {"bad": bad / "log.txt"}
    assert "no such file" in (bad / "log.txt").read_text()
    assert "well" in (good / "log.txt").read_text()


def test_jobs_of_one_workdir_follow_each_other(tmp_path):
    code = f"import os, time; os.chdir({str(tmp_path)!r}); os.mkdir('busy'); time.sleep(0.3)"
    jobs = [job(tmp_path, f"{code}; os.rmdir('busy')")._replace(name=name) for name in "ab"]
    assert carry_out_jobs(jobs, 2, lambda: "") == {}  # side by side, the second mkdir would fail


def test_a_job_waits_for_the_process_that_trains_in_its_workdir(tmp_path, capfd):
    taken, free = tmp_path / "taken", tmp_path / "free"
    with ExitStack() as other:
        other.enter_context(lock(taken))

        def left() -> str:
            other.close()  # the other process ends when the free job has
            return "nothing"

        assert carry_out_jobs([job(taken, "pass"), job(free, "pass")], 1, left) == {}
    said = capfd.readouterr().err
    assert said.count(f"taken: waits, because another process is training in {taken}.") == 1
    assert said.index("free: done") < said.index("taken: started") < said.index("taken: done")

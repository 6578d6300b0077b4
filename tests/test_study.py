"""Studies: their plans and their commands, and a tiny run of each."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from tiny_study import ROOT, TINY, collected, made_tiny

from coworld_jax.config import flatten, override
from coworld_jax.data.metadata import write_metadata
from experiments.collecting.references import reference_return
from experiments.config_flags import normalise
from experiments.studying import running
from experiments.studying.commands import as_line, beginning_command, train_command
from experiments.studying.lengths import check_lengths
from experiments.studying.published import chosen_source, notes, published
from experiments.studying.report import write_report
from experiments.studying.strips import read_frames
from experiments.studying.study import (
    Arm,
    Study,
    distinct,
    find_study,
    runs_of,
    shared_beginnings,
    study_names,
)


@pytest.mark.parametrize("name", study_names())
def test_each_study_can_be_planned_and_its_commands_are_accepted(name, tmp_path):
    study = find_study(name)
    plan = running.make_plan(study, tmp_path)
    assert plan.missing == plan.runs  # no two arms are the same
    assert {run.arm for run in plan.runs} == {arm.name for arm in study.arms}
    assert not study.baseline or study.baseline_arm.name == study.baseline
    assert not study.ratio or study.ratio in {arm.name for arm in study.arms}
    for run in plan.runs:
        if run.seed == 0:
            normalise(train_command(tmp_path, run)[2:])  # an unknown flag is refused


@pytest.mark.parametrize("name", study_names())
def test_the_return_that_each_dataset_refers_to_is_known(name):
    for run in runs_of(find_study(name)):
        if run.data is not None:
            assert (run.data.best or reference_return(run.data.task)) > 0.0


def test_table_13_has_the_papers_choice_on_each_pair():
    for run in runs_of(find_study("table_13")):
        assert chosen_source(f"{run.pair}-multi") in run.config.source


def test_every_published_row_of_a_table_is_reached_by_an_arm():
    reached: dict[str, set[str]] = {}
    for name in study_names():
        study = find_study(name)
        if study.table:
            found = {
                arm.name
                for arm in study.arms
                for pair in study.pairs
                if published(study.table, arm, pair.name) is not None
            }
            reached.setdefault(study.table, set()).update(found)
    tables = json.loads((ROOT / "experiments/studying/published.json").read_text())
    unreached = {table: set(tables[table]["rows"]) - rows for table, rows in reached.items()}
    assert unreached == {
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
        f"--workdir=root/{run.place}",
    ]
    assert re.fullmatch(
        "runs/robodesk_push_green-medium-paper/coworld-[0-9a-f]{8}/seed_0", str(run.place)
    )


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
    assert few == set(range(5)) and {run.seed for run in runs_of(study)} == set(range(20))
    one = study._replace(seeds=1)
    assert {run.seed for run in runs_of(one)} == {0} and one.seeds_of("bc") == 1


def test_an_arm_may_take_longer_than_the_others_until_one_of_its_runs_is_finished(tmp_path):
    study = find_study("planar_transfer")
    plan = running.make_plan(study, tmp_path)
    run = next(run for run in plan.runs if run.arm == "drq_bc")
    assert running.minutes_by_arm(study, plan)["drq_bc"] == 13.0
    done = plan._replace(seconds={run.place: 120.0})
    minutes = running.minutes_by_arm(study, done)
    assert (minutes["drq_bc"], minutes["bc"], minutes["CoWorld"]) == (2.0, 13.0, 4.0)


def places(study: Study, *arms: str) -> set[Path]:
    """Workdirs of the runs of these arms, or of all."""
    return {run.place for run in runs_of(study) if not arms or run.arm in arms}


def test_a_study_may_leave_out_the_seeds_that_chose_its_pair():
    study = find_study("planar_ablation")
    of_coworld = [run for run in runs_of(study) if run.arm == "CoWorld"]
    assert [run.seed for run in of_coworld] == list(range(8, 28))
    shared = {run.place for run in runs_of(find_study("planar_transfer"))}
    assert [run.seed for run in of_coworld if run.place in shared] == list(range(8, 20))


def test_pairs_of_other_data_or_sizes_have_other_workdirs():
    (arm, *_), transfer = TINY.arms, find_study("planar_transfer")
    medium = transfer._replace(arms=(arm,))  # whose settings say nothing of the size
    expert = medium._replace(pairs=tuple(p._replace(until="expert") for p in medium.pairs))
    of = [places(study) for study in (medium, expert, medium._replace(size="small"))]
    assert len(set.union(*of)) == sum(map(len, of)) == 3 * 3 * 20


def test_studies_share_the_workdirs_of_equal_runs_under_whatever_name():
    alpha, transfer, selection = map(
        find_study, ("planar_alpha", "planar_transfer", "planar_selection")
    )
    shared = places(alpha, "CoWorld", "dreamer") & places(transfer, "CoWorld", "dreamer")
    assert len(shared) == 2 * 2 * len(range(8, 20))
    assert not places(alpha, "alpha 0.03") & places(transfer)
    assert places(selection, "reach") < places(transfer, "CoWorld")
    assert places(find_study("table_11"), "CoWorld") < places(
        find_study("table_2"), "CoWorld (Best-Source)"
    )
    # Table 4's pairs read the source's state, which an offline method never sees.
    offline = [places(find_study(name), "Offline DV2") for name in ("table_4", "figure_4")]
    assert len(offline[0] & offline[1]) == 6


def test_a_beginning_is_not_made_for_one_run_of_two_arms():
    study = find_study("planar_ablation")
    twice = study._replace(arms=(study.arms[0], study.arms[0]._replace(name="again")))
    assert not shared_beginnings(list(runs_of(twice)))
    assert [run.arm for run in distinct(list(runs_of(twice)))] == ["CoWorld"] * 20


def test_a_run_that_ends_earlier_is_another_run():
    (cloning, *_) = TINY.arms
    short = cloning._replace(name="short", settings=(*cloning.settings, "run.last_phase=learn"))
    whole, cut = runs_of(TINY._replace(arms=(cloning, short), seeds=1))
    assert whole.place != cut.place and whole.key != cut.key


@pytest.mark.parametrize(
    ("hours", "minutes", "said"),
    [
        (None, 8.0, "No budget was set."),
        (8.0, None, "8 h on 2 CPU cores; how long the runs take is unknown until"),
        (8.0, 8.0, "take 6.7 h there."),
        (6.0, 8.0, "take 6.7 h there, which exceeds the budget."),
    ],
)
def test_a_plan_compares_its_time_with_the_budget(hours, minutes, said, tmp_path):
    study = find_study("planar_ablation")._replace(hours=hours, minutes=minutes)
    assert said in running.budget(study, running.make_plan(study, tmp_path))


def test_a_run_of_other_settings_is_not_taken_for_one_of_the_study(tmp_path):
    run = next(runs_of(TINY))
    place = tmp_path / run.place
    place.mkdir(parents=True)
    other = flatten(run.config) | {"seed": 5, "source": list(run.config.source)}
    (place / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="another configuration"):
        running.make_plan(TINY, tmp_path)


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


@pytest.fixture(scope="module")
def common_root(tmp_path_factory) -> Path:
    """Where the tiny studies find the runs that they have in common."""
    return tmp_path_factory.mktemp("root")


@pytest.mark.slow
@pytest.mark.parametrize("name", study_names())
def test_each_study_runs_at_a_tiny_size(name, common_root, tmp_path):
    study = made_tiny(find_study(name))
    collected(common_root, study)
    failed = running.carry_out(study, common_root, 2)
    assert not failed, [
        Path(reason.removeprefix("see ")).read_text()[-2000:] for reason in failed.values()
    ]
    for place in shared_beginnings(list(runs_of(study))):
        assert (common_root / place / "summary.json").exists()
    for path in write_report(name, study, common_root, tmp_path):
        assert path.stat().st_size > 0


def test_a_dataset_that_ends_at_another_return_is_refused(tmp_path):
    (data,) = running.make_plan(TINY, tmp_path).datasets
    directory = tmp_path / "data" / data.name
    directory.mkdir(parents=True)
    sizes = {"action_size": 3, "action_repeat": 1, "image_size": 64}
    policy = {"agent": "dreamer", "return": data.best / 3}
    write_metadata(directory, {"task": data.task, "profile": "fast", "policy": policy} | sizes)
    assert running.make_plan(TINY, tmp_path).collected == [data]
    higher = TINY._replace(pairs=(TINY.pairs[0]._replace(best=-900.0),))
    with pytest.raises(ValueError, match=r"up to the return -333\.3, but this study wants -300"):
        running.make_plan(higher, tmp_path)

"""The plan written out as data, and the update counts at which the loop looks up."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny

from coworld_jax import schedule
from coworld_jax.config import PRESETS, Config
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.schedule import (
    Phase,
    aligned_updates,
    collection_interval,
    due,
    next_stop,
    plan,
)


def test_plan_of_the_tiny_run():
    assert plan(tiny.CONFIG, 10) == [
        Phase("prefill", "prefill", 0, 0, 20, False),
        Phase("pretrain", "source", 0, 4, 20, False),
        Phase("warm-up", "world_model", 0, 2, 0, False),
        Phase("co-train source", "source", 0, 2, 10, True),
        Phase("target", "target", 0, 2, 0, False),
        Phase("co-train source", "source", 0, 2, 10, True),
        Phase("target", "target", 0, 2, 0, False),
    ]


def test_every_source_has_its_turn():
    config = replace(tiny.CONFIG, source=("dmc/walker_walk", "dmc/cheetah_run"))
    sources = [(p.name, p.source) for p in plan(config, 10) if p.kind in ("prefill", "source")]
    assert sources == [
        ("prefill", 0), ("prefill", 1),
        ("pretrain", 0), ("pretrain", 1),
        ("co-train source", 0), ("co-train source", 1),
        ("co-train source", 0), ("co-train source", 1),
    ]  # fmt: skip


def test_the_size_of_the_state_that_sources_read():
    def spec(task, size):
        return EnvironmentSpec(task, 3, 2, 5, 64, "fast", {}, size)

    walker, other, blind = spec("dmc/walker_walk", 24), spec("dmc/cheetah_run", 17), spec("m:f", 0)
    config = replace(tiny.CONFIG, source_observation="state")
    assert schedule.source_state_size(tiny.CONFIG, [walker, other, blind]) == 0
    assert schedule.source_state_size(config, [walker, walker]) == 24
    with pytest.raises(ValueError, match="m:f gives no state vector: use .*=image"):
        schedule.source_state_size(config, [walker, blind])
    with pytest.raises(ValueError, match="different sizes .*'dmc/cheetah_run': 17"):
        schedule.source_state_size(config, [walker, other])


def test_without_coupling_b_no_phase_is_aligned():
    coupling = replace(tiny.CONFIG.coupling, reward_alignment=False)
    phases = plan(replace(tiny.CONFIG, coupling=coupling), 10)
    assert not any(phase.aligned for phase in phases)
    assert aligned_updates(phases) == 0


def test_eta_anneals_over_the_aligned_updates_of_one_source():
    assert aligned_updates(plan(tiny.CONFIG, 10)) == 2 + 2
    two = replace(tiny.CONFIG, source=("dmc/walker_walk", "dmc/cheetah_run"))
    assert aligned_updates(plan(two, 10)) == 2 + 2  # each of them makes so many


def test_first_updates_come_with_each_agents_first_behaviour():
    config = replace(tiny.CONFIG, schedule=replace(tiny.CONFIG.schedule, first_updates=9))
    counts = [(p.name, p.updates, p.env_steps) for p in plan(config, 10) if p.updates > 4]
    # 9 + 4 source updates of which 4 are paid for by 20 env_steps; 9 + 2 target updates, once.
    assert counts == [("pretrain", 13, 20), ("target", 11, 0)]


def test_released_preset_has_the_first_updates_of_the_authors_run():
    config = replace(PRESETS["released"](), source=("dmc/walker_walk",))
    phases = plan(config, 500)
    assert [p.name for p in phases if p.updates % 100 == 99] == ["pretrain", "target"]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_plan_on_500_step_episodes(preset):
    config = replace(PRESETS[preset](), source=("dmc/walker_walk",))
    phases = plan(config, 500)
    assert phases[0].kind == "prefill" and phases[1].name == "pretrain"
    assert phases[-1].kind == "target"


def test_a_phase_of_broken_episodes_is_refused():
    config = replace(tiny.CONFIG, schedule=replace(tiny.CONFIG.schedule, pretrain_updates=5))
    with pytest.raises(ValueError, match="Phase pretrain: 5 updates.*multiple of 2 updates"):
        plan(config, 10)
    config = replace(tiny.CONFIG, schedule=replace(tiny.CONFIG.schedule, train_every=3))
    with pytest.raises(ValueError, match="train_every = 3 does not divide"):
        plan(config, 10)


def stops(config: Config, phase: Phase, largest: int) -> list[int]:
    """Updates of the phase done at each stop."""
    interval, done, seen = collection_interval(config, 10), 0, []
    while done < phase.updates:
        done += next_stop(phase, done, config, interval, largest)
        seen.append(done)
    return seen


def test_stops_are_the_same_events_whatever_the_chunk():
    # Collections at 9 + 2j, checkpoints at 9 + 3j.
    config = replace(
        tiny.CONFIG,
        schedule=replace(tiny.CONFIG.schedule, first_updates=9, pretrain_updates=6),
        run=replace(tiny.CONFIG.run, eval_every=1000, checkpoint_every=3),
    )
    phase = plan(config, 10)[1]
    assert phase.updates == 15
    events = [9, 11, 12, 13, 15]
    assert stops(config, phase, largest=100) == events
    assert stops(config, phase, largest=2) == [2, 4, 6, 8, 9, 11, 12, 13, 15]
    assert set(events) <= set(stops(config, phase, largest=1))


@pytest.mark.parametrize("preset", ["paper", "released", "small"])
def test_presets_need_one_length_of_chunk_and_one_for_first_updates(preset):
    # Each length is a program of its own, which takes tens of seconds to compile.
    config = replace(PRESETS[preset](), source=("dmc/walker_walk",))
    first = config.schedule.first_updates
    for phase in plan(config, 500):
        interval, done, lengths = collection_interval(config, 500), 0, []
        while done < phase.updates:
            lengths.append(next_stop(phase, done, config, interval, config.run.chunk))
            done += lengths[-1]
        assert set(lengths) <= {config.run.chunk, first}, phase


def test_what_is_due_and_when():
    config = replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, eval_every=4, checkpoint_every=6))
    phase = Phase("pretrain", "source", 0, 17, 80, False, first_updates=1)
    seen = {done: due(phase, done, config, interval=2) for done in range(18)}
    assert [done for done in seen if seen[done].collection] == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert [done for done in seen if seen[done].evaluation] == [5, 9, 13, 17]
    assert [done for done in seen if seen[done].checkpoint] == [7, 13, 17]
    target = phase._replace(kind="target")
    assert not any(due(target, done, config, interval=2).collection for done in range(18))


def test_description_counts_all_phases():
    coupling = replace(tiny.CONFIG.coupling, value_constraint=False)
    text = schedule.describe(plan(tiny.CONFIG, 10), coupling)
    assert text.splitlines()[-1].split() == ["total", "14", "60"]
    couplings = [line.split()[-1] for line in text.splitlines() if line.startswith(("warm", "tar"))]
    assert couplings == ["A", "A", "A"]  # C is switched off
    assert [line.split()[-1] for line in text.splitlines() if "co-train" in line] == ["B", "B"]

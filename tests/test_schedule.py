"""The plans written out as data, and the update counts at which the loop looks up."""

from __future__ import annotations

import re

import pytest
import tiny

from coworld_jax.config import Config
from coworld_jax.method import TARGET, Domain, Method, Phase
from coworld_jax.methods import METHODS
from coworld_jax.methods.coworld.plan import MEASURING_UPDATES, SELECTION_UPDATES, aligned_updates
from coworld_jax.training import plan as planning
from coworld_jax.training.plan import Rhythm, check_plan, collection_due, due, next_stop
from experiments.configs.sizes import SIZES, sized_config

COLLECTION = {"source": 10, "source0": 10, "source1": 10}


def plan(config: Config = tiny.CONFIG, sources: int = 1, episode_steps: int = 10):
    domains = {
        name: domain._replace(episode_steps=episode_steps)
        for name, domain in tiny.domains(sources).items()
    }
    return METHODS[config.method].make(tiny.with_weights(config.settings), domains).plan


def source_phase(name: str, update: str, updates: int, env_steps: int, reads=("source",)) -> Phase:
    return Phase(
        name,
        update,
        updates,
        reads=reads,
        plays="source",
        env_steps=env_steps,
        scores=("source",),
    )


def test_plan_of_the_tiny_run():
    aligned = ("source", TARGET)
    assert plan() == (
        Phase("prefill", plays="source", env_steps=20),
        source_phase("pretrain", "source", 4, 20),
        Phase("warm-up", "target model", 2, reads=(TARGET,), embeds="compared"),
        source_phase("co-train source", "source aligned", 2, 10, aligned),
        Phase("target", "target", 2, reads=(TARGET,), scores=(TARGET,), embeds="compared"),
        source_phase("co-train source", "source aligned", 2, 10, aligned),
        Phase("target", "target", 2, reads=(TARGET,), scores=(TARGET,), embeds="compared"),
    )


def test_every_source_has_its_turn():
    played = [(p.name, p.update, p.plays) for p in plan(sources=2) if p.plays]
    assert played == [
        ("prefill", "", "source0"), ("prefill", "", "source1"),
        ("pretrain", "source0", "source0"), ("pretrain", "source1", "source1"),
        ("co-train source", "source0 aligned", "source0"),
        ("co-train source", "source1 aligned", "source1"),
        ("co-train source", "source0 aligned", "source0"),
        ("co-train source", "source1 aligned", "source1"),
    ]  # fmt: skip


def test_one_of_several_sources_is_chosen_before_each_target_phase():
    config = tiny.with_settings(coupling={"selection": "phase"})
    names = [phase.name for phase in plan(config, sources=2) if not phase.plays]
    assert names == ["select", "warm-up", "select", "target", "select", "target"]
    (select, *_) = (phase for phase in plan(config, sources=2) if phase.name == "select")
    assert select == Phase("select", "select", SELECTION_UPDATES, reads=(TARGET,))
    assert plan(config) == plan()  # a single source is no choice
    assert "select" not in [phase.name for phase in plan(sources=2)]


def test_the_unit_of_a_state_is_measured_after_the_random_episodes():
    config = tiny.with_settings(source_observation="state")
    domains = tiny.domains(2, state_size=5)
    phases = METHODS[config.method].make(config.settings, domains).plan
    assert [(phase.update, phase.reads, phase.plays) for phase in phases[:4]] == [
        ("", (), "source0"), ("source0 measure", ("source0",), ""),
        ("", (), "source1"), ("source1 measure", ("source1",), ""),
    ]  # fmt: skip
    assert phases[1].updates == MEASURING_UPDATES


def made(sizes: dict[str, int], observation: str = "state") -> Method:
    config = tiny.with_settings(source_observation=observation)
    domains = {name: Domain(3, size, 10) for name, size in sizes.items()}
    return METHODS[config.method].make(config.settings, domains)


def test_the_size_of_the_state_that_sources_read():
    sizes = {"source0": 24, "source1": 24, TARGET: 0}
    assert {name: player.reads for name, player in made(sizes).players.items()} == {
        "source0": "state", "source1": "state", TARGET: "image"
    }  # fmt: skip
    mixed = {"source0": 24, "source1": 17, "source2": 0, TARGET: 24}
    assert {player.reads for player in made(mixed, "image").players.values()} == {"image"}
    with pytest.raises(ValueError, match="source1 gives no state vector: use .*=image"):
        made({"source0": 24, "source1": 0, TARGET: 24})
    with pytest.raises(ValueError, match="different sizes .*'source1': 17"):
        made({"source0": 24, "source1": 17, TARGET: 24})


def test_sources_with_episodes_of_different_lengths_are_refused():
    domains = tiny.domains(2)
    domains["source1"] = domains["source1"]._replace(episode_steps=20)
    with pytest.raises(ValueError, match="different lengths .*'source1': 20.*episode_steps"):
        METHODS["coworld"].make(tiny.SETTINGS, domains)


def test_without_coupling_b_no_phase_is_aligned():
    phases = plan(tiny.with_settings(coupling={"reward_alignment": False}))
    assert {phase.reads for phase in phases} == {(), ("source",), (TARGET,)}
    assert aligned_updates(phases, "source") == 0


def test_eta_anneals_over_the_aligned_updates_of_one_source():
    assert aligned_updates(plan(), "source") == 2 + 2
    assert aligned_updates(plan(sources=2), "source0") == 2 + 2  # each of them makes so many


def test_first_updates_come_with_each_agents_first_behaviour():
    config = tiny.with_settings(schedule={"first_updates": 9})
    counts = [(p.name, p.updates, p.env_steps) for p in plan(config) if p.updates > 4]
    # 9 + 4 source updates of which 4 are paid for by 20 env_steps; 9 + 2 target updates, once.
    assert counts == [("pretrain", 13, 20), ("target", 11, 0)]


def test_released_preset_has_the_first_updates_of_the_authors_run():
    phases = plan(sized_config("coworld", "released"), episode_steps=500)
    assert [p.name for p in phases if p.updates % 100 == 99] == ["pretrain", "target"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_presets_plan_on_500_step_episodes(method, size):
    phases = plan(sized_config(method, size), episode_steps=500)
    check_plan(phases, {"source": 500})
    assert phases[-1].scores
    if any(phase.plays for phase in phases):
        assert phases[0].name == "prefill"
    if method == "coworld":
        assert phases[1].name == "pretrain" and phases[-1].update == "target"


def test_a_phase_of_broken_episodes_is_refused():
    phases = plan(tiny.with_settings(schedule={"pretrain_updates": 5}))
    with pytest.raises(ValueError, match="Phase pretrain: 5 updates.*multiple of 2 updates"):
        check_plan(phases, COLLECTION)
    phases = plan(tiny.with_settings(schedule={"train_every": 3}))
    with pytest.raises(ValueError, match="10 env_steps .*cannot pay for .*schedule.train_every"):
        check_plan(phases, COLLECTION)
    check_plan(plan(), COLLECTION)


def stops(phase: Phase, rhythm: Rhythm) -> list[int]:
    """Updates of the phase done at each stop."""
    done, seen = 0, []
    while done < phase.updates:
        done += next_stop(phase, rhythm, done)
        seen.append(done)
    return seen


def test_stops_are_the_same_events_whatever_the_chunk():
    # Collections at 9 + 2j, checkpoints at 9 + 3j.
    config = tiny.with_settings(schedule={"first_updates": 9, "pretrain_updates": 6})
    rhythm = Rhythm(100, eval_every=1000, checkpoint_every=3, collection=COLLECTION)
    phase = plan(config)[1]
    assert phase.updates == 15
    events = [9, 11, 12, 13, 15]
    assert stops(phase, rhythm) == events
    assert stops(phase, rhythm._replace(chunk=2)) == [2, 4, 6, 8, 9, 11, 12, 13, 15]
    assert set(events) <= set(stops(phase, rhythm._replace(chunk=1)))


@pytest.mark.parametrize("size", ["paper", "released", "small"])
def test_presets_need_one_length_of_chunk_and_one_for_first_updates(size):
    # Each length is a program of its own, which takes tens of seconds to compile.
    config = sized_config("coworld", size)
    run, first = config.run, config.settings.schedule.first_updates
    rhythm = Rhythm(run.chunk, run.eval_every, run.checkpoint_every, {"source": 500})
    for phase in plan(config, episode_steps=500):
        lengths = {
            after - before
            for before, after in zip([0, *stops(phase, rhythm)], stops(phase, rhythm))
        }
        assert lengths <= {run.chunk, first}, phase


def test_what_is_due_and_when():
    phase = source_phase("pretrain", "source", 17, 80)._replace(first_updates=1)
    rhythm = Rhythm(100, eval_every=4, checkpoint_every=6, collection=COLLECTION)

    def at(happens) -> list[int]:
        return [done for done in range(18) if happens(done)]

    collections = at(lambda done: collection_due(phase, rhythm, done))
    assert collections == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    assert at(lambda done: due(phase, rhythm.eval_every, done)) == [5, 9, 13, 17]
    assert at(lambda done: due(phase, rhythm.checkpoint_every, done)) == [7, 13, 17]
    target = phase._replace(plays="", env_steps=0)
    assert not at(lambda done: collection_due(target, rhythm, done))


def test_episodes_that_a_plan_plays():
    # 20 env_steps at random, 20 of pretraining, 10 of each co-training.
    assert planning.planned_episodes(plan(), "source", 10) == 6
    assert planning.random_episodes(plan(), "source", 10) == 2
    assert planning.planned_episodes(plan(), TARGET, 10) == 0


def test_checkpoints_are_ranked_by_the_target_where_it_is_scored():
    assert planning.ranking_domain(plan(), TARGET) == TARGET
    pretraining = plan(tiny.with_settings(schedule={"warmup_rounds": 0, "rounds": 0}))
    assert planning.ranking_domain(pretraining, TARGET) == "source"
    assert planning.ranking_domain(plan()[:1], TARGET) == ""


def test_description_counts_all_phases():
    lines = planning.describe(plan()).splitlines()
    assert lines[-1].split() == ["total", "14", "60"]
    updates = [re.split(r"  +", line)[1] for line in lines[1:-1]]
    assert updates == [phase.update or "random play" for phase in plan()]

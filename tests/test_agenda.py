"""The whole sequence of a run written out: what `training.plan.agenda` says is due, and when."""

from __future__ import annotations

import pytest

from coworld_jax.method import Phase
from coworld_jax.training.plan import (
    Collect,
    EndPhase,
    Evaluate,
    Join,
    Learn,
    RandomPlay,
    Rhythm,
    Save,
    agenda,
)

PREFILL = Phase("prefill", plays="source", env_steps=20)
# One update before any new data; then two updates for each collection of ten env_steps.
ONLINE = Phase(
    "pretrain",
    "source",
    updates=7,
    reads=("source",),
    plays="source",
    env_steps=30,
    first_updates=1,
    scores=("source",),
)
MODEL = Phase("warm-up", "target model", updates=3, reads=("target",))
OFFLINE = Phase("target", "target", updates=6, reads=("target",), scores=("target",))
PLAN = (PREFILL, ONLINE, MODEL, OFFLINE)
RHYTHM = Rhythm(
    chunk=2, eval_every=4, checkpoint_every=3, collection={"source": 10}, ranking="target"
)

EVENTS = [
    RandomPlay(PREFILL),
    EndPhase(PREFILL),
    # The first update comes before the collections, and everything is counted from its end.
    Learn(ONLINE, 0, 1),
    Join(ONLINE),
    Collect(ONLINE, 1),
    Learn(ONLINE, 1, 2),
    Join(ONLINE),
    Collect(ONLINE, 3),
    Learn(ONLINE, 3, 1),
    Save(ONLINE),  # 3 after the first
    Learn(ONLINE, 4, 1),
    Join(ONLINE),
    Evaluate(ONLINE, "source"),  # 4 after the first
    Collect(ONLINE, 5),
    Learn(ONLINE, 5, 2),
    Join(ONLINE),
    Evaluate(ONLINE, "source"),  # the phase ends
    Save(ONLINE),
    EndPhase(ONLINE),
    # Nothing is scored, but the end is saved.
    Learn(MODEL, 0, 2),
    Learn(MODEL, 2, 1),
    Save(MODEL),
    EndPhase(MODEL),
    Learn(OFFLINE, 0, 2),
    Learn(OFFLINE, 2, 1),
    Save(OFFLINE),
    Learn(OFFLINE, 3, 1),
    Evaluate(OFFLINE, "target"),
    Save(OFFLINE),  # the score of the ranking domain goes with a checkpoint
    Learn(OFFLINE, 4, 2),
    Evaluate(OFFLINE, "target"),
    Save(OFFLINE),
    EndPhase(OFFLINE),
]


def test_the_sequence_of_a_run() -> None:
    assert list(agenda(PLAN, RHYTHM)) == EVENTS


def ends_of_updates() -> list[tuple[int, int, int]]:
    """For each save: how many events came before, then the phase and its updates at that time."""
    found, phase, done = [], 0, 0
    for index, event in enumerate(EVENTS):
        if isinstance(event, Learn):
            done += event.updates
        elif isinstance(event, Save):
            found.append((index + 1, phase, done))
        elif isinstance(event, EndPhase):
            phase, done = phase + 1, 0
    return found


@pytest.mark.parametrize(("seen", "phase", "done"), ends_of_updates())
def test_a_run_goes_on_where_its_checkpoint_lies(seen: int, phase: int, done: int) -> None:
    """What follows a save is what follows it in the uninterrupted run."""
    assert list(agenda(PLAN, RHYTHM, phase, done)) == EVENTS[seen:]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_the_chunk_changes_nothing_but_the_calls(chunk: int) -> None:
    def joined(events):
        """Neighbouring calls put together."""
        merged = []
        for event in events:
            if isinstance(event, Learn) and merged and isinstance(merged[-1], Learn):
                before = merged.pop()
                assert before.done + before.updates == event.done
                event = before._replace(updates=before.updates + event.updates)
            merged.append(event)
        return merged

    events = list(agenda(PLAN, RHYTHM._replace(chunk=chunk)))
    assert joined(events) == joined(EVENTS)
    assert max(event.updates for event in events if isinstance(event, Learn)) <= chunk


def test_a_phase_that_reads_nothing_still_ends() -> None:
    empty = Phase("fresh moments", "renew", 1)
    assert list(agenda((empty,), RHYTHM)) == [Learn(empty, 0, 1), Save(empty), EndPhase(empty)]

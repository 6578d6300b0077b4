"""The whole sequence of a run written out: what `training.plan.agenda` says is due, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from coworld_jax.method import Phase
from coworld_jax.training.plan import (
    Collect,
    Conclude,
    EndPhase,
    Evaluate,
    Event,
    Join,
    Learn,
    RandomPlay,
    Rhythm,
    Save,
    agenda,
    check_plan,
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
    Collect(ONLINE, 1),
    Learn(ONLINE, 1, 2),
    Join(ONLINE),
    Collect(ONLINE, 3),
    Learn(ONLINE, 3, 1),
    Save(ONLINE),  # 3 after the first
    Learn(ONLINE, 4, 1),
    Join(ONLINE),
    Evaluate(ONLINE, "source"),  # 4 after the first; it is played beside what follows
    Collect(ONLINE, 5),
    Learn(ONLINE, 5, 2),
    Join(ONLINE),
    Conclude(ONLINE, "source"),
    Evaluate(ONLINE, "source"),  # the phase ends
    Save(ONLINE),
    EndPhase(ONLINE),
    # The evaluation goes on beside the next phase. Nothing is scored there, but the end is saved.
    Learn(MODEL, 0, 2),
    Learn(MODEL, 2, 1),
    Conclude(ONLINE, "source"),
    Save(MODEL),
    EndPhase(MODEL),
    Learn(OFFLINE, 0, 2),
    Learn(OFFLINE, 2, 1),
    Save(OFFLINE),
    Learn(OFFLINE, 3, 1),
    Evaluate(OFFLINE, "target"),
    Save(OFFLINE),  # the score of the ranking domain belongs to a checkpoint
    Learn(OFFLINE, 4, 2),
    Conclude(OFFLINE, "target"),
    Evaluate(OFFLINE, "target"),
    Conclude(OFFLINE, "target"),  # nothing is left to do beside it
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


@pytest.mark.parametrize(("seen", "phase", "done"), ends_of_updates()[:-1])
def test_a_run_goes_on_where_its_checkpoint_lies(seen: int, phase: int, done: int) -> None:
    """Evaluations that were under way begin again; then everything is as it would have been."""
    under_way = []
    for event in EVENTS[:seen]:
        if isinstance(event, Evaluate):
            under_way.append(event)
        elif isinstance(event, Conclude):
            under_way.remove(Evaluate(*event))
    assert list(agenda(PLAN, RHYTHM, phase, done)) == under_way + EVENTS[seen:]


def test_the_last_evaluation_is_concluded_whatever_the_run_has_kept() -> None:
    assert list(agenda(PLAN, RHYTHM, 3, 6)) == [
        Evaluate(OFFLINE, "target"), EndPhase(OFFLINE), Conclude(OFFLINE, "target"),
    ]  # fmt: skip


def joining(lengths: list[int], events: Iterator[Event], played: list[int]) -> Iterator[Event]:
    """``events``, where each `Join` of a collection adds the next of ``lengths`` to ``played``."""
    rest, in_flight = iter(lengths), False
    for event in events:
        in_flight = in_flight or isinstance(event, Collect)
        if isinstance(event, Join) and in_flight:
            played[0] += next(rest)
            in_flight = False
        yield event


def played_agenda(lengths: list[int], phase: Phase = ONLINE, done: int = 0) -> list[Event]:
    """The events of ``phase`` alone, where collections have so many env_steps."""
    played = [0]
    events = agenda((phase,), RHYTHM, 0, done, lambda: played[0])
    kinds = Learn | Collect | Join
    return [e for e in joining(lengths, events, played) if isinstance(e, kinds)]


def test_episodes_of_full_length_pay_for_the_updates_beside_them() -> None:
    alone = [e for e in EVENTS if e[0] is ONLINE and isinstance(e, Learn | Collect | Join)]
    assert played_agenda([10, 10, 10]) == alone


def test_short_episodes_are_followed_by_more_before_the_next_updates() -> None:
    """Ten env_steps pay for two updates; the third collection has paid for what is made by then."""
    debt = [Collect(ONLINE, 3), Join(ONLINE)]
    assert played_agenda([4, 4, 4, 10, 3, 9]) == [
        Learn(ONLINE, 0, 1),
        Collect(ONLINE, 1), Learn(ONLINE, 1, 2), Join(ONLINE), *debt, *debt,  # 12 for 2 updates
        Collect(ONLINE, 3), Learn(ONLINE, 3, 1), Learn(ONLINE, 4, 1), Join(ONLINE),  # 22 for 4
        Collect(ONLINE, 5), Learn(ONLINE, 5, 2), Join(ONLINE),  # 25 for 6
        Collect(ONLINE, 7), Join(ONLINE),  # 34 for 6, the 30 of the plan
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_all_updates_are_paid_for_and_little_is_played_beyond(seed: int) -> None:
    lengths = random.Random(seed).choices(range(1, 11), k=200)
    events = played_agenda(lengths)
    count = sum(isinstance(event, Collect) for event in events)
    played = sum(lengths[:count])
    assert ONLINE.env_steps <= played < ONLINE.env_steps + 10
    assert sum(e.updates for e in events if isinstance(e, Learn)) == ONLINE.updates


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


def test_a_plan_without_phases_is_refused() -> None:
    with pytest.raises(ValueError, match="every count of updates is 0"):
        check_plan((), {})


def test_a_phase_that_reads_nothing_still_ends() -> None:
    empty = Phase("fresh moments", "renew", 1)
    assert list(agenda((empty,), RHYTHM)) == [Learn(empty, 0, 1), Save(empty), EndPhase(empty)]

"""Stretches of an agenda, and the blocks that a program is made of."""

from __future__ import annotations

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
from coworld_jax.training.stretch import Block, fold, stretches, unfold

PLAY = Phase("play", plays="source", env_steps=20)
ONLINE = Phase("online", "agent", 12, ("source",), plays="source", env_steps=60, scores=("source",))
PLAN = (PLAY, ONLINE)


def stretched(checkpoint_every: int, chunk: int = 100):
    rhythm = Rhythm(chunk, 6, checkpoint_every, {"source": 10}, ranking="source")
    return list(stretches(agenda(PLAN, rhythm)))


def test_a_stretch_ends_where_the_host_is_needed():
    first, middle, last = stretched(6)
    assert first.work == () and isinstance(first.then[-1], EndPhase)
    assert [type(step) for step in middle.work] == [Collect, Learn, Join] * 3
    assert [type(event) for event in middle.then] == [Evaluate, Save]
    assert isinstance(last.then[-1], EndPhase)
    assert sum(step.updates for step in last.work if isinstance(step, Learn)) == 6


def test_every_event_of_the_agenda_is_in_one_stretch():
    rhythm = Rhythm(1, 6, 5, {"source": 10}, ranking="source")
    events = list(agenda(PLAN, rhythm))
    assert [e for s in stretches(events) for e in (*s.work, *s.then)] == events


def test_random_play_is_apart_from_work():
    """The host plays it, and needs the replays for that."""
    measure = Phase("measure", "scale", 2, ("source",))
    rhythm = Rhythm(100, 100, 100, {"source": 10})
    found = list(stretches(agenda((PLAY, measure, PLAY, ONLINE), rhythm)))
    holding = [s for s in found if any(isinstance(event, RandomPlay) for event in s.then)]
    assert len(holding) == 2 and not any(stretch.work for stretch in holding)
    assert holding[1].then[0] == RandomPlay(PLAY)


def test_no_collection_joins_before_one_was_played():
    late = ONLINE._replace(updates=14, first_updates=2)
    rhythm = Rhythm(100, 6, 6, {"source": 10})
    steps = [step for s in stretches(agenda((PLAY, late), rhythm)) for step in s.work]
    kinds = [type(step) for step in steps if not isinstance(step, Learn)]
    assert kinds == [Collect, Join] * 6


def test_repeated_steps_become_a_block():
    _, middle, _ = stretched(6)
    assert fold(middle.work) == (Block((Collect(ONLINE, 0), Learn(ONLINE, 0, 2), Join(ONLINE)), 3),)


def test_the_shortest_period_is_found_at_any_place():
    a, b, c = (Learn(ONLINE, 0, updates) for updates in (1, 2, 3))
    assert fold([a, a, a, a]) == (Block((a,), 4),)
    assert fold([a, b, a, b, a, b, c]) == (Block((a, b), 3), Block((c,), 1))
    assert fold([c, a, b, a, b]) == (Block((c,), 1), Block((a, b), 2))
    assert fold([]) == ()


def test_a_block_depends_on_no_count():
    early = [Collect(ONLINE, 0), Learn(ONLINE, 0, 2), Join(ONLINE)]
    late = [Collect(ONLINE, 8), Learn(ONLINE, 8, 2), Join(ONLINE)]
    assert fold(early) == fold(late)


def test_unfolding_gives_the_steps_in_order():
    steps = [Learn(ONLINE, 0, updates) for updates in (1, 2, 1, 2, 3)]
    found = list(unfold(fold(steps)))
    assert [step for *_, step in found] == steps
    assert [place[:3] for place in found] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)]

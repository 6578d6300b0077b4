"""Runs that are carried out together, stretch by stretch, by programs of their own (`fleet`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coworld_jax.records.finite import NonFiniteError
from coworld_jax.training import runtime
from coworld_jax.training.events import (
    conclude,
    evaluate,
    handle,
    join,
    leave,
    record,
    stop_early,
)
from coworld_jax.training.fleet import Fleet
from coworld_jax.training.plan import Collect, Evaluate, Join, Learn, RandomPlay
from coworld_jax.training.run import Run
from coworld_jax.training.stretch import Stretch, stretches
from coworld_jax.training.waiting import Stopped


def carry_out_together(
    runs: Sequence[Run],
    stop: runtime.StopRequest,
    note_failure: Callable[[Run], None] = lambda run: None,
) -> bool:
    """Every event of every run, or, when asked to stop, what is needed to go on later.

    Runs may be at different places, for example after a kill in the middle of saving. Those that
    are behind go first. A run with a quantity that is not finite is frozen, and its ``failure``
    says why; the others go on.

    Args:
        note_failure: called as soon as a run has failed.

    Returns:
        Whether all runs have ended.

    Raises:
        NonFiniteError: the run is the only one.
    """
    fleet = Fleet(runs)
    agendas = [stretches(run.events(full_length=True)) for run in runs]
    ahead = [next(agenda, None) for agenda in agendas]
    try:
        while any(ahead):
            part = _furthest_behind(runs, ahead)
            stretch = ahead[part.index(True)]
            assert stretch is not None
            if stretch.work and stop.agreed():
                for run in runs:
                    if not run.failure:
                        stop_early(run)
                return False
            results, seconds = _carry_out(fleet, stretch, part)
            for index, run in enumerate(runs):
                if part[index]:
                    goes_on = _record_stretch(
                        run, stretch, results[index], seconds, alone=len(runs) == 1
                    )
                    ahead[index] = next(agendas[index], None) if goes_on else None
                    if run.failure:
                        note_failure(run)
        fleet.hand_back()
    except Stopped:
        for run in runs:
            leave(run)
        return False
    return True


def _carry_out(
    fleet: Fleet, stretch: Stretch, part: Sequence[bool]
) -> tuple[Sequence[Iterator[Any]], float]:
    """The results of a stretch, see `Fleet.carry_out`, and its seconds without compilation."""
    if not stretch.work:
        if any(isinstance(event, RandomPlay) for event in stretch.then):
            fleet.hand_back()  # the host writes into the replays
        return [iter(()) for _ in part], 0.0
    stopwatch = fleet.runs[part.index(True)].stopwatch
    before = stopwatch.spent("update")
    results = fleet.carry_out(stretch, part)
    return results, stopwatch.spent("update") - before


def _furthest_behind(runs: Sequence[Run], ahead: Sequence[Stretch | None]) -> list[bool]:
    """Which runs come next: the one that is furthest behind, and those with the same ahead."""
    places = [(run.position.phase, run.position.done) for run in runs]
    waiting = [index for index, stretch in enumerate(ahead) if stretch is not None]
    last = min(waiting, key=lambda index: places[index])
    wanted = places[last], ahead[last]
    return [(place, stretch) == wanted for place, stretch in zip(places, ahead, strict=True)]


def _record_stretch(
    run: Run, stretch: Stretch, results: Iterator[Any], seconds: float, *, alone: bool
) -> bool:
    """Record the results of a stretch, and do what the host does after it.

    Args:
        results: see `Fleet.carry_out`.
        seconds: that the stretch took.
        alone: the run is the only one.

    Returns:
        Whether the run goes on.

    Raises:
        NonFiniteError: the run is alone and has a quantity that is not finite.
    """
    total = sum(step.updates for step in stretch.work if isinstance(step, Learn))
    try:
        with run.progress.at_once():
            for step in stretch.work:
                result = next(results)
                match step:
                    case Collect(phase):
                        run.collectors[phase.plays].deliver(result)
                    case Learn():
                        record(run, step, result, seconds * step.updates / total)
                    case Join(phase):
                        join(run, phase.plays)
        for event in stretch.then:
            if isinstance(event, Evaluate) and stretch.work:
                # Its figures join the checkpoint that follows: no evaluation is ever repeated.
                evaluate(run, event.domain, next(results))
                conclude(run, event.domain)
            else:
                handle(run, event)
    except NonFiniteError as error:
        if alone:
            raise
        run.failure = str(error)
        run.progress.message(run.failure)
        return False
    return True

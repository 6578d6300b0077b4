"""What is due when: a function of the plan, of update counts and of env_steps that were played.

Everything in a phase is counted from the end of its ``first_updates``. The counts then fit one
length of chunk, and a program is compiled for each length.

**Updates are paid for by env_steps.** A collection is played beside the updates that it pays for if
its episodes have full length. Where episodes end early, further collections are played before the
next updates, until the env_steps of the phase have paid for all updates made.

**Evaluations are played beside the updates.** One begins with the parameters of a fixed update. It
is concluded before the next evaluation or checkpoint, at another fixed update. So a checkpoint has
an evaluation under way only if both belong to the same update, and a run that goes on from there
has the parameters to begin it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from coworld_jax.config import EpisodesConfig
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.method import Phase


class Rhythm(NamedTuple):
    """How often a run does what its plan leaves open."""

    chunk: int  # updates in one call, at most
    eval_every: int  # updates of a phase between evaluations
    checkpoint_every: int  # updates of a phase between checkpoints
    # env_steps of a collection, by domain that is played: episode steps times episodes together
    collection: Mapping[str, int]
    ranking: str = ""  # domain whose score a checkpoint keeps, see `ranking_domain`


class RandomPlay(NamedTuple):
    """Fill the replay of a domain with random episodes."""

    phase: Phase


class Collect(NamedTuple):
    """Begin a collection by the present parameters, unless one is under way."""

    phase: Phase
    done: int  # updates of the phase


class Join(NamedTuple):
    """Wait for the collection; its episodes join the replay."""

    phase: Phase


class Learn(NamedTuple):
    """Make updates in one call."""

    phase: Phase
    done: int  # updates of the phase before
    updates: int


class Evaluate(NamedTuple):
    """Begin to score a domain by the present parameters."""

    phase: Phase
    domain: str


class Conclude(NamedTuple):
    """Wait for the evaluation of a domain; its figures are recorded."""

    phase: Phase  # in which it began
    domain: str


class Save(NamedTuple):
    """Write a checkpoint."""

    phase: Phase


class EndPhase(NamedTuple):
    """Everything of a phase has happened."""

    phase: Phase


Event = RandomPlay | Collect | Join | Learn | Evaluate | Conclude | Save | EndPhase


def agenda(
    plan: Sequence[Phase],
    rhythm: Rhythm,
    phase: int = 0,
    done: int = 0,
    played: Callable[[], int] | None = None,
) -> Iterator[Event]:
    """The events of a run, in order.

    Args:
        plan: of the method.
        rhythm: see there.
        phase: index of the phase in which the run goes on.
        done: updates of that phase that have been made. Evaluations that begin at this count are
            among the events again.
        played: env_steps of the present phase that have joined; asked after each `Join`. If not
            given, all episodes have full length.
    """
    under_way = _evaluations(plan[phase], rhythm, done) if done else ()
    yield from under_way
    for index, current in enumerate(plan[phase:], phase):
        if not current.update:
            yield RandomPlay(current)
        while done < current.updates:
            yield from _advance(current, rhythm, done, played)
            done += next_stop(current, rhythm, done)
            if collection_due(current, rhythm, done) and done > current.first_updates:
                yield Join(current)
            begun = _evaluations(current, rhythm, done)
            ranked = any(event.domain == rhythm.ranking for event in begun)
            saves = ranked or due(current, rhythm.checkpoint_every, done)
            if begun or saves:
                yield from _conclusions(under_way)
                yield from begun
                under_way = begun
            if saves:
                if index == len(plan) - 1 and done == current.updates:  # nothing is left beside it
                    yield from _conclusions(under_way)
                    under_way = ()
                yield Save(current)
        yield from _pay(current, rhythm, done, played)
        yield EndPhase(current)
        done = 0
    yield from _conclusions(under_way)


def _advance(
    phase: Phase, rhythm: Rhythm, done: int, played: Callable[[], int] | None
) -> Iterator[Event]:
    """Updates up to the next count at which something else happens, and the play beside them."""
    yield from _pay(phase, rhythm, done, played)
    if collection_due(phase, rhythm, done):
        yield Collect(phase, done)
    yield Learn(phase, done, next_stop(phase, rhythm, done))


def _pay(
    phase: Phase, rhythm: Rhythm, done: int, played: Callable[[], int] | None
) -> Iterator[Event]:
    """Collections until the env_steps of the phase have paid for its ``done`` updates."""
    if played is None or not collection_due(phase, rhythm, done):
        return
    updates = phase.updates - phase.first_updates
    while played() * updates // phase.env_steps < done - phase.first_updates:
        yield Collect(phase, done)
        yield Join(phase)


def _evaluations(phase: Phase, rhythm: Rhythm, done: int) -> tuple[Evaluate, ...]:
    """Evaluations that begin after ``done`` updates."""
    if not due(phase, rhythm.eval_every, done):
        return ()
    return tuple(Evaluate(phase, domain) for domain in phase.scores)


def _conclusions(under_way: Sequence[Evaluate]) -> Iterator[Conclude]:
    return (Conclude(*event) for event in under_way)


def due(phase: Phase, every: int, done: int) -> bool:
    """Whether something happens after ``done`` updates: each ``every``, and when a phase ends."""
    since = done - phase.first_updates
    return done == phase.updates or (since > 0 and since % every == 0)


def collection_due(phase: Phase, rhythm: Rhythm, done: int) -> bool:
    """Whether a collection ends, and the next begins, after ``done`` updates."""
    if not (phase.update and phase.env_steps):
        return False
    since = done - phase.first_updates
    return since >= 0 and since % updates_per_collection(phase, rhythm) == 0


def updates_per_collection(phase: Phase, rhythm: Rhythm) -> int:
    """Updates that one collection of whole episodes pays for."""
    updates = phase.updates - phase.first_updates
    return rhythm.collection[phase.plays] * updates // phase.env_steps


def next_stop(phase: Phase, rhythm: Rhythm, done: int) -> int:
    """Updates from ``done`` until anything else is due, at most a chunk of them."""
    longest = min(rhythm.chunk, phase.updates - done)
    for ahead in range(1, longest):
        count = done + ahead
        if (
            collection_due(phase, rhythm, count)
            or due(phase, rhythm.eval_every, count)
            or due(phase, rhythm.checkpoint_every, count)
        ):
            return ahead
    return longest


def collections(schedule: EpisodesConfig, specs: Mapping[str, EnvironmentSpec]) -> dict[str, int]:
    """env_steps of one collection in each domain."""
    together = schedule.episodes_per_collection
    return {domain: spec.episode_steps * together for domain, spec in specs.items()}


def check_plan(plan: Sequence[Phase], collection: Mapping[str, int]) -> None:
    """Make sure that there are phases, and that all that play consist of whole collections.

    Args:
        collection: see `Rhythm`.

    Raises:
        ValueError: there are none, or one does not.
    """
    if not plan:
        raise ValueError("There is nothing to train: every count of updates is 0; set one of them.")
    for phase in plan:
        if not (phase.update and phase.plays and phase.env_steps):
            continue
        unit, updates = collection[phase.plays], phase.updates - phase.first_updates
        if unit * updates % phase.env_steps:
            raise ValueError(
                f"One collection is {unit} env_steps (episode steps * episodes_per_collection), "
                f"which phase {phase.name}, with {phase.env_steps} env_steps for {updates} "
                "updates, cannot pay for in whole updates: change schedule.train_every."
            )
        if phase.env_steps % unit:
            raise ValueError(
                f"Phase {phase.name}: {updates} updates collect {phase.env_steps} env_steps, which "
                f"is no multiple of {unit} (episode steps * episodes_per_collection): use a "
                f"multiple of {unit * updates // phase.env_steps} updates, or change "
                "schedule.train_every."
            )


def planned_episodes(plan: Sequence[Phase], domain: str, episode_steps: int) -> int:
    """Episodes that the plan plays in a domain."""
    return sum(phase.env_steps for phase in plan if phase.plays == domain) // episode_steps


def random_episodes(plan: Sequence[Phase], domain: str, episode_steps: int) -> int:
    """Random episodes among them; they come first."""
    return planned_episodes([phase for phase in plan if not phase.update], domain, episode_steps)


def ranking_domain(plan: Sequence[Phase], target: str) -> str:
    """The domain whose return decides which checkpoint is the best: the target where it is scored.

    In a plan that never scores the target it is the domain scored last; empty if none is.
    """
    scored = [domain for phase in plan for domain in phase.scores]
    if target in scored:
        return target
    return scored[-1] if scored else ""


def without_scores(plan: Sequence[Phase]) -> tuple[Phase, ...]:
    """The plan of a run that evaluates nothing."""
    return tuple(phase._replace(scores=()) for phase in plan)


def up_to(plan: Sequence[Phase], last: str) -> tuple[Phase, ...]:
    """The phases up to the last one of that name; all of them where ``last`` is empty.

    Raises:
        ValueError: no phase has that name.
    """
    places = [index for index, phase in enumerate(plan) if phase.name == last]
    if last and not places:
        names = ", ".join(dict.fromkeys(phase.name for phase in plan))
        raise ValueError(f"run.last_phase is {last!r}, but the plan has the phases {names}.")
    return tuple(plan[: places[-1] + 1] if last else plan)


def describe(plan: Sequence[Phase]) -> str:
    """The plan as a table: a line per phase, and a total."""
    names = max(len("phase"), *(len(phase.name) for phase in plan)) + 2
    kinds = max(len("random play"), *(len(phase.update) for phase in plan)) + 2
    lines = [f"{'phase':<{names}}{'update':<{kinds}}{'plays':<10}{'updates':>10}{'env_steps':>12}"]
    for phase in plan:
        update = phase.update or "random play"
        lines.append(
            f"{phase.name:<{names}}{update:<{kinds}}{phase.plays:<10}{phase.updates:>10,}"
            f"{phase.env_steps:>12,}"
        )
    updates, env_steps = sum(p.updates for p in plan), sum(p.env_steps for p in plan)
    lines.append(f"{'total':<{names + kinds + 10}}{updates:>10,}{env_steps:>12,}")
    return "\n".join(lines)

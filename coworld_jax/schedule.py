"""The curriculum of Algorithm 1 as data: a list of phases, made from the configuration alone."""

from __future__ import annotations

from typing import NamedTuple

from coworld_jax.config import Config, CouplingConfig
from coworld_jax.envs import EnvironmentSpec


class Phase(NamedTuple):
    """One stretch of the run in which one agent learns.

    ``kind`` says which update runs: ``prefill`` (no update, random actions), ``source`` (source
    agent, online), ``world_model`` (target's world model with coupling A), ``target`` (target's
    world model and behaviour, couplings A and C).
    """

    name: str
    kind: str
    source: int  # index of the source that learns, or that is used first
    updates: int
    env_steps: int  # simulator steps of the source, in whole episodes
    aligned: bool  # whether coupling B is in the source's reward loss
    first_updates: int = 0  # of ``updates``, those at the beginning that no env_steps pay for

    @property
    def learns(self) -> str:
        """Domain whose agent this phase changes: ``source``, ``target``, or empty for none."""
        return "" if self.kind == "prefill" else "source" if self.kind == "source" else "target"


class Due(NamedTuple):
    """What the loop does at a count of updates, besides the next update."""

    collection: bool  # one ends, the next begins
    evaluation: bool
    checkpoint: bool


def plan(config: Config, episode_steps: int) -> list[Phase]:
    """The phases of a run, in order.

    prefill → pretrain the source → {warm up the target's world model, source with coupling B} →
    repeat {target, source with coupling B}; with several sources each takes its turn in every
    source phase.

    Args:
        config: the whole configuration.
        episode_steps: agent steps of one source episode: collection is in whole episodes.

    Raises:
        ValueError: a phase's env_steps are no whole number of collections.
    """
    schedule, count = config.schedule, len(config.source)
    unit = episode_steps * schedule.episodes_per_collection
    if unit % schedule.train_every:
        raise ValueError(
            f"One collection is {unit} env_steps (episode_steps * episodes_per_collection), which "
            f"schedule.train_every = {schedule.train_every} does not divide; use a divisor."
        )
    phases = [
        Phase("prefill", "prefill", i, 0, schedule.prefill_episodes * episode_steps, False)
        for i in range(count)
    ]

    def source(name: str, updates: int, first: int, aligned: bool) -> None:
        env_steps = updates * schedule.train_every
        if env_steps % unit:
            raise ValueError(
                f"Phase {name}: {updates} updates collect {env_steps} env_steps, which is no "
                f"multiple of {unit} (episode_steps * episodes_per_collection); use a multiple of "
                f"{unit // schedule.train_every} updates, or change schedule.train_every."
            )
        for i in range(count):
            if updates + first:
                phases.append(Phase(name, "source", i, updates + first, env_steps, aligned, first))

    def target(name: str, kind: str, updates: int, first: int) -> None:
        if updates + first:
            phases.append(Phase(name, kind, 0, updates + first, 0, False, first))

    aligned = config.coupling.reward_alignment
    source("pretrain", schedule.pretrain_updates, schedule.first_updates, False)
    for _ in range(schedule.warmup_rounds):
        target("warm-up", "world_model", schedule.warmup_target_updates, 0)
        source("co-train source", schedule.warmup_source_updates, 0, aligned)
    for i in range(schedule.rounds):
        first = schedule.first_updates if i == 0 else 0
        target("target", "target", schedule.target_updates, first)
        if i < schedule.rounds - 1 or schedule.final_source_phase:
            source("co-train source", schedule.source_updates, 0, aligned)
    return phases


def only_pretrains(config: Config) -> bool:
    """Whether the plan has no phase but the pretraining of a single source."""
    schedule = config.schedule
    return len(config.source) == 1 and schedule.warmup_rounds == schedule.rounds == 0


def shared_episode_steps(specs: list[EnvironmentSpec]) -> int:
    """Agent steps of an episode, which all sources must share: the plan counts whole episodes.

    Raises:
        ValueError: they differ.
    """
    steps = {spec.task: spec.episode_steps for spec in specs}
    if len(set(steps.values())) > 1:
        raise ValueError(
            f"The sources have episodes of different lengths ({steps}): set "
            "schedule.episode_steps to one that all of them reach."
        )
    return specs[0].episode_steps


def source_state_size(config: Config, specs: list[EnvironmentSpec]) -> int:
    """Coordinates of the state that the sources' agents read; 0 where they read images.

    Args:
        specs: of the sources.

    Raises:
        ValueError: a source has no state, or two have states of different sizes.
    """
    if config.source_observation == "image":
        return 0
    for spec in specs:
        if spec.state_size == 0:
            raise ValueError(
                f"{spec.task} gives no state vector: use --config.source_observation=image."
            )
    sizes = {spec.task: spec.state_size for spec in specs}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"The sources have states of different sizes ({sizes}), which one kind of agent cannot "
            "read: use --config.source_observation=image, or sources of one suite."
        )
    return specs[0].state_size


def planned_episodes(phases: list[Phase], source: int, episode_steps: int, config: Config) -> int:
    """Slots that the replay of a source needs: no more than the plan fills."""
    steps = sum(
        phase.env_steps
        for phase in phases
        if phase.kind in ("prefill", "source") and phase.source == source
    )
    return min(config.schedule.replay_episodes, steps // episode_steps)


def collection_interval(config: Config, episode_steps: int) -> int:
    """Updates that one collection of whole episodes pays for."""
    schedule = config.schedule
    return episode_steps * schedule.episodes_per_collection // schedule.train_every


def due(phase: Phase, done: int, config: Config, interval: int) -> Due:
    """What happens after ``done`` updates of a phase.

    Everything is counted from the end of the phase's ``first_updates``: the counts then fit one
    length of chunk, and a program is compiled for each length.

    Args:
        interval: see `collection_interval`.
    """
    since, ended = done - phase.first_updates, done == phase.updates
    return Due(
        collection=phase.kind == "source" and since >= 0 and since % interval == 0,
        evaluation=ended or (since > 0 and since % config.run.eval_every == 0),
        checkpoint=ended or (since > 0 and since % config.run.checkpoint_every == 0),
    )


def next_stop(phase: Phase, done: int, config: Config, interval: int, largest: int) -> int:
    """Updates from ``done`` of a phase until something is `due`, at most ``largest`` of them."""
    longest = min(largest, phase.updates - done)
    for ahead in range(1, longest):
        if any(due(phase, done + ahead, config, interval)):
            return ahead
    return longest


def aligned_updates(phases: list[Phase]) -> int:
    """Updates with coupling B that each source makes in all: the span over which η anneals."""
    return sum(phase.updates for phase in phases if phase.aligned and phase.source == 0)


def describe(phases: list[Phase], coupling: CouplingConfig) -> str:
    """The plan as a table: a line per phase with the couplings that act in it, and a total."""
    letters = {
        "A": coupling.state_alignment,
        "B": coupling.reward_alignment,
        "C": coupling.value_constraint,
    }
    lines = [f"{'phase':<18}{'source':>8}{'updates':>10}{'env_steps':>12}  couplings"]
    for phase in phases:
        acting = "B" if phase.aligned else ""
        if phase.learns == "target":
            acting = "A" if phase.kind == "world_model" else "AC"
        used = ", ".join(letter for letter in acting if letters[letter])
        index = phase.source if phase.learns != "target" else "-"
        lines.append(
            f"{phase.name:<18}{index:>8}{phase.updates:>10,}{phase.env_steps:>12,}  {used}".rstrip()
        )
    updates, env_steps = sum(p.updates for p in phases), sum(p.env_steps for p in phases)
    lines.append(f"{'total':<18}{'':>8}{updates:>10,}{env_steps:>12,}")
    return "\n".join(lines)

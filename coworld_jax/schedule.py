"""The curriculum of Algorithm 1 as data: a list of phases, made from the configuration alone."""

from __future__ import annotations

from typing import NamedTuple

from coworld_jax.config import Config


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
    phases = [
        Phase("prefill", "prefill", i, 0, schedule.prefill_episodes * episode_steps, False)
        for i in range(count)
    ]

    def source(name: str, updates: int, first: int, aligned: bool) -> None:
        unit = episode_steps * schedule.episodes_per_collection
        env_steps = updates * schedule.train_every
        if env_steps % unit:
            raise ValueError(
                f"Phase {name}: {updates} updates collect {env_steps} env_steps, which is no "
                f"multiple of {unit} (episode_steps * episodes_per_collection); use a multiple of "
                f"{unit // schedule.train_every} updates, or change schedule.train_every."
            )
        for i in range(count):
            if updates + first:
                phases.append(Phase(name, "source", i, updates + first, env_steps, aligned))

    def target(name: str, kind: str, updates: int) -> None:
        if updates:
            phases.append(Phase(name, kind, 0, updates, 0, False))

    aligned = config.coupling.reward_alignment
    source("pretrain", schedule.pretrain_updates, schedule.first_updates, False)
    for _ in range(schedule.warmup_rounds):
        target("warm-up", "world_model", schedule.warmup_target_updates)
        source("co-train source", schedule.warmup_source_updates, 0, aligned)
    for i in range(schedule.rounds):
        first = schedule.first_updates if i == 0 else 0
        target("target", "target", schedule.target_updates + first)
        if i < schedule.rounds - 1 or schedule.final_source_phase:
            source("co-train source", schedule.source_updates, 0, aligned)
    return phases


def aligned_updates(phases: list[Phase]) -> int:
    """Updates with coupling B that each source makes in all: the span over which η anneals."""
    return sum(phase.updates for phase in phases if phase.aligned and phase.source == 0)


def describe(phases: list[Phase]) -> str:
    """The plan as a table, one line per phase and a total."""
    lines = [f"{'phase':<18}{'source':>8}{'updates':>10}{'env_steps':>12}  couplings"]
    for phase in phases:
        couplings = {"world_model": "A", "target": "A, C", "source": "B" if phase.aligned else ""}
        used = couplings[phase.kind] if phase.kind in couplings else ""
        index = phase.source if phase.kind in ("prefill", "source") else "-"
        lines.append(
            f"{phase.name:<18}{index:>8}{phase.updates:>10,}{phase.env_steps:>12,}  {used}"
        )
    updates, env_steps = sum(p.updates for p in phases), sum(p.env_steps for p in phases)
    lines.append(f"{'total':<18}{'':>8}{updates:>10,}{env_steps:>12,}")
    return "\n".join(lines)

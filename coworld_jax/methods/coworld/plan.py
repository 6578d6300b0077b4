"""The curriculum of Algorithm 1 as data: a tuple of phases, made from the settings alone."""

from __future__ import annotations

from collections.abc import Sequence

from coworld_jax.method import TARGET, Domain, Phase
from coworld_jax.methods.coworld.settings import CoWorldSettings
from coworld_jax.schedule import MEASURING_UPDATES, learn_offline, learn_online, prefill

COMPARED = "compared"
"""What coupling A reads of the sources, by `method.Phase.embeds`."""

SELECTION_UPDATES = 20
"""Batches of the target on which the sources compete, where one is chosen for a whole phase."""


def make_plan(
    settings: CoWorldSettings, sources: Sequence[str], source: Domain
) -> tuple[Phase, ...]:
    """The phases of a run, in order.

    prefill → pretrain the source → {warm up the target's world model, source with coupling B} →
    repeat {target, source with coupling B}. Of several sources each takes its turn in every source
    phase, chosen or not, so that each trains as long as a single one would: this is our reading of
    Appendix C, which leaves it open.

    Args:
        sources: names of the source domains.
        source: what they share.
    """
    schedule, coupling = settings.schedule, settings.coupling
    phases: list[Phase] = []

    def source_phases(name: str, updates: int, first: int = 0, aligned: bool = False) -> None:
        for domain in sources:
            update = f"{domain} aligned" if aligned else domain
            reads = (domain, TARGET) if aligned else (domain,)
            phase = Phase(name, update, reads=reads, plays=domain, scores=(domain,))
            phases.extend(learn_online(phase, schedule, updates, first))

    def target_phase(phase: Phase, updates: int, first: int = 0) -> None:
        learn = learn_offline(phase._replace(reads=(TARGET,), embeds=COMPARED), updates, first)
        if learn and len(sources) > 1 and coupling.selection == "phase":
            phases.append(Phase("select", "select", SELECTION_UPDATES, reads=(TARGET,)))
        phases.extend(learn)

    for domain in sources:
        phases.append(prefill(domain, source, schedule))
        if settings.source_observation == "state":
            phases.append(Phase("measure", f"{domain} measure", MEASURING_UPDATES, reads=(domain,)))
    source_phases("pretrain", schedule.pretrain_updates, schedule.first_updates)
    for _ in range(schedule.warmup_rounds):
        # An actor that has not been trained is not worth an evaluation.
        target_phase(Phase("warm-up", "target model"), schedule.warmup_target_updates)
        source_phases(
            "co-train source", schedule.warmup_source_updates, aligned=coupling.reward_alignment
        )
    for i in range(schedule.rounds):
        first = schedule.first_updates if i == 0 else 0
        target_phase(Phase("target", "target", scores=(TARGET,)), schedule.target_updates, first)
        if i < schedule.rounds - 1 or schedule.final_source_phase:
            source_phases(
                "co-train source", schedule.source_updates, aligned=coupling.reward_alignment
            )
    return tuple(phases)


def aligned_updates(plan: Sequence[Phase], source: str) -> int:
    """Updates with coupling B that a source makes in all: the span over which η anneals."""
    return sum(phase.updates for phase in plan if phase.update == f"{source} aligned")

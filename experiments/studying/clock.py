"""Which updates a page counts: those of the evaluated domain, where the plans tell them apart.

A run logs the updates that it has made in all domains. CoWorld trains a source agent between two
stretches of the target's, so that its curve would look longer than that of a method that makes as
many updates of the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from coworld_jax.method import TARGET, Phase
from coworld_jax.training.plan import ranking_domain
from experiments.studying.lengths import known_plan, reads_only_the_target
from experiments.studying.results import Record, record_key
from experiments.studying.study import Run

_TRAINS_NOTHING = ("select", "measure")  # names of phases


class Clock(NamedTuple):
    """How the updates of a study's records count."""

    label: str
    plans: Mapping[tuple[str, str], Sequence[Phase]]  # by pair and arm; without one, all count

    def __call__(self, record: Record, updates: int) -> int:
        """The count of a run that has made so many updates in all."""
        plan = self.plans.get((record["pair"], record["arm"]))
        if plan is None:
            return updates
        return updates_in(plan, ranking_domain(plan, TARGET), updates)


def make_clock(records: Sequence[Record], runs: Sequence[Run]) -> Clock:
    """The clock of a page; it counts all updates where only a simulator knows a plan.

    Args:
        records: of some of the ``runs``.
    """
    done = {record_key(record) for record in records}
    of = {(run.pair, run.arm): run for run in runs if run.key in done}
    plans = {}
    for key, run in of.items():
        if reads_only_the_target(run):
            continue
        known = known_plan(run)
        if known is None:
            return Clock("updates of all domains", {})
        plans[key] = known[0]
    return Clock("updates of the evaluated domain", plans)


def updates_in(plan: Sequence[Phase], domain: str, updates: int) -> int:
    """Of the first ``updates`` of a plan, those that train the agent of a domain.

    A phase does that if it reads the domain's data and scores the domain, or reads no other data:
    CoWorld's source reads the target's data, for coupling B, and is scored in the source.
    """
    own = 0
    for phase in plan:
        made = min(phase.updates, updates)
        own_data = domain in phase.reads and (domain in phase.scores or phase.reads == (domain,))
        trains = own_data and phase.name not in _TRAINS_NOTHING
        own += made * trains
        updates -= made
    return own

"""Best published return of each task: what `experiments.collect --until` refers to.

The paper's rule speaks of the best return that DreamerV2 attains on a task, and does not print it.
These are the highest means of its tables for the task as a target, of whatever method, in the
undiscounted return of an episode of 500 steps.

Reference: arXiv 2305.15260, Tables 2 (Meta-World), 9 (dmc, medium-expert), 4 and 6 (RoboDesk).
"""

from __future__ import annotations

BEST_RETURNS = {
    "metaworld/door-close": 3967.0,
    "metaworld/button-press": 3623.0,
    "metaworld/window-close": 4521.0,
    "metaworld/handle-press": 4570.0,
    "metaworld/drawer-close": 4845.0,
    "metaworld/button-press-topdown": 3889.0,
    "dmc/walker_downhill": 848.0,
    "dmc/walker_uphill": 774.0,
    "dmc/walker_nofoot": 919.0,
    "dmc/cheetah_downhill": 871.0,
    "dmc/cheetah_uphill": 475.0,
    "dmc/cheetah_nopaw": 844.0,
    "robodesk/push_green": 428.0,
    "robodesk/open_slide": 209.0,
}


def reference_return(task: str) -> float:
    """The best published return of a task; options after a ``+`` are left aside.

    Raises:
        ValueError: none was published.
    """
    plain = task.partition("+")[0]
    if plain not in BEST_RETURNS:
        raise ValueError(
            f"No return of {task} was published that --until could refer to: give the best return "
            "that you know of with --reference=RETURN."
        )
    return BEST_RETURNS[plain]

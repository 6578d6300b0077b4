"""Best published return of each task: what `experiments.collect --until` refers to.

The paper's rule speaks of the best return that DreamerV2 attains on a task, and does not print it.
What is taken for it is the highest mean in the tables of `experiments.configs` for that task as a
target, in the undiscounted return of an episode of 500 env_steps.
"""

from __future__ import annotations

from experiments.configs import dmc, metaworld, robodesk

_PAIRS = (*dmc.PAIRS.values(), *metaworld.PAIRS.values(), *robodesk.PAIRS.values())


def reference_return(task: str) -> float:
    """The best published return of a task; of the task without its options if those have none.

    Raises:
        ValueError: none was published.
    """
    for name in (task, task.partition("+")[0]):
        published = [
            score.mean
            for pair in _PAIRS
            for score in (pair.coworld, pair.finetune, pair.offline)
            if pair.target == name and score is not None
        ]
        if published:
            return float(max(published))
    raise ValueError(
        f"No return of {task} was published that --until could refer to: give the best return that "
        "you know of with --reference=RETURN."
    )

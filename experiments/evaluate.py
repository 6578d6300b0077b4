"""Score a trained run over fresh episodes.

    python -m experiments.evaluate --workdir=runs/x --episodes=10

Restores the latest (or best) checkpoint of the run, plays in every domain that it trained, prints
one JSON line per domain, and writes ``evaluation.json`` and pictures to ``WORKDIR/evaluation``, or
to ``--out`` where the workdir is read-only.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags, logging

from coworld_jax.training import runtime
from experiments.command import as_path, one_sentence
from experiments.scoring import score

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of a run of experiments.train.", required=True
)
_EPISODES = flags.DEFINE_integer("episodes", 10, "Fresh episodes per domain.", lower_bound=1)
_DOMAIN = flags.DEFINE_string("domain", "", "Only this domain; all that were trained if empty.")
_BEST = flags.DEFINE_bool("best", False, "The checkpoint with the best evaluation, not the latest.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the episodes.")
_OUT = flags.DEFINE_string("out", None, "For the results; WORKDIR/evaluation if not given.")


def main(arguments: Sequence[str]) -> None:
    """Score with the flags' settings."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    logging.set_verbosity(logging.WARNING)
    runtime.configure()
    with one_sentence("evaluate: interrupted."):
        workdir = as_path(_WORKDIR.value)
        score(
            workdir,
            workdir / "evaluation" if _OUT.value is None else as_path(_OUT.value),
            episodes=_EPISODES.value,
            domain=_DOMAIN.value,
            best=_BEST.value,
            seed=_SEED.value,
        )


if __name__ == "__main__":
    app.run(main)

"""Train a method: CoWorld, or another with ``--config.method=NAME``.

    python -m experiments.train --config=experiments/configs/dmc.py:small \\
        --config.source=dmc/walker_walk --config.target=dmc/walker_downhill \\
        --config.data=DIR --workdir=runs/x
    python -m experiments.train --config=experiments/configs/robodesk.py:push_green,small \\
        --config.data=DIR --workdir=runs/y

The second names a pair of the paper; the files in `experiments.configs` list them. Any field of
`coworld_jax.config.Config`, and any setting of the method, is a flag, for example
``--config.learning.batch=32``. The same command goes on with a run that was interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from coworld_jax.records.files import SUMMARY
from coworld_jax.training import runtime
from coworld_jax.training.beginning import start_from
from coworld_jax.training.loop import train
from experiments.command import as_path, one_sentence
from experiments.config_flags import HELP, normalise, parse_flags, resolve

_CONFIG = config_flags.DEFINE_config_file("config", None, HELP)
_BEGINNING = flags.DEFINE_string(
    "beginning",
    None,
    "Workdir of a finished run with run.last_phase, whose phases are this run's first ones.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of this run; made when missing.", required=True
)


def main(arguments: Sequence[str]) -> None:
    """Train with the configuration of the flags."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag: values are set by --config.<key>=...")
    logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
    print(f"Compiled programs are kept in {runtime.configure() or 'memory only'}.", file=sys.stderr)
    with one_sentence("train: interrupted; the same command goes on."):
        config, workdir = resolve(_CONFIG.value), as_path(_WORKDIR.value)
        if _BEGINNING.value is not None:
            start_from(config, workdir, as_path(_BEGINNING.value))
        summary = train(config, workdir)
    if summary is None:
        return
    print(f"\nFinished after {summary['updates']} updates and {summary['env_steps']} env_steps.")
    for domain, result in summary["evaluations"].items():
        print(f"{domain}: return {result['return_mean']:.1f} ± {result['return_std']:.1f}")
    print("Pictures:", *summary["pictures"], sep="\n  ")
    print(f"Summary: {as_path(_WORKDIR.value) / SUMMARY}")


def run() -> None:
    """Parse the command line; a bad one gets one sentence."""
    runtime.restart_with_huge_pages()
    try:
        arguments = normalise(sys.argv)
    except ValueError as error:
        sys.exit(str(error))
    app.run(main, argv=arguments, flags_parser=parse_flags)


if __name__ == "__main__":
    run()

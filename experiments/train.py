"""Train a method: CoWorld, or another with ``--config.method=NAME``.

    python -m experiments.train --config=experiments/configs/dmc.py:small \\
        --config.source=dmc/walker_walk --config.target=dmc/walker_downhill \\
        --config.data=DIR --workdir=runs/x
    python -m experiments.train --config=experiments/configs/robodesk.py:push_green,small \\
        --config.data=DIR --workdir=runs/y

The second names a pair of the paper; the files in `experiments.configs` list them. Any field of
`coworld_jax.config.Config`, and any setting of the method, is a flag, for example
``--config.learning.batch=32``. The same command goes on with a run that was interrupted.

With ``--hosts=auto``, started on each host of a cluster, all hosts train one run. The exit status
is 0 for a finished run, 143 for one that SIGTERM stopped, 130 for Ctrl-C, and 1 for an error.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from coworld_jax import hosts
from coworld_jax.records.files import SUMMARY
from coworld_jax.training import runtime
from coworld_jax.training.beginning import start_from
from coworld_jax.training.loop import train
from coworld_jax.training.start import check_start
from experiments.command import as_path, ending_together, one_sentence
from experiments.config_flags import HELP, normalise, read_flags, resolve

_CONFIG = config_flags.DEFINE_config_file("config", None, HELP)
_BEGINNING = flags.DEFINE_string(
    "beginning",
    None,
    "Workdir of a finished run with run.last_phase, whose phases are this run's first ones.",
)
_HOSTS = flags.DEFINE_string(
    "hosts",
    "one",
    "How the hosts of a run find each other: one, auto in a cluster that jax recognises (TPU pod, "
    "Slurm, Open MPI), or ADDRESS:PORT,COUNT,INDEX with the address of host 0.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Directory of this run; made when missing. Host 0 alone opens it.",
    required=True,
)


def main(arguments: Sequence[str]) -> None:
    """Train with the configuration of the flags."""
    if len(arguments) > 1:
        raise ValueError(f"{arguments[1]!r} is no flag: values are set by --config.<key>=...")
    logging.set_verbosity(logging.WARNING)  # Orbax narrates every save
    cache = runtime.configure()
    if hosts.first():
        print(f"Compiled programs are kept in {cache or 'memory only'}.", file=sys.stderr)
    config, workdir = resolve(_CONFIG.value), as_path(_WORKDIR.value)
    with runtime.StopRequest() as stop:
        beginning = _BEGINNING.value
        hosts.check_started()
        hosts.agree("the command has", {"--beginning": beginning})
        if beginning is not None:
            check_start(config)
            hosts.on_first(lambda: start_from(config, workdir, as_path(beginning)))
        summary = train(config, workdir, stop=stop)
    hosts.meet()  # host 0 has closed its files: the first host that leaves ends the others
    if summary is None:
        sys.exit(stop.status)
    if hosts.first():
        _show(summary, workdir)


def _show(summary: Mapping[str, Any], workdir: Path) -> None:
    """Print the result of a finished run."""
    print(f"\nFinished after {summary['updates']} updates and {summary['env_steps']} env_steps.")
    for domain, result in summary["evaluations"].items():
        print(f"{domain}: return {result['return_mean']:.1f} ± {result['return_std']:.1f}")
    print("Pictures:", *summary["pictures"], sep="\n  ")
    print(f"Summary: {workdir / SUMMARY}")


def run() -> None:
    """Join the other hosts, then parse the command line; a bad one gets one sentence on each."""
    runtime.restart_with_huge_pages()
    runtime.use_cores()
    with one_sentence("train: interrupted; the same command goes on."):
        hosts.start(_hosts_flag(sys.argv))
        runtime.check_devices()
        with ending_together():
            app.run(main, flags_parser=lambda arguments: read_flags(normalise(arguments)))


def _hosts_flag(arguments: Sequence[str]) -> str:
    """``--hosts``, read before all other flags: a mistake in those must reach every host."""
    chosen: str = _HOSTS.default
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.lstrip("-").partition("=")
        if name == _HOSTS.name and argument.startswith("-"):
            chosen = value if equals else following
    return chosen


if __name__ == "__main__":
    run()

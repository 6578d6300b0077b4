"""How a run starts: what all hosts must agree on, and who owns the workdir."""

from __future__ import annotations

import importlib.util
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path

from coworld_jax import config as configuration
from coworld_jax import hosts, parallel
from coworld_jax.config import Config
from coworld_jax.data.directory import episode_files
from coworld_jax.method import TARGET, Phase
from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.elsewhere import NoCheckpoints, NoMetrics
from coworld_jax.records.files import CHECKPOINTS, lock
from coworld_jax.records.metrics import MetricsWriter
from coworld_jax.records.progress import Progress
from coworld_jax.workdir import needed_domains

# Fields that may differ between hosts.
_OWN_OF_HOSTS = {"data", "run.cache", "run.workers"}


def check_start(config: Config) -> None:
    """Make sure that all hosts may start, and start the same.

    Raises:
        ValueError: a bad configuration, settings of jax that do not do, or hosts that differ.
    """
    hosts.check_started()
    configuration.check(config)
    parallel.check_precision()
    if hosts.count() == 1:
        return
    hosts.agree("the program has", _versions(config.method))
    flat = configuration.flatten(config)
    common = {path: value for path, value in flat.items() if path not in _OWN_OF_HOSTS}
    hosts.agree("the configuration has", common)
    # The names alone, before any host reads for minutes what another one does not have.
    if TARGET in needed_domains(config):
        names = [path.name for path in episode_files(Path(config.data))]
        hosts.agree(f"the directory {config.data} has", {"files": len(names), "names": _crc(names)})


def check_place(workdir: Path, config: Config, plan: Sequence[Phase]) -> None:
    """Make sure that a run which goes on is not beyond a plan that ``run.last_phase`` ends.

    Raises:
        ValueError: it is.
    """
    if not config.run.last_phase or not (workdir / CHECKPOINTS).exists():
        return
    with Checkpointer(workdir / CHECKPOINTS, read_only=True) as checkpoints:
        host = checkpoints.latest_host()
    if host is None:
        return
    phase, done = host["position"]["phase"], host["position"]["done"]
    if phase > len(plan) or (phase == len(plan) and done):
        raise ValueError(
            f"The run of {workdir} has gone beyond its phase {plan[-1].name}: give a later "
            "run.last_phase, or none, or choose another --workdir."
        )


def _versions(method: str) -> dict[str, str]:
    """Of everything that decides which program is compiled."""
    package = Path(__file__).parent.parent
    files = sorted(package.rglob("*.py"))
    if ":" in method:
        spec = importlib.util.find_spec(method.partition(":")[0])
        files += [] if spec is None or spec.origin is None else [Path(spec.origin)]
    found = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    return found | {"source files": f"{zlib.crc32(b''.join(f.read_bytes() for f in files)):08x}"}


def _crc(names: list[str]) -> str:
    return f"{zlib.crc32(chr(10).join(names).encode()):08x}"


def own_workdir(workdir: Path, resources: ExitStack) -> None:
    """Lock the workdir on host 0, until the resources end.

    Raises:
        ValueError: another process trains there.
    """

    def own() -> None:
        resources.enter_context(lock(workdir))

    hosts.on_first(own)


@contextmanager
def open_progress(updates: int) -> Iterator[Progress]:
    """The line that says how far a run of so many updates is; host 0 shows it."""
    with ExitStack() as resources:
        stream = None if hosts.first() else resources.enter_context(Path(os.devnull).open("w"))
        progress = Progress(updates, stream=stream)
        resources.callback(progress.close)
        yield progress


def open_checkpoints(config: Config, workdir: Path) -> Checkpointer:
    """The checkpoints of a run, which host 0 keeps."""
    if not hosts.first():
        return NoCheckpoints()
    return Checkpointer(workdir / CHECKPOINTS, keep=config.run.keep)


def open_metrics(config: Config, workdir: Path) -> MetricsWriter:
    """The metrics of a run, which host 0 keeps."""
    if not hosts.first():
        return NoMetrics()
    return MetricsWriter(
        workdir,
        tensorboard=config.run.tensorboard,
        wandb_project=config.run.wandb_project,
        config=configuration.flatten(config),
    )

"""The door to a run: its method by name, its configuration, its trained policies.

``config.json`` in a run's directory is the resolved configuration, and ``tasks.json`` describes the
environments that it was built for, so that an agent can be restored without starting a simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from coworld_jax import config as configuration
from coworld_jax import parallel
from coworld_jax.config import Config
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.method import (
    SOURCE,
    TARGET,
    Domain,
    Method,
    State,
    init_train_state,
    make_key,
    source_names,
)
from coworld_jax.methods import DEFAULT, METHODS, find_method
from coworld_jax.policy import AgentPolicy
from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.files import (
    CHECKPOINTS,
    CONFIG,
    SUMMARY,
    read_flat_config,
    read_tasks,
    seed_directory,
)


def method_names() -> tuple[str, ...]:
    """Names of all methods, the default one first."""
    return (DEFAULT, *(name for name in METHODS if name != DEFAULT))


def is_method(text: str) -> bool:
    """Whether ``text`` has the form of a method's name: of the table, or ``module:name``."""
    return text in METHODS or ":" in text


def default_config(method: str = DEFAULT) -> Config:
    """A method with its default settings, and no domains yet.

    Raises:
        ValueError: no such method; the nearest name is given. Or a setting of it has the name of a
            common one.
    """
    settings = find_method(method).settings()
    configuration.require_own_names(method, settings)
    return Config(method=method, settings=settings)


def config_from_flat(flat: Mapping[str, Any]) -> Config:
    """The configuration whose `config.flatten` is ``flat``.

    Raises:
        ValueError: an unknown method, an unknown or missing key, or a value of another type.
    """
    if "method" not in flat:
        raise ValueError(f"The configuration has no method: add it, for example {DEFAULT!r}.")
    return configuration.from_flat(flat, default_config(flat["method"]))


def needed_domains(config: Config) -> tuple[str, ...]:
    """Names of the domains that a run has, sources first.

    Raises:
        ValueError: the configuration does not name a task or the data of one of them.
    """
    needed = find_method(config.method).domains(config.settings)
    configuration.require_domains(config, needed)
    sources = source_names(len(config.source)) if SOURCE in needed else ()
    return (*sources, TARGET) if TARGET in needed else sources


def task_of(config: Config, domain: str) -> str:
    """The task of a domain."""
    if domain == TARGET:
        return config.target
    return config.source[source_names(len(config.source)).index(domain)]


def make_method(config: Config, specs: Mapping[str, EnvironmentSpec]) -> Method:
    """The method of a run.

    Args:
        specs: the environment of each of its domains.

    Raises:
        ValueError: the settings and the domains do not fit together.
    """
    domains = {
        name: Domain(spec.action_size, spec.state_size, spec.episode_steps)
        for name, spec in specs.items()
    }
    return find_method(config.method).make(config.settings, domains)


def read_config(workdir: Path) -> Config:
    """The configuration of a run.

    Fields that are `config.CHANGEABLE` may be missing, in a file of an earlier version: nothing
    that was learnt depends on them, and they have their defaults.

    Raises:
        ValueError: no such file, or one that this version cannot read.
    """
    flat = read_flat_config(workdir)
    usual = configuration.flatten(default_config())
    changeable = {path: usual[path] for path in sorted(configuration.CHANGEABLE)}
    try:
        return config_from_flat(changeable | flat)
    except ValueError as error:
        raise ValueError(f"{workdir / CONFIG} is of another version or damaged: {error}") from error


def check_config(
    workdir: Path,
    config: Config,
    way_out: str = "start it with the old values, or choose another --workdir",
) -> None:
    """Make sure that a workdir is new, or that its run had this configuration.

    Fields that are `config.CHANGEABLE` may differ. Settings on which no update depends may be
    larger than they were (`method.Entry.may_grow`).

    Args:
        way_out: what the user can do, for the error.

    Raises:
        ValueError: the directory belongs to a run with another configuration, or to one that was
            stopped while it copied its beginning.
    """
    if not (workdir / CONFIG).exists():
        if (workdir / CHECKPOINTS).exists():
            raise ValueError(
                f"{workdir} has checkpoints but no {CONFIG}: give --beginning again if that was "
                "interrupted, or delete the directory, or choose another --workdir."
            )
        return
    recorded = read_config(workdir)
    changed = _changed(_grown(recorded, config), config)
    if changed:
        raise ValueError(
            f"{workdir / CONFIG} belongs to a run with another configuration "
            f"({'; '.join(changed)}): {way_out}."
        )


def beginning_of(config: Config) -> Config | None:
    """The run whose end is the common beginning of ``config`` and of runs with other settings.

    Settings that it does not read have their default values there; None where the method has no
    such beginning.
    """
    beginning = find_method(config.method).beginning
    if beginning is None:
        return None
    usual = configuration.flatten(default_config(config.method))
    flat = configuration.flatten(config) | {path: usual[path] for path in beginning.unread}
    return configuration.from_flat(flat | {"run.last_phase": beginning.phase}, config)


def check_beginning(place: Path, config: Config) -> None:
    """Make sure that a run may start from the end of another one.

    Args:
        place: workdir of the other run.
        config: of the run that is to start.

    Raises:
        ValueError: the other one is not finished, or is not a beginning of ``config``.
    """
    recorded = read_config(place)
    if recorded.method != config.method:
        raise ValueError(f"{place} is a run of {recorded.method}, no beginning of {config.method}.")
    found, wanted = beginning_of(recorded), beginning_of(config)
    if found is None or wanted is None:
        raise ValueError(
            f"Runs of {config.method} have no common beginning: leave --beginning out."
        )
    last = wanted.run.last_phase
    if recorded.run.last_phase != last or not (place / SUMMARY).exists():
        raise ValueError(
            f"{place} is no finished run with --config.run.last_phase={last}: only the end of such "
            "a run is a beginning of others."
        )
    changed = _changed(found, wanted)
    if changed:
        raise ValueError(
            f"The run of {place} is no beginning of this one ({'; '.join(changed)}): make one with "
            "this run's settings, or leave --beginning out."
        )


def _changed(recorded: Config, config: Config) -> list[str]:
    """What differs in fields that may not change, a line for each."""
    return [
        line
        for line in configuration.differences(recorded, config)
        if line.partition(":")[0] not in configuration.CHANGEABLE
    ]


def _grown(recorded: Config, config: Config) -> Config:
    """``recorded`` with the larger values of ``config`` in the settings that may grow."""
    if recorded.method != config.method:
        return recorded
    if 1 < recorded.run.seeds < config.run.seeds:  # further seeds change nothing of the others
        recorded = replace(recorded, run=replace(recorded.run, seeds=config.run.seeds))
    before, after = recorded.settings, config.settings
    larger = {
        name: getattr(after, name)
        for name in find_method(config.method).may_grow
        if getattr(after, name) > getattr(before, name)
    }
    return replace(recorded, settings=replace(before, **larger))


class RestoredRun(NamedTuple):
    """What the directory of a run knows, from its latest (or best) checkpoint."""

    config: Config
    specs: dict[str, EnvironmentSpec]  # of each domain
    method: Method
    state: State  # what the method has learnt
    host: dict[str, Any]  # the record beside the state
    updates: int  # of the run, when it was saved


def restore_run(workdir: str | Path, *, best: bool = False) -> RestoredRun:
    """Everything that a finished or running workdir knows.

    Raises:
        ValueError: no such run, or its checkpoint is damaged.
        FileNotFoundError: it has saved nothing yet.
    """
    parallel.check_precision()
    workdir = Path(workdir)
    config = read_config(workdir)
    if config.run.seeds > 1:
        raise ValueError(
            f"{workdir} holds {config.run.seeds} seeds: name the folder of one, such as "
            f"{seed_directory(workdir, config.seed)}, or give load_policy a seed."
        )
    with Checkpointer(workdir / CHECKPOINTS, read_only=True) as checkpoints:
        step = checkpoints.best_step() if best else checkpoints.latest_step()
        if step is None:
            raise FileNotFoundError(
                f"{workdir} has no {'scored ' if best else ''}checkpoint yet: let it train longer."
            )
        specs = read_tasks(workdir)
        method = make_method(config, specs)
        template = parallel.shapes_on_one_device(lambda: init_train_state(method, make_key(0)))
        state, host = checkpoints.restore(template, step)
    return RestoredRun(config, specs, method, state.learnt, host, step)


def load_policy(
    workdir: str | Path,
    *,
    seed: int | None = None,
    domain: str = "",
    best: bool = False,
    explore: bool = False,
) -> AgentPolicy:
    """The policy of a trained run: ``load_policy(workdir).episode(seed)(frame)`` is an action.

    The policy of an agent that reads states takes a state, float32 ``[N]``, in the frame's place.

    Args:
        workdir: of `experiments.train`.
        seed: of a run of several seeds (``run.seeds``).
        domain: ``target``, ``source``, or ``source0`` ... for several sources. If empty, the
            target, or the only domain of a run without one.
        best: the checkpoint with the best evaluation, instead of the latest.
        explore: sample actions instead of taking their mode.

    Raises:
        ValueError: no such run, or no such domain in it.
        FileNotFoundError: the run has saved no checkpoint yet.
    """
    folder = Path(workdir) if seed is None else seed_directory(Path(workdir), seed)
    run = restore_run(folder, best=best)
    domain = domain or (TARGET if TARGET in run.method.players else next(iter(run.specs)))
    return policy_of(run, workdir, domain, explore=explore)


def policy_of(
    run: RestoredRun, workdir: str | Path, domain: str, *, explore: bool = False
) -> AgentPolicy:
    """The policy of a run that has been read, see `load_policy`.

    Args:
        workdir: for the sentence.

    Raises:
        ValueError: no such domain.
    """
    if domain not in run.method.players:
        known = ", ".join(run.method.players)
        raise ValueError(f"{workdir} has no domain {domain}: use one of {known}.")
    spec, player = run.specs[domain], run.method.players[domain]
    return AgentPolicy(player, run.state, spec.image_size, spec.state_size, explore=explore)

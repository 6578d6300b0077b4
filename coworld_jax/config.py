"""The configuration of a run: what all methods share, and the settings of the chosen one.

``flatten`` gives the flags: the fields of `Config` and of its sections, and those of the method's
settings beside them. A section of the settings may have the name of a common one (``schedule``);
its flags then stand among those.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coworld_jax import fields
from coworld_jax.fields import choice, count, share
from coworld_jax.method import SOURCE, TARGET


@dataclass(frozen=True)
class EpisodesConfig:
    """How simulators are played, whoever plays."""

    episode_steps: int = 0  # env_steps per episode; 0 keeps the tasks' own time limits
    episodes_per_collection: int = count(1)  # episodes that are collected together
    replay_episodes: int = count(4000)  # slots of a source's replay; the oldest is reused


@dataclass(frozen=True)
class RunConfig:
    """How the run is carried out.

    Only ``profile``, ``skip_bad_files`` and ``last_phase`` change what is learnt; ``devices``,
    ``seeds``, ``program`` and ``embeddings`` change its last digits.
    """

    chunk: int = count(100)  # updates per jitted call, at most
    workers: int = count(1)  # simulator processes per domain
    profile: str = choice("full", "fast")  # render profile of all simulators, see envs
    eval_every: int = count(1000)  # updates of a phase between evaluations; also at its end
    eval_episodes: int = 10  # of an evaluation; 0 evaluates nothing
    checkpoint_every: int = count(1000)  # updates of a phase between checkpoints; also at its end
    keep: int = count(2)  # latest checkpoints kept, besides the best
    devices: int = 0  # of each host; 0: all accelerators, or the cores that divide B
    mapping: str = choice("jit", "pmap")  # how one program spans the devices; equal results
    grace: float = 20.0  # seconds from a signal on in which a stop waits for episodes under way
    last_phase: str = ""  # the plan ends after the phases of this name; if empty, at its end
    seeds: int = count(1)  # runs that are trained together, from ``seed`` on
    # Who carries the plan out: programs where all simulators are jittable, see training.device.
    program: str = choice("auto", "host", "device")
    resident_share: float = share(0.5)  # of the device's memory; a larger dataset is streamed
    # When a frozen encoder embeds the target's images: in each update, or all of them once as a
    # phase begins, which takes memory and saves time; equal up to rounding.
    embeddings: str = choice("update", "phase")
    skip_bad_files: bool = False
    cache: str = ""  # folder to unpack data beyond the memory in; beside <config.data> if empty
    tensorboard: bool = False
    wandb_project: str = ""


# What may change from one start of a run to the next: how it is carried out, and on what machine.
# Of the data only the path is meant: that they are the same is checked by their fingerprint.
CHANGEABLE = {"data"} | frozenset(
    f"run.{name}"
    for name in (
        *("chunk", "workers", "checkpoint_every", "keep", "devices", "mapping", "program"),
        *("grace", "last_phase", "embeddings"),
        *("resident_share", "cache", "skip_bad_files", "tensorboard", "wandb_project"),
    )
)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on."""

    method: str  # name in the table of methods
    settings: Any  # of that method, an instance of its settings class
    seed: int = 0
    source: tuple[str, ...] = ()  # suite/task, one or more
    target: str = ""  # suite/task: evaluation only
    data: str = ""  # directory of the target's offline episodes
    schedule: EpisodesConfig = field(default_factory=EpisodesConfig)
    run: RunConfig = field(default_factory=RunConfig)


_SHOWN = 3  # names that a suggestion lists, at most
_COMMON = ("method", "seed", "source", "target", "data")
_SECTIONS = ("schedule", "run")


def flatten(config: Config) -> dict[str, Any]:
    """Dotted path to value, for every field and every setting of the method."""
    flat = {name: getattr(config, name) for name in _COMMON}
    for name in _SECTIONS:
        flat |= {path: value for path, value, _ in fields.leaves(getattr(config, name), f"{name}.")}
    return flat | {path: value for path, value, _ in fields.leaves(config.settings)}


def require_own_names(method: str, settings: Any) -> None:
    """Make sure that no setting of a method has the name of a common one.

    Raises:
        ValueError: one has.
    """
    common = {*_COMMON}
    for name, section in (("schedule", EpisodesConfig()), ("run", RunConfig())):
        common |= {path for path, _, _ in fields.leaves(section, f"{name}.")}
    for path, _, _ in fields.leaves(settings):
        if path in common:
            raise ValueError(
                f"The setting {path} of method {method} has the name of a common one: rename it."
            )


def closest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence that refuses an unknown ``name``: what the user may have meant.

    A dotted path is also compared by its last part, of which a user may know only some words: for
    ``lr`` these are ``learning.model_lr`` and others.

    Args:
        name: unknown.
        names: known ones.
        prefix: put before each name that is shown.
    """
    last = name.rpartition(".")[2]

    def likeness(known: str) -> tuple[bool, float]:
        end = known.rpartition(".")[2]
        near = max(
            difflib.SequenceMatcher(a=one, b=other).ratio()
            for one, other in ((name, known), (last, end))
        )
        return last in end.split("_"), near

    ranked = sorted(names, key=likeness, reverse=True)
    if not ranked:
        return "there are none."
    shown = [known for known in ranked if likeness(known)[0]][:_SHOWN] or ranked[:1]
    return f"did you mean {' or '.join(prefix + known for known in shown)}?"


def from_flat(flat: Mapping[str, Any], default: Config) -> Config:
    """The configuration whose `flatten` is ``flat``; lists (from JSON) become tuples.

    Args:
        flat: path to value.
        default: any configuration of the method that ``flat`` names.

    Raises:
        ValueError: an unknown or a missing key, or a value of another type than the field's.
    """
    known = flatten(default)
    for path in flat:
        if path not in known:
            raise ValueError(f"Unknown configuration key {path}: {closest(path, known)}")
    for path, fallback in known.items():
        if path not in flat:
            raise ValueError(f"The configuration has no {path}: add it, for example {fallback!r}.")
    typed = {path: _typed(path, raw, known[path]) for path, raw in flat.items()}
    common = {name: typed[name] for name in _COMMON}
    for name in _SECTIONS:
        common[name] = fields.with_values(getattr(default, name), typed, f"{name}.")
    return replace(default, settings=fields.with_values(default.settings, typed), **common)


def override(config: Config, assignments: Sequence[str]) -> Config:
    """``config`` with fields replaced, each given as ``path=value``.

    Raises:
        ValueError: no such path, no value, or one of another type than the field's.
    """
    flat = flatten(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if path not in flat:
            raise ValueError(f"Unknown configuration key {path}: {closest(path, flat)}")
        if not equals:
            raise ValueError(f"{path} has no value: write {path}=VALUE.")
        try:
            # A text field takes the value as it is written, also a number.
            flat[path] = text if isinstance(flat[path], str) else ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word
            flat[path] = text
    return from_flat(flat, config)


def parts(text: str) -> tuple[str, ...]:
    """What stands between the commas of a text."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _typed(path: str, value: Any, like: Any) -> Any:
    """``value`` as the type of ``like``.

    Integral floats become int, ints float, lists tuples, and a text with commas a tuple.
    """
    if isinstance(value, list) and isinstance(like, tuple):
        return tuple(value)
    if isinstance(value, str) and isinstance(like, tuple):
        return parts(value)
    if type(like) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if type(value) is not type(like):
        raise ValueError(
            f"{path} is {value!r}, but a value of type {type(like).__name__} is needed there."
        )
    return value


def check(config: Config) -> Config:
    """``config`` itself, if every value is in its range.

    Raises:
        ValueError: the first value that is not, with the values that are allowed.
    """
    if config.seed < 0:
        raise ValueError(f"seed is {config.seed}: it must be finite and not negative.")
    for name in _SECTIONS:
        fields.check(getattr(config, name), f"{name}.")
    fields.check(config.settings)
    return config


def require_domains(config: Config, domains: Sequence[str]) -> None:
    """Make sure that the configuration names the tasks and the data that a method needs.

    Args:
        domains: ``source``, ``target`` or both.

    Raises:
        ValueError: a task or the data are not given.
    """
    if SOURCE in domains and not config.source:
        raise ValueError("source is empty: name a task, for example dmc/walker_walk.")
    if TARGET in domains:
        for name, value in (("target", config.target), ("data", config.data)):
            if not value:
                raise ValueError(
                    f"{name} is empty, but the plan uses the target: set --config.{name}."
                )


def differences(old: Config, new: Config) -> list[str]:
    """One line for each field in which two configurations differ: ``path: old -> new``."""
    before, after = flatten(old), flatten(new)
    paths = [*before, *(path for path in after if path not in before)]
    shown = {
        path: tuple(repr(flat[path]) if path in flat else "absent" for flat in (before, after))
        for path in paths
    }
    return [f"{path}: {there} -> {here}" for path, (there, here) in shown.items() if there != here]

"""What a study is: a question, arms, pairs and seeds, and the runs that these make."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from coworld_jax.config import CHANGEABLE, Config, closest, flatten, override
from coworld_jax.method import TARGET
from coworld_jax.workdir import beginning_of, needed_domains
from experiments import studies
from experiments.config_flags import resolve

NO_HIGHER_MEAN = (
    "on more than half of the pairs, the difference of some baseline to CoWorld has an interval "
    "that includes 0 or lies above it. Another way to choose CoWorld's source is no baseline."
)
"""The negative result of most tables."""

NEGATIVE = "A negative result, as defined before the first run:"
"""What stands before `Study.negative` on a page."""

BUDGET_CORES = 2
"""CPU cores that the budget of a study is meant for."""


MEASURES = ("return_mean", "value_bias", "minutes")
"""What `Study.measure` may be."""


class Arm(NamedTuple):
    """One row of a table: a method with its settings."""

    name: str
    method: str
    settings: tuple[str, ...] = ()  # ``path=value``, as flags after ``--config.``
    ending: str = ""  # of the pair's name, for this arm alone: ``-multi``
    seeds: int | None = None  # fewer than the study's, if it has fewer
    minutes: float | None = None  # of a run, if not the study's


class Reference(NamedTuple):
    """What scores are measured by: score 0 and score 1."""

    low: float  # return of random play
    high: float  # best return known, of a scripted controller for example


class Data(NamedTuple):
    """The dataset of a target: all that an agent saw until it was good enough."""

    name: str  # of its folder: task, ``until`` and size
    task: str
    until: str  # medium or expert
    best: float | None  # what ``until`` refers to; None: the best published return
    config: str  # --config of the collection


class Pair(NamedTuple):
    """One column of a table: a pair of the configuration files, and its dataset."""

    suite: str  # file of experiments/configs
    name: str
    until: str = "medium"
    best: float | None = None  # return that the dataset's ``until`` refers to
    reference: Reference | None = None
    settings: tuple[str, ...] = ()  # of all arms on this pair
    listed: bool = True  # whether the configuration file has it; otherwise ``settings`` name tasks


class Run(NamedTuple):
    """One arm on one pair with one seed."""

    pair: str
    arm: str
    seed: int
    config: Config  # without the place of its data
    text: str  # value of --config
    settings: tuple[str, ...]
    data: Data | None  # None for a method that learns in simulators alone

    @property
    def group(self) -> str:
        """What it learns from, as a folder: its dataset, or else its simulators."""
        return slug(" ".join(self.config.source)) if self.data is None else self.data.name

    @property
    def place(self) -> Path:
        """The workdir below the root, by data, method, settings and seed.

        Equal runs have the same place, in whatever arms and studies they are. Such a run is trained
        once for all of them.
        """
        digest = digest_of(_deciding(replace(self.config, seed=0)))
        folder = f"{slug(self.config.method)}-{digest[:8]}"
        return Path("runs", self.group, folder, f"seed_{self.seed}")

    @property
    def digest(self) -> str:
        """SHA-256 of all settings that decide the result, the seed among them."""
        return digest_of(_deciding(self.config))

    @property
    def key(self) -> tuple[str, str, str]:
        """Identifies what the run measures, within its study; equal runs of two arms share it."""
        return self.pair, "" if self.data is None else self.data.name, self.digest

    @property
    def beginning(self) -> tuple[Path, Config] | None:
        """Where the phases are that it shares with other arms, and the run that makes them.

        None for a method whose runs share nothing.
        """
        config = beginning_of(self.config)
        if config is None:
            return None
        name = digest_of(flatten(config))[:8]
        return Path("beginnings", self.group, name, f"seed_{self.seed}"), config


class Study(NamedTuple):
    """A study, as its file in `experiments/studies` writes it down before the first run."""

    title: str
    question: str
    negative: str  # the negative result, as it goes on after `NEGATIVE`
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    seeds: int
    size: str
    first_seed: int = 0  # above 0 where earlier seeds chose what the study asks
    minutes: float | None = None  # of a run on one CPU core, until one of its arm is finished
    hours: float | None = None  # budget of all runs on `BUDGET_CORES`; None where none was set
    measure: str = "return_mean"  # one of `MEASURES`
    further: tuple[str, ...] = ()  # measures that have a table of their own beside it
    baseline: str = ""  # name of the arm that others are compared with; the first one if empty
    settings: tuple[str, ...] = ()  # of all arms
    table: str = ""  # key of `published.json`
    ratio: str = ""  # the table gives multiples of this arm's mean on the same pair
    share: float | None = None  # how long it takes to reach this share of the high reference
    strips: bool = False  # whether the report shows frames of each arm's last evaluation
    latents: bool = False  # whether it shows the embeddings of both encoders
    found: tuple[str, ...] = ()  # paragraphs written after the runs: what was found, with limits

    def seeds_of(self, name: str) -> int:
        """Seeds of the arm of that name."""
        (own,) = [arm.seeds for arm in self.arms if arm.name == name]
        return self.seeds if own is None else min(own, self.seeds)

    @property
    def baseline_arm(self) -> Arm:
        """The arm that the others are compared with."""
        named = [arm for arm in self.arms if arm.name == self.baseline]
        return named[0] if named else self.arms[0]


def digest_of(value: Any) -> str:
    """SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _deciding(config: Config) -> dict[str, Any]:
    """The settings that decide what a run measures, by path; no data, which `Run.group` names."""
    ended = config.run.last_phase != ""  # before the plan's end
    left_out = CHANGEABLE - ({"run.last_phase"} if ended else set())
    return {path: value for path, value in flatten(config).items() if path not in left_out}


def slug(name: str) -> str:
    """``name`` as a folder: ``dmc/walker_walk`` is ``dmc_walker_walk``."""
    letters = "".join(c.lower() if c.isalnum() else " " for c in name)
    return "_".join(letters.split())


def study_names() -> tuple[str, ...]:
    """Names of all studies."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(studies.__path__)))


def find_study(name: str) -> Study:
    """The study of ``experiments/studies/NAME.py``.

    Raises:
        ValueError: no such study, and the nearest name is given; or its measure does not exist.
    """
    if name not in study_names():
        raise ValueError(f"Unknown study {name}: {closest(name, list(study_names()))}")
    study: Study = importlib.import_module(f"experiments.studies.{name}").STUDY
    if study.measure not in MEASURES:
        raise ValueError(
            f"The study {name} measures {study.measure}: choose one of {', '.join(MEASURES)}."
        )
    return study


def runs_of(study: Study) -> Iterator[Run]:
    """All runs of a study: by seed, then pair, then arm, so that early results compare arms.

    A source that is the target itself is left out.

    Raises:
        ValueError: a pair or a setting that does not exist.
    """
    for index in range(study.seeds):
        for pair in study.pairs:
            for arm in study.arms:
                if index >= study.seeds_of(arm.name):
                    continue
                run = _run(study, pair, arm, study.first_seed + index)
                if run.data is None or run.config.target not in run.config.source:
                    yield run


def _run(study: Study, pair: Pair, arm: Arm, seed: int) -> Run:
    parts = [f"{pair.name}{arm.ending}"] if pair.listed else []
    text = ",".join([*parts, study.size, arm.method])
    settings = (*study.settings, *pair.settings, *arm.settings)
    config = replace(_config(pair.suite, text, settings), seed=seed)
    file = f"experiments/configs/{pair.suite}.py"
    offline = TARGET in needed_domains(replace(config, data="to be collected"))
    data = Data(
        f"{slug(config.target)}-{pair.until}-{study.size}",
        config.target,
        pair.until,
        pair.best,
        f"{file}:{study.size}",
    )
    return Run(
        pair=pair.name,
        arm=arm.name,
        seed=seed,
        config=config,
        text=f"{file}:{text}",
        settings=(*settings, f"seed={seed}"),
        data=data if offline else None,
    )


@functools.cache
def _config(suite: str, text: str, settings: tuple[str, ...]) -> Config:
    """What a configuration file makes of ``text``, with ``settings``."""
    module = importlib.import_module(f"experiments.configs.{suite}")
    return override(resolve(module.get_config(text)), list(settings))


def distinct(runs: Sequence[Run]) -> list[Run]:
    """One run for each place: what arms with equal settings have in common is trained once."""
    found: dict[Path, Run] = {}
    for run in runs:
        found.setdefault(run.place, run)
    return list(found.values())


def shared_beginnings(runs: Sequence[Run]) -> dict[Path, list[Run]]:
    """The distinct runs by the beginning that they share with another one."""
    found: dict[Path, list[Run]] = {}
    for run in distinct(runs):
        beginning = run.beginning
        if beginning is not None:
            found.setdefault(beginning[0], []).append(run)
    return {place: sharing for place, sharing in found.items() if len(sharing) > 1}

"""What a study is: a question, arms, pairs and seeds, and the runs that these make."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from coworld_jax.config import Config, closest, flatten, override
from coworld_jax.method import TARGET
from coworld_jax.workdir import beginning_of, needed_domains
from experiments import studies
from experiments.config_flags import resolve


class Arm(NamedTuple):
    """One row of a table: a method with its settings."""

    name: str
    method: str
    settings: tuple[str, ...] = ()  # ``path=value``, as flags after ``--config.``
    ending: str = ""  # of the pair's name, for this arm alone: ``-multi``
    published: str = ""  # the row of the paper's table, if it is not ``name``


class Reference(NamedTuple):
    """What scores are measured by: score 0 and score 1."""

    low: float  # return of random play
    high: float  # best return known, of a scripted controller for example


class Data(NamedTuple):
    """The dataset of a target: all that an agent saw until it was good enough."""

    name: str  # of its folder
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
    def place(self) -> Path:
        """The workdir below the study's root."""
        return Path("runs", self.pair, slug(self.arm), f"seed_{self.seed}")

    @property
    def beginning(self) -> tuple[Path, Config] | None:
        """Where the phases are that it shares with other arms, and the run that makes them.

        None for a method whose runs share nothing.
        """
        config = beginning_of(self.config)
        if config is None:
            return None
        text = json.dumps(flatten(config), sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:8]
        return Path("beginnings", self.pair, name, f"seed_{self.seed}"), config


class Study(NamedTuple):
    """A study, as its file in `experiments/studies` writes it down before the first run."""

    title: str
    question: str
    refuted: str  # the result that would refute the claim
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    seeds: int
    size: str
    minutes: float | None = None  # of a run, on two CPU cores; until a run of the arm is finished
    measure: str = "return_mean"  # key of a record, see `studying.results`
    baseline: str = ""  # the arm that others are compared with; the first one if empty
    settings: tuple[str, ...] = ()  # of all arms
    table: str = ""  # key of `published.json`
    ratio: str = ""  # the arm by whose mean on the same pair the table divides
    strips: bool = False  # whether the report shows frames of each arm's last evaluation
    latents: bool = False  # whether it shows the embeddings of both encoders

    @property
    def against(self) -> str:
        """Name of the arm that the others are compared with."""
        return self.baseline or self.arms[0].name


def slug(name: str) -> str:
    """``name`` as a folder: ``DV2 Finetune + EWC`` is ``dv2_finetune_ewc``."""
    letters = "".join(c.lower() if c.isalnum() else " " for c in name)
    return "_".join(letters.split())


def study_names() -> tuple[str, ...]:
    """Names of all studies."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(studies.__path__)))


def find_study(name: str) -> Study:
    """The study of ``experiments/studies/NAME.py``.

    Raises:
        ValueError: no such study; the nearest name is given.
    """
    if name not in study_names():
        raise ValueError(f"Unknown study {name}: {closest(name, list(study_names()))}")
    study: Study = importlib.import_module(f"experiments.studies.{name}").STUDY
    return study


def runs_of(study: Study) -> Iterator[Run]:
    """All runs of a study: by seed, then pair, then arm, so that early results compare arms.

    A source that is the target itself is left out.

    Raises:
        ValueError: a pair or a setting that does not exist.
    """
    for seed in range(study.seeds):
        for pair in study.pairs:
            for arm in study.arms:
                run = _run(study, pair, arm, seed)
                if run.data is None or run.config.target not in run.config.source:
                    yield run


def _run(study: Study, pair: Pair, arm: Arm, seed: int) -> Run:
    parts = [f"{pair.name}{arm.ending}"] if pair.listed else []
    text = ",".join([*parts, study.size, arm.method])
    settings = (*study.settings, *pair.settings, *arm.settings, f"seed={seed}")
    module = importlib.import_module(f"experiments.configs.{pair.suite}")
    config = override(resolve(module.get_config(text)), list(settings))
    file = f"experiments/configs/{pair.suite}.py"
    offline = TARGET in needed_domains(replace(config, data="to be collected"))
    data = Data(
        f"{slug(config.target)}-{pair.until}",
        config.target,
        pair.until,
        pair.best,
        f"{file}:{study.size}",
    )
    return Run(
        pair.name, arm.name, seed, config, f"{file}:{text}", settings, data if offline else None
    )


def shared_beginnings(runs: Sequence[Run]) -> dict[Path, list[Run]]:
    """The runs by the beginning that they share with another one."""
    found: dict[Path, list[Run]] = {}
    for run in runs:
        if run.beginning is not None:
            found.setdefault(run.beginning[0], []).append(run)
    return {place: sharing for place, sharing in found.items() if len(sharing) > 1}

"""Typed configuration and the presets. Only builders read it; losses and networks never do."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and kinds of the networks of one agent (source and target share them)."""

    latent: str = "gaussian"  # "gaussian" or "categorical"
    groups: int = 50  # Gaussian dimensions, or number of categoricals
    classes: int = 1  # classes per categorical; 1 for Gaussian latents
    deter: int = 200  # recurrent state
    hidden: int = 200  # hidden layers of the RSSM
    cell: str = "plain"  # "plain" or "layer_norm" GRU
    depth: int = 32  # channels of the first convolution; embedding = 32 * depth
    units: int = 400  # hidden layers of all heads
    reward_layers: int = 2
    critic_layers: int = 3
    actor_layers: int = 4
    continue_layers: int = 2
    state_layers: int = 3  # of encoder and decoder where a source reads states
    discount_head: bool = False
    initializer: str = "glorot"  # "glorot" or "torch"
    dtype: str = "float32"  # compute; parameters, losses and targets stay float32
    unroll: int = 1  # steps of the recurrences that one turn of their loops makes; speed only


@dataclass(frozen=True)
class LearningConfig:
    """Optimisation and objective of one agent."""

    batch: int = 50  # chunks per update
    length: int = 50  # rows per chunk
    horizon: int = 15  # imagined states per rollout, the start included
    model_lr: float = 3e-4
    actor_lr: float = 8e-5
    critic_lr: float = 8e-5
    adam_eps: float = 1e-5
    clip: float = 100.0  # global gradient norm, for each optimiser
    weight_decay: float = 0.0  # share of each parameter removed per update
    kl_scale: float = 1.0
    kl_balance: float = 0.8  # share of the KL that trains the prior
    free_nats: float = 1.0
    reward_scale: float = 1.0
    continue_scale: float = 1.0
    discount: float = 0.99
    lambda_: float = 0.95
    dynamics_share: float = 1.0  # rho: 1 dynamics backpropagation, 0 REINFORCE
    entropy_scale: float = 1e-4
    slow_critic_every: int = 100  # behaviour updates between copies


@dataclass(frozen=True)
class CouplingConfig:
    """The couplings A, B and C, each with its switch."""

    state_alignment: bool = True  # A
    alignment_scale: float = 1.5  # beta_2
    reward_alignment: bool = True  # B
    reward_mix: float = 0.9  # k
    source_reward_weight_start: float = 1.0  # eta, over the source updates of co-training
    source_reward_weight_end: float = 0.1
    value_constraint: bool = True  # C
    value_constraint_scale: float = 1.0  # alpha
    constraint_max: bool = True  # False: the ablation without max


@dataclass(frozen=True)
class ScheduleConfig:
    """The curriculum (Algorithm 1), in updates; `schedule.plan` turns it into phases."""

    episode_steps: int = 0  # agent steps per episode; 0 keeps the tasks' own time limits
    prefill_episodes: int = 5  # random episodes per source before anything else
    train_every: int = 5  # env_steps collected per source update
    episodes_per_collection: int = 1  # episodes that are collected together
    replay_episodes: int = 4000  # slots of the source replay; the oldest is reused
    first_updates: int = 0  # extra updates at each agent's first behaviour update
    pretrain_updates: int = 6000
    warmup_rounds: int = 2
    warmup_target_updates: int = 10000  # world model only, with coupling A
    warmup_source_updates: int = 2000
    rounds: int = 6
    target_updates: int = 10000
    source_updates: int = 4000
    final_source_phase: bool = False  # whether the last round trains the source as well


@dataclass(frozen=True)
class RunConfig:
    """How the run is carried out; nothing here but ``profile`` changes what is learnt."""

    chunk: int = 100  # updates per jitted call, at most
    workers: int = 1  # simulator processes per domain
    profile: str = "full"  # render profile of both simulators, see envs
    eval_every: int = 1000  # updates of a phase between evaluations; its end is one as well
    eval_episodes: int = 10
    checkpoint_every: int = 1000  # updates of a phase between checkpoints; its end is one as well
    keep: int = 2  # latest checkpoints kept, besides the best
    devices: int = 0  # 0 uses every local device
    resident_share: float = 0.5  # of the device's memory; a larger dataset is streamed
    skip_bad_files: bool = False
    cache: str = ""  # folder to unpack data beyond the memory in; beside <config.data> if empty
    tensorboard: bool = False
    wandb_project: str = ""


# What may change from one start of a run to the next: how it is carried out, and on what machine.
CHANGEABLE = frozenset(
    f"run.{name}"
    for name in (
        *("chunk", "workers", "checkpoint_every", "keep", "devices", "resident_share", "cache"),
        *("tensorboard", "wandb_project"),
    )
)


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on."""

    seed: int = 0
    source: tuple[str, ...] = ()  # suite/task, one or more
    source_observation: str = "image"  # what source agents read: "image", or the "state" vector
    target: str = ""  # suite/task: evaluation only
    data: str = ""  # directory of the target's offline episodes
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)


def released() -> Config:
    """The authors' code: Gaussian latents, no discount head (their batch is 150x50)."""
    return Config(
        network=NetworkConfig(cell="layer_norm", initializer="torch"),
        learning=LearningConfig(batch=150, reward_scale=2.0),
        schedule=ScheduleConfig(first_updates=99),
    )


def paper() -> Config:
    """Table 8: 32x32 categorical latents, 600 units, depth 48, discount head."""
    return Config(
        network=NetworkConfig(
            latent="categorical",
            groups=32,
            classes=32,
            deter=600,
            hidden=600,
            cell="layer_norm",
            depth=48,
            reward_layers=4,
            critic_layers=4,
            actor_layers=4,
            continue_layers=4,
            discount_head=True,
        ),
        learning=LearningConfig(model_lr=2e-4, actor_lr=4e-5, critic_lr=1e-4, discount=0.995),
    )


def small() -> Config:
    """The same code in minutes on two CPU cores."""
    return Config(
        network=NetworkConfig(
            groups=24,
            deter=128,
            hidden=128,
            cell="layer_norm",
            depth=12,
            units=128,
            critic_layers=2,
            actor_layers=2,
        ),
        learning=LearningConfig(batch=16, length=16, model_lr=6e-4, actor_lr=2e-4, critic_lr=2e-4),
        schedule=ScheduleConfig(
            pretrain_updates=3000,
            warmup_rounds=1,
            warmup_target_updates=1000,
            warmup_source_updates=500,
            rounds=4,
            target_updates=1500,
            source_updates=500,
        ),
        run=RunConfig(profile="fast"),
    )


def quickstart() -> Config:
    """`small`, cut to the shortest run that shows every phase; its world model learns faster."""
    config = small()
    return replace(
        config,
        learning=replace(config.learning, model_lr=1.5e-3),
        schedule=replace(
            config.schedule,
            pretrain_updates=600,
            warmup_target_updates=400,
            warmup_source_updates=100,
            rounds=2,
            target_updates=300,
            source_updates=100,
        ),
        run=replace(config.run, eval_every=10_000, eval_episodes=2, checkpoint_every=300),
    )


PRESETS = {"paper": paper, "released": released, "small": small, "quickstart": quickstart}

_CHOICES = {
    "source_observation": ("image", "state"),
    "network.latent": ("gaussian", "categorical"),
    "network.cell": ("plain", "layer_norm"),
    "network.initializer": ("glorot", "torch"),
    "network.dtype": ("float32", "bfloat16"),
    "run.profile": ("full", "fast"),
}
_SHARES = (
    "learning.kl_balance",
    "learning.discount",
    "learning.lambda_",
    "learning.dynamics_share",
    "coupling.reward_mix",
    "coupling.source_reward_weight_start",
    "coupling.source_reward_weight_end",
    "run.resident_share",
)
_MAY_BE_ZERO = ("seed", "learning.weight_decay", "run.devices")


def flatten(config: Config) -> dict[str, Any]:
    """Dotted path to value, for every field."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[name] = value
    return flat


def closest(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that refuses an unknown ``name``: what the user may have meant."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f"did you mean {near[0]}?" if near else "there are none."


def from_flat(flat: Mapping[str, Any]) -> Config:
    """The configuration whose `flatten` is ``flat``; lists (from JSON) become tuples.

    Raises:
        ValueError: an unknown or a missing key, or a value of another type than the field's.
    """
    default = Config()
    known = flatten(default)
    for path in flat:
        if path not in known:
            raise ValueError(f"Unknown configuration key {path}: {closest(path, known)}")
    for path, fallback in known.items():
        if path not in flat:
            raise ValueError(f"The configuration has no {path}: add it, for example {fallback!r}.")
    config = default
    for path, raw in flat.items():
        config = _replace_path(config, path, _typed(path, raw, known[path]))
    return config


def override(config: Config, assignments: Sequence[str]) -> Config:
    """``config`` with fields replaced, each given as ``path=value``.

    Raises:
        ValueError: no such path, or a value of another type than the field's.
    """
    flat = flatten(config)
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        if path not in flat:
            raise ValueError(f"Unknown configuration key {path}: {closest(path, flat)}")
        try:
            flat[path] = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word
            flat[path] = text
    return from_flat(flat)


def _typed(path: str, value: Any, like: Any) -> Any:
    """``value`` as the type of ``like``: integral floats as int, ints as float, lists as tuples."""
    if isinstance(value, list) and isinstance(like, tuple):
        return tuple(value)
    if type(like) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(like, float) and type(value) is int:
        return float(value)
    if type(value) is not type(like):
        raise ValueError(
            f"{path} is {value!r}, but a value of type {type(like).__name__} is needed there."
        )
    return value


def _replace_path(config: Config, path: str, value: Any) -> Config:
    section, _, name = path.rpartition(".")
    if not section:
        return replace(config, **{name: value})
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def check(config: Config) -> Config:
    """``config`` itself, if every value is in its range.

    Raises:
        ValueError: the first value that is not, with the values that are allowed.
    """
    flat = flatten(config)
    for path, choices in _CHOICES.items():
        if flat[path] not in choices:
            raise ValueError(f"{path} is {flat[path]!r}: use one of {', '.join(choices)}.")
    for path in _SHARES:
        if not 0.0 <= flat[path] <= 1.0:
            raise ValueError(f"{path} is {flat[path]}: it must lie between 0 and 1.")
    for path, value in flat.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{path} is {value}: it must be finite and not negative.")
        counts = path.startswith(("network.", "learning.", "run.")) and type(value) is int
        if counts and value == 0 and path not in _MAY_BE_ZERO:
            raise ValueError(f"{path} is 0: it must be at least 1.")
    categorical, classes = config.network.latent == "categorical", config.network.classes
    if categorical != (classes > 1):
        raise ValueError(
            f"network.classes is {classes}: categorical latents need at least 2, Gaussian ones 1."
        )
    if not config.source:
        raise ValueError("source is empty: name a task, for example dmc/walker_walk.")
    if config.learning.horizon < 2:
        raise ValueError(f"learning.horizon is {config.learning.horizon}: it must be at least 2.")
    if config.schedule.prefill_episodes == 0:
        raise ValueError("schedule.prefill_episodes is 0: the source needs at least one episode.")
    if config.schedule.train_every == 0 or config.schedule.episodes_per_collection == 0:
        raise ValueError(
            "schedule.train_every and schedule.episodes_per_collection must be at least 1."
        )
    return config


def require_target(config: Config) -> None:
    """Make sure that the target is given.

    Raises:
        ValueError: its task or its data are not.
    """
    for name, value in (("target", config.target), ("data", config.data)):
        if not value:
            raise ValueError(
                f"{name} is empty, but the plan uses the target: set --config.{name}, or set "
                "schedule.warmup_rounds and schedule.rounds to 0 to train the source alone."
            )


def differences(old: Config, new: Config) -> list[str]:
    """One line for each field in which two configurations differ: ``path: old -> new``."""
    before, after = flatten(old), flatten(new)
    return [
        f"{path}: {before[path]!r} -> {after[path]!r}"
        for path in before
        if before[path] != after[path]
    ]

"""Typed configuration and the presets. Only builders read it; losses and networks never do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace


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
    discount_head: bool = False
    initializer: str = "glorot"  # "glorot" or "torch"
    dtype: str = "float32"  # compute; parameters, losses and targets stay float32


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
    eval_every: int = 1000  # updates between evaluations; phases end with one as well
    eval_episodes: int = 10
    checkpoint_every: int = 1000  # updates between checkpoints; phases end with one as well
    keep: int = 2  # latest checkpoints kept, besides the best
    devices: int = 0  # 0 uses every local device
    resident_share: float = 0.5  # of available memory; a larger dataset is streamed
    skip_bad_files: bool = False
    tensorboard: bool = False
    wandb_project: str = ""


@dataclass(frozen=True)
class Config:
    """Everything that a run depends on."""

    seed: int = 0
    source: str = ""  # suite/task; several, separated by commas
    target: str = ""  # suite/task: evaluation only
    data: str = ""  # directory of the target's offline episodes
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the source tasks."""
        return tuple(name.strip() for name in self.source.split(",") if name.strip())


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
    """`small`, cut to the shortest run that shows every phase."""
    config = small()
    return replace(
        config,
        schedule=replace(
            config.schedule,
            pretrain_updates=600,
            warmup_target_updates=300,
            warmup_source_updates=100,
            rounds=2,
            target_updates=300,
            source_updates=100,
        ),
        run=replace(config.run, eval_every=600, eval_episodes=2, checkpoint_every=300),
    )


PRESETS = {"paper": paper, "released": released, "small": small, "quickstart": quickstart}


def replace_path(config: Config, path: str, value: object) -> Config:
    """``config`` with the field at a dotted path replaced, e.g. ``learning.batch``."""
    section, _, name = path.rpartition(".")
    if not section:
        return replace(config, **{name: value})  # type: ignore[arg-type]
    return replace(config, **{section: replace(getattr(config, section), **{name: value})})


def flatten(config: Config) -> dict[str, object]:
    """Dotted path to value, for every field."""
    flat: dict[str, object] = {}
    for name, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[name] = value
    return flat

"""Settings of CoWorld."""

from __future__ import annotations

from dataclasses import dataclass, field

from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.fields import choice, share
from coworld_jax.schedule import OnlineConfig


@dataclass(frozen=True)
class CouplingConfig:
    """The couplings A, B and C, each with its switch."""

    state_alignment: bool = True  # A
    alignment_scale: float = 1.5  # beta_2
    reward_alignment: bool = True  # B
    reward_mix: float = share(0.9)  # k
    source_reward_weight_start: float = share(1.0)  # eta, over the source updates of co-training
    source_reward_weight_end: float = share(0.1)
    value_constraint: bool = True  # C
    value_constraint_scale: float = 1.0  # alpha
    constraint_max: bool = True  # False: the ablation without max
    selection: str = choice("update", "phase")  # how often the nearest of several is taken


@dataclass(frozen=True)
class CurriculumConfig(OnlineConfig):
    """Algorithm 1, in updates; `plan.make_plan` turns it into phases."""

    pretrain_updates: int = 6000
    warmup_rounds: int = 2
    warmup_target_updates: int = 10000  # world model only, with coupling A
    warmup_source_updates: int = 2000
    rounds: int = 6
    target_updates: int = 10000
    source_updates: int = 4000
    final_source_phase: bool = False  # whether the last round trains the source as well

    def needs_target(self) -> bool:
        """Whether any phase reads the target's data."""
        warm_up = self.warmup_rounds and self.warmup_target_updates + self.warmup_source_updates
        return bool(warm_up or self.rounds)


@dataclass(frozen=True)
class CoWorldSettings:
    """Everything that CoWorld depends on besides its domains."""

    source_observation: str = choice("image", "state")  # what source agents read
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    schedule: CurriculumConfig = field(default_factory=CurriculumConfig)

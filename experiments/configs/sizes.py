"""The settings of each method at each size: ``paper``, ``released``, ``small``, ``planar`` and
``quickstart``.

``paper`` and ``released`` run the authors' loop. The totals come from replaying its counters:

| target's suite | source updates, env_steps | target: world model alone, joint |
|---|---|---|
| Meta-World, RoboDesk | 30,099 over 150,000 (and 5,000 random) | 20,000, 60,099 |
| DeepMind Control | 15,099 over 75,000 (and 2,500 random) | 10,000, 12,099 |

The paper's Table 8 counts a round's env_steps, of which every fifth pays for an update: 2e4 for the
source and 5e4 for the target, on DeepMind Control 2e4 for both, in frames, two to an env_step.
``small``, ``planar`` and ``quickstart`` have their own, shorter schedule. The other methods that
are built from DreamerV2 agents get the updates that CoWorld's agents get, but for the 99 first
ones, so that a comparison is fair. Methods with official code of their own have its hyperparameters
at ``paper`` and ``released``. Those without a world model get the 300k iterations that the paper
grants them (section 4.5); their files say how these are read. A method without a line in
`_SETTINGS` has its default settings at every size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from coworld_jax.agents import lompo, offline_dv2
from coworld_jax.agents.dreamer.settings import LEARNING, NETWORKS, LearningConfig, NetworkConfig
from coworld_jax.agents.model_free.settings import (
    FramesConfig,
    NoiseConfig,
    OptimisationConfig,
    PixelNetworkConfig,
)
from coworld_jax.config import Config, RunConfig
from coworld_jax.methods.bc import BcSettings
from coworld_jax.methods.coworld.settings import (
    CouplingConfig,
    CoWorldSettings,
    CurriculumConfig,
)
from coworld_jax.methods.cql import CqlSettings
from coworld_jax.methods.curl import CurlSettings
from coworld_jax.methods.dreamer import DreamerSettings
from coworld_jax.methods.drq_bc import DrqBcSettings
from coworld_jax.methods.finetune import FinetuneSettings
from coworld_jax.methods.lompo import LompoSettings
from coworld_jax.methods.lompo_finetune import LompoFinetuneSettings, OnlineAgentConfig
from coworld_jax.methods.multitask import MultitaskSettings
from coworld_jax.methods.offline_dv2 import OfflineDV2Settings
from coworld_jax.methods.r3m_bc import R3mBcSettings
from coworld_jax.schedule import OnlineConfig
from coworld_jax.workdir import default_config

# Sizes that are meant to reproduce numbers, and so take the schedule of the suite.
_FULL = ("paper", "released")

SIZES = (*_FULL, "small", "planar", "quickstart")


class Suite(NamedTuple):
    """What all pairs share whose targets belong to one suite."""

    alignment_scale: float  # beta_2, as the next two from Table 8, for every size
    reward_mix: float  # k
    value_constraint_scale: float  # alpha
    schedule: CurriculumConfig  # of the sizes paper and released, as the next one
    eval_every: int  # updates; the authors' target is evaluated as often
    cell: str  # of the size released, as the next one; both from the authors' code
    reward_scale: float


MANIPULATION = Suite(  # Meta-World and RoboDesk
    alignment_scale=1.0,
    reward_mix=0.3,
    value_constraint_scale=2.0,
    schedule=CurriculumConfig(
        prefill_episodes=10,
        first_updates=99,
        pretrain_updates=6000,
        warmup_rounds=2,
        warmup_target_updates=10_000,
        warmup_source_updates=2000,
        rounds=6,
        target_updates=10_000,
        source_updates=4000,
    ),
    eval_every=2000,
    cell="plain",
    reward_scale=1.0,
)
PLANAR = Suite(  # ours; the couplings are those of Meta-World
    alignment_scale=1.0,
    reward_mix=0.3,
    value_constraint_scale=2.0,
    schedule=MANIPULATION.schedule,
    eval_every=2000,
    cell="layer_norm",
    reward_scale=1.0,
)
LOCOMOTION = Suite(  # DeepMind Control
    alignment_scale=1.5,
    reward_mix=0.9,
    value_constraint_scale=1.0,
    schedule=CurriculumConfig(
        prefill_episodes=5,
        first_updates=99,
        pretrain_updates=3000,
        warmup_rounds=2,
        warmup_target_updates=5000,
        warmup_source_updates=1000,
        rounds=6,
        target_updates=2000,
        source_updates=2000,
    ),
    eval_every=1000,
    cell="layer_norm",
    reward_scale=2.0,
)

_SMALL = CurriculumConfig(
    pretrain_updates=3000,
    warmup_rounds=1,
    warmup_target_updates=1000,
    warmup_source_updates=500,
    rounds=4,
    target_updates=1500,
    source_updates=500,
)
_PLANAR = CurriculumConfig(  # episodes are short, so that more of them fit into the beginning
    prefill_episodes=20,
    pretrain_updates=2000,
    warmup_rounds=1,
    warmup_target_updates=1000,
    warmup_source_updates=500,
    rounds=4,
    target_updates=1000,
    source_updates=500,
)
_QUICKSTART = replace(  # the shortest run that shows every phase
    _SMALL,
    pretrain_updates=600,
    warmup_target_updates=400,
    warmup_source_updates=100,
    rounds=2,
    target_updates=300,
    source_updates=100,
)
_RUNS = {
    "paper": RunConfig(),
    "released": RunConfig(),
    "small": RunConfig(profile="fast"),
    "planar": RunConfig(profile="fast", eval_every=500, checkpoint_every=500),
    "quickstart": RunConfig(
        profile="fast", eval_every=10_000, eval_episodes=2, checkpoint_every=300
    ),
}


class Size(NamedTuple):
    """What the settings of every method are made from."""

    name: str
    network: NetworkConfig
    learning: LearningConfig
    curriculum: CurriculumConfig
    suite: Suite

    @property
    def source_updates(self) -> int:
        """All updates of CoWorld's source but its first ones."""
        c = self.curriculum
        alternating = (c.rounds - 1 + c.final_source_phase) * c.source_updates
        return c.pretrain_updates + c.warmup_rounds * c.warmup_source_updates + alternating

    @property
    def model_updates(self) -> int:
        """All updates of the target's world model alone."""
        return self.curriculum.warmup_rounds * self.curriculum.warmup_target_updates

    @property
    def target_updates(self) -> int:
        """All joint updates of the target."""
        return self.curriculum.rounds * self.curriculum.target_updates


def _coworld(size: Size) -> CoWorldSettings:
    suite = size.suite
    coupling = CouplingConfig(
        alignment_scale=suite.alignment_scale,
        reward_mix=suite.reward_mix,
        value_constraint_scale=suite.value_constraint_scale,
    )
    return CoWorldSettings(
        network=size.network, learning=size.learning, coupling=coupling, schedule=size.curriculum
    )


def _online(size: Size) -> OnlineConfig:
    curriculum = size.curriculum
    return OnlineConfig(
        prefill_episodes=curriculum.prefill_episodes,
        train_every=curriculum.train_every,
        first_updates=curriculum.first_updates,
    )


def _dreamer(size: Size) -> DreamerSettings:
    return DreamerSettings(
        updates=size.source_updates,
        network=size.network,
        learning=size.learning,
        schedule=_online(size),
    )


def _finetune(size: Size) -> FinetuneSettings:
    return FinetuneSettings(
        source_updates=size.source_updates,
        model_updates=size.model_updates,
        target_updates=size.target_updates,
        network=size.network,
        learning=size.learning,
        schedule=_online(size),
    )


def _multitask(size: Size) -> MultitaskSettings:
    return MultitaskSettings(
        updates=size.target_updates,
        network=size.network,
        learning=size.learning,
        schedule=_online(size),
    )


class Pixels(NamedTuple):
    """What the methods without a world model share at a size."""

    updates: int
    image_size: int  # of the frames; CURL takes windows of its own from them
    network: PixelNetworkConfig
    batch: int
    learning_rate: float


_OFFICIAL = Pixels(150_000, 84, PixelNetworkConfig(), batch=256, learning_rate=3e-4)
_PIXELS = {
    "paper": _OFFICIAL,
    "released": _OFFICIAL,
    "small": Pixels(
        10_000, 64, PixelNetworkConfig(channels=16, hidden=256), batch=64, learning_rate=3e-4
    ),
    "planar": Pixels(
        4000, 64, PixelNetworkConfig(channels=16, hidden=256), batch=32, learning_rate=1e-3
    ),
    "quickstart": Pixels(
        600, 64, PixelNetworkConfig(channels=16, hidden=256), batch=32, learning_rate=1e-3
    ),
}


def _pixel_sections(pixels: Pixels) -> dict[str, Any]:
    """What DrQ+BC, CQL and BC have alike; the noise falls for five sixths of the updates."""
    return {
        "updates": pixels.updates,
        "frames": FramesConfig(image_size=pixels.image_size),
        "network": pixels.network,
        "learning": OptimisationConfig(pixels.batch, pixels.learning_rate),
        "noise": NoiseConfig(updates=pixels.updates * 5 // 6),
    }


def _drq_bc(size: Size) -> DrqBcSettings:
    return DrqBcSettings(**_pixel_sections(_PIXELS[size.name]))


def _cql(size: Size) -> CqlSettings:
    return CqlSettings(**_pixel_sections(_PIXELS[size.name]))


def _bc(size: Size) -> BcSettings:
    return BcSettings(**_pixel_sections(_PIXELS[size.name]))


def _curl(size: Size) -> CurlSettings:
    """One update per iteration, so twice as many; frames of 100 pixels where the size is full."""
    pixels, full = _PIXELS[size.name], size.name in _FULL
    return CurlSettings(
        updates=2 * pixels.updates,
        crop=84 if full else 54,
        frames=FramesConfig(image_size=100 if full else pixels.image_size),
        network=pixels.network,
        learning=OptimisationConfig(batch=pixels.batch // 2, learning_rate=1e-3),
    )


def _r3m_bc(size: Size) -> R3mBcSettings:
    """The official length, or the other methods' where that is shorter."""
    return R3mBcSettings(updates=min(20_000, _PIXELS[size.name].updates))


def _model_updates(size: Size, official: int) -> int:
    """Of a world model that learns before its behaviour: all that the target's model gets."""
    return official if size.name in _FULL else size.model_updates + size.target_updates


def _offline_dv2(size: Size) -> OfflineDV2Settings:
    return OfflineDV2Settings(
        model_updates=_model_updates(size, 25_000),
        updates=200_000 if size.name in _FULL else size.target_updates,
        network=offline_dv2.NETWORKS[size.name],
        learning=offline_dv2.LEARNING[size.name],
    )


# Updates of LOMPO's agent, which cost a fraction of those of a world model.
_LOMPO_UPDATES = {
    "paper": 100_000,
    "released": 100_000,
    "small": 20_000,
    "planar": 8000,
    "quickstart": 1000,
}


def _lompo(size: Size) -> LompoSettings:
    return LompoSettings(
        model_updates=_model_updates(size, 25_000),
        updates=_LOMPO_UPDATES[size.name],
        network=lompo.NETWORKS[size.name],
        learning=lompo.LEARNING[size.name],
        buffers=lompo.BUFFERS[size.name],
    )


def _lompo_finetune(size: Size) -> LompoFinetuneSettings:
    half = _lompo(size)
    batches = {"batch": half.learning.batch, "length": half.learning.length}
    return LompoFinetuneSettings(
        source_updates=size.source_updates,
        model_updates=half.model_updates,
        updates=half.updates,
        online=OnlineAgentConfig(size.network, replace(size.learning, **batches), _online(size)),
        network=half.network,
        learning=half.learning,
        buffers=half.buffers,
    )


_SETTINGS: dict[str, Callable[[Size], Any]] = {
    "bc": _bc,
    "coworld": _coworld,
    "cql": _cql,
    "curl": _curl,
    "dreamer": _dreamer,
    "drq_bc": _drq_bc,
    "finetune": _finetune,
    "lompo": _lompo,
    "lompo_finetune": _lompo_finetune,
    "multitask": _multitask,
    "r3m_bc": _r3m_bc,
    "offline_dv2": _offline_dv2,
}


def make_size(size: str, suite: Suite) -> Size:
    """The sizes of networks, batches and schedule at a size, with the values of a suite."""
    network, learning = NETWORKS[size], LEARNING[size]
    if size == "released":
        network = replace(network, cell=suite.cell)
        learning = replace(learning, reward_scale=suite.reward_scale)
    schedules = {"small": _SMALL, "planar": _PLANAR, "quickstart": _QUICKSTART}
    schedule = schedules[size] if size in schedules else suite.schedule
    return Size(size, network, learning, schedule, suite)


def sized_config(method: str, size: str, suite: Suite = LOCOMOTION) -> Config:
    """The configuration of a method at a size, without its domains.

    Raises:
        ValueError: no such method.
    """
    config = default_config(method)
    run = _RUNS[size]
    if size in _FULL:
        run = replace(run, eval_every=suite.eval_every)
    if method in _SETTINGS:
        config = replace(config, settings=_SETTINGS[method](make_size(size, suite)))
    return replace(config, run=run)

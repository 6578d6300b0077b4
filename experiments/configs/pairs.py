"""What the suites' configuration files share: the form of ``--config=FILE:STRING``, and numbers.

| STRING | what the configuration is |
|---|---|
| ``PAIR`` | one cell of the paper's tables, source and target included, at the size ``paper`` |
| ``PAIR,SIZE`` | the same pair at the size ``paper``, ``released``, ``small`` or ``quickstart`` |
| ``SIZE`` | no pair: the source and the target are flags of their own |

A size is a preset of `coworld_jax.config`. The target's suite adds what the paper and the authors'
code set for it. Every field remains a flag, ``--config.data`` is always needed, and whoever has
other tasks in mind starts from ``SIZE``.

``paper`` and ``released`` run the authors' loop, whose totals their clock was replayed for:

| target's suite | source updates, env_steps | target: world model alone, joint |
|---|---|---|
| Meta-World, RoboDesk | 30,099 over 150,000 (and 5,000 random) | 20,000, 60,099 |
| DeepMind Control | 15,099 over 75,000 (and 2,500 random) | 10,000, 12,099 |

The paper's Table 8 counts a round's env_steps, of which every fifth pays for an update: 2e4 for the
source and 5e4 for the target, on DeepMind Control 2e4 for both, in frames, two to an env_step.
``small`` and ``quickstart`` keep their own, shorter schedule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ml_collections import ConfigDict

from coworld_jax.config import PRESETS, Config, ScheduleConfig, closest, override

# Sizes that are meant to reproduce numbers, and so take the schedule of the suite.
_FULL = ("paper", "released")


class Suite(NamedTuple):
    """What all pairs share whose targets belong to one suite."""

    alignment_scale: float  # beta_2, as the next two from Table 8, for every size
    reward_mix: float  # k
    value_constraint_scale: float  # alpha
    schedule: ScheduleConfig  # of the sizes paper and released, as the next one
    eval_every: int  # updates; the authors' target is evaluated as often
    cell: str  # of the size released, as the next one; both from the authors' code
    reward_scale: float


class Score(NamedTuple):
    """A published return over 3 seeds of 10 episodes."""

    mean: int
    std: int | None = None  # where it is printed


class Pair(NamedTuple):
    """One cell of the paper."""

    where: str  # table or figure
    source: tuple[str, ...]  # tasks; with several, the one that Figures 3 and 4 call best leads
    target: str
    coworld: Score | None = None  # published returns; Figure 4 has none in figures
    finetune: Score | None = None  # of DV2 Finetune, in tables that have only this other row
    offline: Score | None = None  # of Offline DV2, likewise
    options: tuple[str, ...] = ()  # further fields of the configuration, as ``path=value``


MANIPULATION = Suite(  # Meta-World and RoboDesk
    alignment_scale=1.0,
    reward_mix=0.3,
    value_constraint_scale=2.0,
    schedule=ScheduleConfig(
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
LOCOMOTION = Suite(  # DeepMind Control
    alignment_scale=1.5,
    reward_mix=0.9,
    value_constraint_scale=1.0,
    schedule=ScheduleConfig(
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


def make_config(suite: Suite, pairs: Mapping[str, Pair], text: str) -> ConfigDict:
    """The configuration that ``text`` names, as flags override it.

    Args:
        suite: of the targets of ``pairs``.
        pairs: by name.
        text: ``PAIR``, ``PAIR,SIZE`` or ``SIZE``.

    Raises:
        ValueError: no such pair or size; the closest name is given.
    """
    name, comma, size = text.partition(",")
    if not comma and name in PRESETS:
        return ConfigDict(dataclasses.asdict(_sized(suite, name)))
    if name not in pairs:
        kinds, known = ("pair", [*pairs]) if comma else ("pair or size", [*pairs, *PRESETS])
        raise ValueError(f"Unknown {kinds} {name}: {closest(name, known)}")
    if comma and size not in PRESETS:
        raise ValueError(f"Unknown size {size} of pair {name}: {closest(size, PRESETS)}")
    pair = pairs[name]
    config = _sized(suite, size if comma else "paper")
    config = override(
        replace(config, source=pair.source, target=pair.target),
        pair.options,
    )
    return ConfigDict(dataclasses.asdict(config))


def _sized(suite: Suite, size: str) -> Config:
    """A preset with the suite's values in it."""
    config = PRESETS[size]()
    config = replace(
        config,
        coupling=replace(
            config.coupling,
            alignment_scale=suite.alignment_scale,
            reward_mix=suite.reward_mix,
            value_constraint_scale=suite.value_constraint_scale,
        ),
    )
    if size in _FULL:
        run = replace(config.run, eval_every=suite.eval_every)
        config = replace(config, schedule=suite.schedule, run=run)
    if size == "released":
        config = replace(
            config,
            network=replace(config.network, cell=suite.cell),
            learning=replace(config.learning, reward_scale=suite.reward_scale),
        )
    return config

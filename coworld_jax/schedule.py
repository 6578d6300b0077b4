"""Phases that the plans of several methods are made of."""

from __future__ import annotations

from dataclasses import dataclass

from coworld_jax.fields import count
from coworld_jax.method import Domain, Phase

MEASURING_UPDATES = 50
"""Batches of random play from which the unit of a state is measured."""


@dataclass(frozen=True)
class OnlineConfig:
    """How an agent learns in a simulator while it plays there."""

    prefill_episodes: int = count(5)  # random episodes before anything else
    train_every: int = count(5)  # env_steps collected per update
    first_updates: int = 0  # extra updates at an agent's first behaviour update


def prefill(name: str, domain: Domain, online: OnlineConfig) -> Phase:
    """Random episodes of the domain ``name``, before anything is learnt there."""
    return Phase("prefill", plays=name, env_steps=online.prefill_episodes * domain.episode_steps)


def learn_online(
    phase: Phase, online: OnlineConfig, updates: int, first_updates: int = 0
) -> tuple[Phase, ...]:
    """``phase`` with so many updates, one for each ``train_every`` env_steps of its domain.

    Args:
        phase: with its name, update and domains.
        online: how it is played.
        updates: one for each ``train_every`` env_steps.
        first_updates: further updates at its beginning, made before any new data are collected.

    Returns:
        That phase, or nothing where it has no updates.
    """
    if updates + first_updates == 0:
        return ()
    return (
        phase._replace(
            updates=updates + first_updates,
            env_steps=updates * online.train_every,
            first_updates=first_updates,
        ),
    )


def learn_offline(phase: Phase, updates: int, first_updates: int = 0) -> tuple[Phase, ...]:
    """``phase`` with so many updates on a fixed dataset; nothing where it has none."""
    if updates + first_updates == 0:
        return ()
    return (phase._replace(updates=updates + first_updates, first_updates=first_updates),)

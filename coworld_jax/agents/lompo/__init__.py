"""LOMPO: a Gaussian ensemble model, two buffers of its features, an agent that learns from both."""

from coworld_jax.agents.lompo.agent import (
    Lompo,
    LompoState,
    empty_buffers,
    fresh_moments,
    init_lompo,
    make_acting,
    make_lompo_agent,
    pick,
)
from coworld_jax.agents.lompo.settings import (
    BUFFERS,
    LEARNING,
    NETWORKS,
    BuffersConfig,
    ImaginationConfig,
    LearningConfig,
    NetworkConfig,
)

__all__ = [
    "BUFFERS",
    "LEARNING",
    "NETWORKS",
    "BuffersConfig",
    "ImaginationConfig",
    "LearningConfig",
    "Lompo",
    "LompoState",
    "NetworkConfig",
    "empty_buffers",
    "fresh_moments",
    "init_lompo",
    "make_acting",
    "make_lompo_agent",
    "pick",
]

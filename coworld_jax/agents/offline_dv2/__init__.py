"""Offline DV2 of V-D4RL: a categorical ensemble model, and behaviour with a penalty."""

from coworld_jax.agents.offline_dv2.settings import (
    LEARNING,
    NETWORKS,
    LearningConfig,
    NetworkConfig,
)

__all__ = ["LEARNING", "NETWORKS", "LearningConfig", "NetworkConfig"]

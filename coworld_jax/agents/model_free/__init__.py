"""Agents without a world model: pure updates, their random numbers passed in as arguments."""

from coworld_jax.agents.model_free.actor_critic import (
    Draws,
    PixelAgent,
    PixelState,
    Trace,
    Transitions,
    exploration_std,
    init_pixel_agent,
    mean_action,
)
from coworld_jax.agents.model_free.cql import CandidateDraws, update_cql
from coworld_jax.agents.model_free.curl import (
    CurlAgent,
    CurlDraws,
    CurlState,
    init_curl,
    update_curl,
)
from coworld_jax.agents.model_free.drq_bc import (
    CloningState,
    init_cloning,
    update_bc,
    update_drq_bc,
)
from coworld_jax.agents.model_free.features import (
    FeatureAgent,
    FeatureState,
    init_features,
    update_features,
)

__all__ = [
    "CandidateDraws",
    "CloningState",
    "CurlAgent",
    "CurlDraws",
    "CurlState",
    "Draws",
    "FeatureAgent",
    "FeatureState",
    "PixelAgent",
    "PixelState",
    "Trace",
    "Transitions",
    "exploration_std",
    "init_cloning",
    "init_curl",
    "init_features",
    "init_pixel_agent",
    "mean_action",
    "update_bc",
    "update_cql",
    "update_curl",
    "update_drq_bc",
    "update_features",
]

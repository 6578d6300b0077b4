"""World models with K priors: what LOMPO and Offline DV2 share."""

from coworld_jax.agents.ensemble.latents import (
    DISAGREEMENTS,
    disagreement,
    draw_heads,
    imagine_step,
    observe,
)

__all__ = ["DISAGREEMENTS", "disagreement", "draw_heads", "imagine_step", "observe"]

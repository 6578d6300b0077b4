"""An environment of one's own: gymnasium's pendulum, which pygame draws.

    python -m experiments.collect --task=experiments.examples.pendulum:pendulum \\
        --policy=random --episodes=2 --out=DIR
"""

import gymnasium

from coworld_jax.envs import Environment, Request, from_gymnasium


def pendulum(request: Request) -> Environment:
    """``Pendulum-v1``: one action, 200 steps."""
    return from_gymnasium(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), request)

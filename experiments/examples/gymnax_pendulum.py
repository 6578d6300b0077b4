"""A jittable environment of one's own: gymnax's pendulum, drawn by signed distances.

    pip install gymnax==1.0.1 six
    python -m experiments.collect --task=experiments.examples.gymnax_pendulum:pendulum \\
        --policy=random --episodes=2 --out=DIR

gymnax 1.0.1 asks for gymnasium < 1.4, older than the one that this project's suites are tested
with: give it an environment of its own (``python -m venv``), with ``pip install -e .[train]``
in it. It imports six without asking for it.
"""

from typing import Any

import gymnax  # type: ignore[import-not-found]
import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.envs import JittableEnvironment, Request, jittable, jittable_spec
from coworld_jax.envs.jittable import drawing

_ROD, _TIP, _HUB = (204.0, 77.0, 77.0), (120.0, 30.0, 30.0), (20.0, 20.0, 20.0)


@jittable
def pendulum(request: Request) -> JittableEnvironment:
    """``Pendulum-v1``: one action, 200 steps; the state is gymnax's own observation."""
    environment, parameters = gymnax.make("Pendulum-v1")
    spec = jittable_spec(request, action_size=1, simulator_steps=200, package="gymnax")
    view = drawing.make_view(request.image_size, degrees=0.0, zoom=1.0, mirrored=False)
    size = request.image_size

    def reset(key: jax.Array) -> Any:
        return environment.reset_env(key, parameters)[1]

    def step(state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        # The pendulum draws no random numbers after its reset, and its end is the time limit.
        torque = parameters.max_torque * action
        _, state, reward, _, _ = environment.step_env(jax.random.key(0), state, torque, parameters)
        return state, jnp.reshape(reward, ()).astype(jnp.float32), jnp.float32(1.0)

    def render(state: Any) -> jax.Array:
        canvas = drawing.Canvas(*[np.full((size, size), 255.0, np.float32)] * 3)
        angle = jnp.reshape(state.theta, ())  # from upright, anticlockwise
        tip = jnp.stack([-jnp.sin(angle), jnp.cos(angle)])
        rod = drawing.capsule(view, jnp.zeros(2), tip, 0.14)
        canvas = drawing.paint(canvas, view, rod, _ROD)
        canvas = drawing.paint(canvas, view, drawing.disc(view, tip, 0.2), _TIP)
        return drawing.pixels(
            drawing.paint(canvas, view, drawing.disc(view, jnp.zeros(2), 0.06), _HUB)
        )

    def state_vector(state: Any) -> jax.Array:
        return jnp.ravel(environment.get_obs(state)).astype(jnp.float32)

    return JittableEnvironment(spec, reset, step, render, state_vector, may_end=False)

"""CURL: a soft actor-critic on pixels with a contrastive loss, trained on a fixed dataset.

A baseline of CoWorld (arXiv 2305.15260, section 4.1; Tables 2 and 3). It is the method of Laskin,
Srinivas and Abbeel, "CURL: Contrastive Unsupervised Representations for Reinforcement Learning"
(ICML 2020), which was made for online learning. The update is
`coworld_jax.agents.model_free.update_curl`; `experiments.check_parity` holds it to values of the
official code.

* **Observation**: three frames, scaled to [0, 1]. Learning sees random windows of them, a player
  the middle one.
* **Order of an update**: critic; on even updates actor, temperature, slow copies; then the
  contrast. The first update is even, as in the official code, whose first comes at step 1000.
* **Critic**: ``r + γ (min Q' - α log π(a'|s'))``. It trains the encoder.
* **Contrast**: another window of the same frames, seen by the slow encoder, is told from those of
  the other examples by ``z W z'``. Two optimisers step the encoder with this gradient, as in the
  official code.

What the paper leaves open, and what was chosen:

* How CURL learns offline: nothing else is changed. The buffer is the dataset, and nothing is
  collected. Nothing keeps the policy near the data, so that values can grow without limit; the
  paper's own row is near zero on DeepMind Control (Table 3).
* Hyperparameters: those of the official script, batch 128 instead of the class's 32, slow copies
  0.01 and 0.05, temperature 0.1. The CURL paper has others per task.
* Lengths: "300k iterations" are read as those of the official loop, which makes one update each.
* The size of frames and windows: the official code renders 100 pixels and takes windows of 84. The
  data have 64. The preset ``paper`` enlarges them to 100 by V-D4RL's bicubic kernel and takes
  windows of 84. The default keeps 64 and takes windows of 54, the same share of the image.

What differs from the official code:

* An episode is drawn first, then a chunk in it. The official buffer draws among all rows, which is
  the same where all episodes are equally long.
* On odd updates, the metrics of actor and temperature are zero.
* log α is float32, not float64.
* The values that a player gives hold the entropy of the policy, as the critic was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from coworld_jax import augment
from coworld_jax.agents.model_free import CurlAgent, CurlState, init_curl, update_curl
from coworld_jax.agents.model_free.acting import Choose, Critic, make_player
from coworld_jax.agents.model_free.curl import encode, squashed_action
from coworld_jax.agents.model_free.data import chunk_length, draw_windows, transitions
from coworld_jax.agents.model_free.settings import (
    CriticConfig,
    FramesConfig,
    OptimisationConfig,
    PixelNetworkConfig,
)
from coworld_jax.fields import count as whole
from coworld_jax.fields import share
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.offline import offline_method, summary
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.types import Batch, Metrics

LOGGED = {
    "critic/loss": "critic_loss",
    "critic/value": "q",
    "critic/target": "target",
    "actor/loss": "actor_loss",
    "actor/log_prob": "actor_log_prob",
    "contrast/loss": "contrastive_loss",
}
ACTOR_EVERY = 2  # updates between steps of actor, temperature and slow copies


@dataclass(frozen=True)
class CurlSettings:
    """Everything that the method depends on besides its domain."""

    updates: int = whole(300_000)
    crop: int = whole(54)  # pixels of a window
    encoder_rate: float = share(0.05)  # share of encoder and trunk that their slow copy takes over
    temperature: float = 0.1  # alpha before the first update
    temperature_lr: float = 1e-4
    frames: FramesConfig = field(default_factory=FramesConfig)
    network: PixelNetworkConfig = field(default_factory=PixelNetworkConfig)
    learning: OptimisationConfig = field(
        default_factory=lambda: OptimisationConfig(batch=128, learning_rate=1e-3)
    )
    critic: CriticConfig = field(default_factory=CriticConfig)

    def check(self) -> None:
        """Windows have room in a frame, and the temperature has a logarithm.

        Raises:
            ValueError: they do not.
        """
        if self.crop >= self.frames.image_size:
            raise ValueError(
                f"crop is {self.crop}: it must be less than frames.image_size, "
                f"{self.frames.image_size}."
            )
        if self.temperature == 0.0:
            raise ValueError("temperature is 0: it must be positive.")


def curl_domains(settings: CurlSettings) -> tuple[str, ...]:
    """The target."""
    return (TARGET,)


def make_curl(settings: CurlSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`."""
    frames, critic = settings.frames, settings.critic
    action_size = domains[TARGET].action_size
    agent = _agent(settings, action_size)

    def init(key: jax.Array) -> CurlState:
        return init_curl(agent, key, frames.shape[-1], action_size, settings.temperature)

    def step(
        state: CurlState,
        batch: Batch,
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None,
    ) -> tuple[CurlState, Metrics]:
        steps = transitions(batch, frames, critic.n_step, critic.discount)
        margin = frames.image_size - settings.crop
        draws = draw_windows(key, steps.action.shape[0], margin, action_size, axis_name)
        due = count % ACTOR_EVERY == 0
        state, trace = update_curl(agent, state, steps, draws, due, axis_name)
        temperature = jnp.exp(state.log_temperature)
        return state, summary(trace, LOGGED) | {"actor/temperature": temperature}

    return offline_method(
        init,
        step,
        make_player(
            frames,
            lambda state: (state.encoder, state.actor),
            _policy(agent),
            Critic(critic.discount, _judge(agent)),
        ),
        updates=settings.updates,
        length=chunk_length(frames, critic.n_step),
        batch=settings.learning.batch,
        before=settings.frames.stack - 1,
    )


def _agent(settings: CurlSettings, action_size: int) -> CurlAgent:
    network = settings.network
    return CurlAgent(
        encoder=PixelEncoder(network.channels, delta=True),
        actor=PixelActor(network.trunk, network.hidden, 2 * action_size, squash=False),
        critic=TwinCritic(network.trunk, network.hidden, squash=False),
        optimizer=optax.adam(settings.learning.learning_rate),
        temperature_optimizer=optax.adam(settings.temperature_lr, b1=0.5),
        crop=settings.crop,
        target_entropy=-float(action_size),
        critic_rate=settings.critic.slow_rate,
        encoder_rate=settings.encoder_rate,
    )


def _policy(agent: CurlAgent) -> Choose:
    """The squashed mean; exploring, a sample."""

    def choose(params: Any, stack: jax.Array, key: jax.Array, *, explore: bool) -> jax.Array:
        encoder, actor = params
        feat = encode(agent, encoder, augment.centre_crop(stack, agent.crop))
        outputs = agent.actor.apply(actor, feat)
        noise = jax.random.normal(key, (stack.shape[0], outputs.shape[-1] // 2))
        return squashed_action(agent, outputs, noise)["action" if explore else "mean"]

    return choose


def _judge(agent: CurlAgent) -> Callable[[CurlState, jax.Array, jax.Array], jax.Array]:
    """The lower of the twin critics."""

    def judge(state: CurlState, stack: jax.Array, action: jax.Array) -> jax.Array:
        feat = encode(agent, state.encoder, augment.centre_crop(stack, agent.crop))
        return jnp.min(agent.critic.apply(state.critic, feat, action), axis=0)

    return judge

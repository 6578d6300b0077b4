"""CURL: a soft actor-critic on pixels whose encoder also learns to tell images apart."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import augment, distributions, losses
from coworld_jax.agents.gradient import Params, averaged, descend, differentiate
from coworld_jax.agents.model_free.actor_critic import Trace, Transitions
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.types import Metrics


class CurlDraws(NamedTuple):
    """Random numbers of one update; offsets are (row, column) of the window's corner."""

    obs: jax.Array  # int [B, 2]
    next_obs: jax.Array  # int [B, 2]
    positive: jax.Array  # of a second window of the same frames, int [B, 2]
    target: jax.Array  # standard normal, [B, A]
    actor: jax.Array  # standard normal, [B, A]


class CurlAgent(NamedTuple):
    """Networks and optimisers: static, the same for every update."""

    encoder: PixelEncoder  # convolutions, shared by actor and critic
    actor: PixelActor  # with 2 A outputs
    critic: TwinCritic
    optimizer: optax.GradientTransformation
    temperature_optimizer: optax.GradientTransformation
    crop: int  # pixels of a window
    target_entropy: float  # nats, -A
    critic_rate: float = 0.01  # share of the critic's heads that their slow copy takes over
    encoder_rate: float = 0.05  # the same of encoder and trunk
    log_std_min: float = -10.0
    log_std_max: float = 2.0


class CurlState(NamedTuple):
    """Everything that one agent learns, arrays only."""

    encoder: Params
    actor: Params
    critic: Params
    slow_encoder: Params
    slow_critic: Params
    contrast: jax.Array  # W of the bilinear product, [D, D]
    log_temperature: jax.Array  # []
    critic_opt: optax.OptState  # of encoder and critic
    actor_opt: optax.OptState
    temperature_opt: optax.OptState
    encoder_opt: optax.OptState  # of encoder and trunk
    contrast_opt: optax.OptState  # of encoder, trunk and W


def init_curl(
    agent: CurlAgent, key: jax.Array, channels: int, action_size: int, temperature: float = 0.1
) -> CurlState:
    """A fresh agent; the slow copies begin as copies, W uniform in [0, 1)."""
    key_encoder, key_actor, key_critic, key_contrast = jax.random.split(key, 4)
    frames = jnp.zeros((1, agent.crop, agent.crop, channels))
    encoder = agent.encoder.init(key_encoder, frames)
    feat = jnp.zeros(jax.eval_shape(agent.encoder.apply, encoder, frames).shape)
    actor = agent.actor.init(key_actor, feat)
    critic = agent.critic.init(key_critic, feat, jnp.zeros((1, action_size)))
    contrast = jax.random.uniform(key_contrast, (agent.critic.size, agent.critic.size))
    log_temperature = jnp.log(jnp.asarray(temperature, jnp.float32))
    return with_optimizers(agent, encoder, actor, critic, contrast, log_temperature)


def with_optimizers(
    agent: CurlAgent,
    encoder: Params,
    actor: Params,
    critic: Params,
    contrast: jax.Array,
    log_temperature: jax.Array,
) -> CurlState:
    """The state of an agent with these parameters that has made no step."""
    embedding = {"encoder": encoder, "trunk": _trunk(critic)}
    return CurlState(
        encoder=encoder,
        actor=actor,
        critic=critic,
        slow_encoder=jax.tree.map(jnp.copy, encoder),
        slow_critic=jax.tree.map(jnp.copy, critic),
        contrast=contrast,
        log_temperature=log_temperature,
        critic_opt=agent.optimizer.init({"encoder": encoder, "critic": critic}),
        actor_opt=agent.optimizer.init(actor),
        temperature_opt=agent.temperature_optimizer.init(log_temperature),
        encoder_opt=agent.optimizer.init(embedding),
        contrast_opt=agent.optimizer.init(embedding | {"contrast": contrast}),
    )


def update_curl(
    agent: CurlAgent,
    state: CurlState,
    batch: Transitions,
    draws: CurlDraws,
    due: jax.Array,
    axis_name: str | None = None,
) -> tuple[CurlState, Trace]:
    """One update: critic; if ``due``, actor, temperature and slow copies; then the contrast.

    The positives pass the slow encoder after it has followed, the anchors the encoder after the
    critic's step. The actor sees that encoder's convolutions too, stopped.

    Args:
        batch: frames are larger than the agent's windows; discount is γ, 0 where the task ended.
        due: bool ``[]``; every second update in the official code. What the trace holds of the
            actor and the temperature is zero where it is False.
        axis_name: mapped axis over which the batch is split; positives are gathered over it.

    **Gradient:** the critic's loss to encoder and critic; the actor's to the actor; the contrast to
    encoder, trunk and W. Two optimisers step encoder and trunk with the contrast's gradient.

    Reference: CURL, Laskin et al. (2020), and its code.
    """
    size = (agent.crop, agent.crop)
    obs = augment.crop(batch.obs, draws.obs, size)
    next_obs = augment.crop(batch.next_obs, draws.next_obs, size)
    positive = augment.crop(batch.obs, draws.positive, size)
    target, values = _td_targets(agent, state, batch, next_obs, draws.target)
    state, seen, grads = _step_critic(agent, state, obs, batch.action, target, axis_name)
    # The actor and the contrast share this pass, the contrast goes back through it.
    feat, pull = jax.vjp(lambda encoder: encode(agent, encoder, obs), state.encoder)

    def policy_step(state: CurlState) -> tuple[CurlState, Trace]:
        return _step_policy(agent, state, feat, draws.actor, axis_name)

    def no_step(state: CurlState) -> tuple[CurlState, Trace]:
        _, trace = jax.eval_shape(policy_step, state)
        return state, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), trace)

    state, policy = jax.lax.cond(due, policy_step, no_step, state)
    z_positive = _embed(
        agent, _trunk(state.slow_critic), encode(agent, state.slow_encoder, positive)
    )

    def contrastive_loss(
        feat: jax.Array, trunk: Params, contrast: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        anchor = _embed(agent, trunk, feat)
        every, own = _gathered(z_positive, axis_name)
        logits = losses.bilinear_logits(anchor, every, contrast)
        loss = losses.contrastive_loss(logits, own)
        return jnp.mean(loss), {"contrastive_loss": loss, "logits": logits, "anchor": anchor}

    (dfeat, dtrunk, dcontrast), contrast = jax.grad(contrastive_loss, (0, 1, 2), has_aux=True)(
        feat, _trunk(state.critic), state.contrast
    )
    contrast_grads = {"encoder": pull(dfeat)[0], "trunk": dtrunk, "contrast": dcontrast}
    contrast_grads = averaged(contrast_grads, axis_name)
    state = _step_contrast(agent, state, contrast_grads)
    values |= seen | policy.values | contrast | {"positive": z_positive}
    return state, Trace(values, {"td": grads, "contrast": contrast_grads} | policy.grads)


def encode(agent: CurlAgent, encoder: Params, frames: jax.Array) -> jax.Array:
    """Features of uint8 frames, scaled to [0, 1]: ``[B, height, width, C] -> [B, F]``."""
    return agent.encoder.apply(encoder, frames.astype(jnp.float32) / 255.0)


def squashed_action(agent: CurlAgent, outputs: jax.Array, noise: jax.Array) -> Metrics:
    """``a = tanh(μ + σ ε)`` and its log-density.

    ``log σ = l + (h - l) (tanh s + 1) / 2`` for raw outputs (μ, s) and bounds l, h.

    Args:
        outputs: of the actor, ``[B, 2 A]``.
        noise: ``ε``, standard normal, ``[B, A]``.

    Returns:
        ``mean`` (squashed), ``action``, ``log_std`` ``[B, A]``; ``log_prob``, in nats and with the
        official 1e-6 in the logarithm, ``[B]``. **Gradient:** to ``outputs``.
    """
    mean, raw = jnp.split(outputs, 2, axis=-1)
    low, high = agent.log_std_min, agent.log_std_max
    log_std = low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0)
    action = jnp.tanh(mean + noise * jnp.exp(log_std))
    density = -0.5 * jnp.square(noise) - log_std - distributions.LOG_SQRT_2PI
    squash = jnp.log(jnp.maximum(1.0 - jnp.square(action), 0.0) + 1e-6)
    log_prob = jnp.sum(density - squash, axis=-1)
    return {
        "mean": jnp.tanh(mean),
        "action": action,
        "log_std": log_std,
        "log_prob": log_prob,
    }


def _td_targets(
    agent: CurlAgent, state: CurlState, batch: Transitions, next_obs: jax.Array, noise: jax.Array
) -> tuple[jax.Array, Metrics]:
    """``y``; the policy reads the online convolutions, the slow critic has its own."""
    outputs = agent.actor.apply(state.actor, encode(agent, state.encoder, next_obs))
    policy = squashed_action(agent, outputs, noise)
    slow_feat = encode(agent, state.slow_encoder, next_obs)
    next_q = agent.critic.apply(state.slow_critic, slow_feat, policy["action"])
    entropy = jnp.exp(state.log_temperature) * policy["log_prob"]
    target = losses.td_target(batch.reward, batch.discount, next_q - entropy[None])
    return target, {f"target_{name}": value for name, value in policy.items()} | {
        "target_q": next_q,
        "target": target,
    }


def _step_critic(
    agent: CurlAgent,
    state: CurlState,
    obs: jax.Array,
    action: jax.Array,
    target: jax.Array,
    axis_name: str | None,
) -> tuple[CurlState, Metrics, Params]:
    """One step on encoder and critic."""

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        feat = encode(agent, params["encoder"], obs)
        q = agent.critic.apply(params["critic"], feat, action)
        loss = losses.twin_td_loss(q, target)
        return loss, {"critic_loss": loss, "q": q, "feat": feat}

    params = {"encoder": state.encoder, "critic": state.critic}
    seen, grads = differentiate(loss, params, axis_name)
    params, opt = descend(agent.optimizer, grads, state.critic_opt, params)
    state = state._replace(encoder=params["encoder"], critic=params["critic"], critic_opt=opt)
    return state, seen, grads


def _step_policy(
    agent: CurlAgent,
    state: CurlState,
    feat: jax.Array,
    noise: jax.Array,
    axis_name: str | None,
) -> tuple[CurlState, Trace]:
    """Actor and temperature step; then the slow copies follow."""
    feat = jax.lax.stop_gradient(feat)

    def actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        policy = squashed_action(agent, agent.actor.apply(actor, feat), noise)
        q = agent.critic.apply(state.critic, feat, policy["action"])
        temperature = jnp.exp(state.log_temperature)
        loss = losses.soft_policy_loss(q, policy["log_prob"], temperature)
        seen = {f"actor_{name}": value for name, value in policy.items()}
        return loss, seen | {"actor_q": q, "actor_loss": loss}

    seen, actor_grads = differentiate(actor_loss, state.actor, axis_name)

    def temperature_loss(log_temperature: jax.Array) -> tuple[jax.Array, Metrics]:
        loss = losses.temperature_loss(
            log_temperature, seen["actor_log_prob"], agent.target_entropy
        )
        return loss, {"temperature_loss": loss}

    logged, slope = differentiate(temperature_loss, state.log_temperature, axis_name)
    actor, actor_opt = descend(agent.optimizer, actor_grads, state.actor_opt, state.actor)
    log_temperature, temperature_opt = descend(
        agent.temperature_optimizer, slope, state.temperature_opt, state.log_temperature
    )
    state = _follow(agent, state)._replace(
        actor=actor,
        actor_opt=actor_opt,
        log_temperature=log_temperature,
        temperature_opt=temperature_opt,
    )
    return state, Trace(seen | logged, {"actor": actor_grads, "log_temperature": slope})


def _follow(agent: CurlAgent, state: CurlState) -> CurlState:
    """The slow copies move: encoder and trunk faster than the heads."""
    target = optax.incremental_update(state.critic, state.slow_critic, agent.critic_rate)
    trunk = optax.incremental_update(
        _trunk(state.critic), _trunk(state.slow_critic), agent.encoder_rate
    )
    encoder = optax.incremental_update(state.encoder, state.slow_encoder, agent.encoder_rate)
    return state._replace(slow_encoder=encoder, slow_critic=_with_trunk(target, trunk))


def _step_contrast(agent: CurlAgent, state: CurlState, grads: Params) -> CurlState:
    """Two optimisers after each other, with moments of their own and the same gradient."""
    params: Params = {"encoder": state.encoder, "trunk": _trunk(state.critic)}
    embedding_grads = {name: grads[name] for name in params}
    params, encoder_opt = descend(agent.optimizer, embedding_grads, state.encoder_opt, params)
    params["contrast"] = state.contrast
    params, contrast_opt = descend(agent.optimizer, grads, state.contrast_opt, params)
    return state._replace(
        encoder=params["encoder"],
        critic=_with_trunk(state.critic, params["trunk"]),
        contrast=params["contrast"],
        encoder_opt=encoder_opt,
        contrast_opt=contrast_opt,
    )


def _gathered(positive: jax.Array, axis_name: str | None) -> tuple[jax.Array, jax.Array]:
    """The positives of all devices, and the place of each own one among them."""
    own = jnp.arange(positive.shape[0])
    if axis_name is None:
        return positive, own
    every = jax.lax.all_gather(positive, axis_name, tiled=True)
    return every, own + jax.lax.axis_index(axis_name) * positive.shape[0]


def _trunk(critic: Params) -> Params:
    return critic["params"]["trunk"]


def _with_trunk(critic: Params, trunk: Params) -> Params:
    return {"params": critic["params"] | {"trunk": trunk}}


def _embed(agent: CurlAgent, trunk: Params, feat: jax.Array) -> jax.Array:
    return agent.critic.apply({"params": {"trunk": trunk}}, feat, method="embed")

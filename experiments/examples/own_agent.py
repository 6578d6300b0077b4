"""CoWorld's losses in an agent of one's own: own networks, own optax loop.

    python -m experiments.examples.own_agent

It takes nothing of this project but the pure functions, and nothing else is installed for it than
jax, numpy, chex and optax. A small encoder and a value head learn from random features. Two terms
of CoWorld are added to the regression: the state alignment (A) and the value constraint (C), both
towards a fixed "source" of the same shape.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from coworld_jax.losses import alignment_loss, critic_loss, value_constraint_loss
from coworld_jax.returns import discount_weights, lambda_return

TIME, BATCH, OBSERVATION, EMBED = 15, 8, 6, 16
ALIGNMENT_SCALE, CONSTRAINT_SCALE = 1.5, 1.0  # beta_2 and alpha

Params = dict[str, jax.Array]


def init(key: jax.Array) -> Params:
    """An encoder and a value head, one linear layer each."""
    key_encoder, key_value = jax.random.split(key)
    return {
        "encoder": jax.random.normal(key_encoder, (OBSERVATION, EMBED)) / OBSERVATION**0.5,
        "value": jax.random.normal(key_value, (EMBED,)) / EMBED**0.5,
    }


def forward(params: Params, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Embedding ``[T, B, E]`` and value ``[T, B]`` of observations ``[T, B, N]``."""
    embed = jnp.tanh(observation @ params["encoder"])
    return embed, embed @ params["value"]


def loss(params: Params, source: Params, batch: dict[str, jax.Array]) -> jax.Array:
    """Regression on λ-returns, plus couplings A and C; the mean over time and batch."""
    embed, value = forward(params, batch["observation"])
    source_embed, source_value = forward(source, batch["observation"])
    discount = jnp.full_like(value, 0.99)[:-1]
    target = lambda_return(batch["reward"][:-1], discount, value[1:], lambda_=0.95)
    weight = discount_weights(discount)
    constraint = value_constraint_loss(value[:-1], source_value[:-1], weight)
    regression = critic_loss(value[:-1], target, weight)  # it stops the gradient of the target
    alignment = alignment_loss(embed, source_embed)
    return (
        jnp.mean(regression)
        + CONSTRAINT_SCALE * jnp.mean(constraint)
        + ALIGNMENT_SCALE * jnp.mean(alignment)
    )


def train(updates: int, seed: int = 0) -> list[float]:
    """The loss before each update.

    The λ-returns move with the value head, so that the regression alone need not fall.
    """
    key_params, key_source, *keys = jax.random.split(jax.random.key(seed), 4)
    params, source = init(key_params), init(key_source)
    batch = {
        "observation": jax.random.normal(keys[0], (TIME, BATCH, OBSERVATION)),
        "reward": jax.random.normal(keys[1], (TIME, BATCH)),
    }
    optimizer = optax.adam(1e-2)
    opt_state = optimizer.init(params)

    @jax.jit
    def update(
        params: Params, opt_state: optax.OptState
    ) -> tuple[Params, optax.OptState, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, source, batch)
        changes, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(params, changes), opt_state, value

    history = []
    for _ in range(updates):
        params, opt_state, value = update(params, opt_state)
        history.append(float(value))
    return history


if __name__ == "__main__":
    losses = train(100)
    print(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} updates")

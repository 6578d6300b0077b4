"""CoWorld's losses in an outside project: own networks, own dynamics, own optax loop.

    python -m experiments.examples.own_agent

It needs jax, numpy, chex and optax, and no more of this project than its pure functions. A point on
a line earns ``1 - x²`` and chooses its speed. Two terms of CoWorld are added to the agent's losses:
the state alignment (A) and the value constraint (C), both towards a fixed source agent.
"""

import jax
import jax.numpy as jnp
import optax

from coworld_jax.distributions import truncated_normal_sample
from coworld_jax.losses import alignment_loss, critic_loss, value_constraint_loss
from coworld_jax.returns import discount_weights, lambda_return

HORIZON, BATCH, EMBED = 15, 64, 16
ALIGNMENT_SCALE, CONSTRAINT_SCALE = 0.1, 0.01  # beta_2 and alpha

Params = dict[str, jax.Array]


def init(key: jax.Array) -> Params:
    """An agent: an encoder, and one linear layer each for the actor and the critic."""
    key_encoder, key_value = jax.random.split(key)
    encoder, value = (
        jax.random.normal(key_encoder, (2, EMBED)),
        jax.random.normal(key_value, (EMBED,)),
    )
    return {"encoder": encoder, "actor": jnp.zeros(EMBED), "value": 0.1 * value}


def encode(params: Params, x: jax.Array) -> jax.Array:
    """Embedding ``[..., E]`` of positions ``[...]``."""
    return jnp.tanh(jnp.stack([x, jnp.ones_like(x)], axis=-1) @ params["encoder"])


def loss(
    params: Params, source: Params, start: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Losses of actor and critic with couplings A and C, and the mean reward of the rollouts."""
    frozen = jax.lax.stop_gradient(params)

    def step(x: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        speed = truncated_normal_sample(
            jnp.tanh(encode(frozen, x) @ params["actor"]), jnp.full_like(x, 0.3), noise
        )
        return x + 0.2 * speed, x + 0.2 * speed

    _, following = jax.lax.scan(step, start, noise)
    states = jnp.concatenate([start[None], following[:-1]])
    discount = jnp.full_like(states, 0.95)
    slow_value = encode(frozen, following) @ frozen["value"]
    returns = lambda_return(1.0 - states**2, discount, slow_value, lambda_=0.95)
    weight = discount_weights(discount)
    embed, source_embed = (encode(p, jax.lax.stop_gradient(states)) for p in (params, source))
    value, source_value = embed @ params["value"], source_embed @ source["value"]
    total = jnp.mean(-weight * returns) + jnp.mean(critic_loss(value, returns, weight))
    total += ALIGNMENT_SCALE * jnp.mean(alignment_loss(embed, source_embed))
    total += CONSTRAINT_SCALE * jnp.mean(value_constraint_loss(value, source_value, weight))
    return total, jnp.mean(1.0 - states**2)


def train(updates: int) -> list[float]:
    """The mean reward of the rollouts of each update."""
    params, source = init(jax.random.key(0)), init(jax.random.key(1))
    optimizer = optax.adam(1e-2)
    opt_state = optimizer.init(params)
    update = jax.jit(jax.value_and_grad(loss, has_aux=True))
    rewards = []
    for key in jax.random.split(jax.random.key(2), updates):
        key_start, key_noise = jax.random.split(key)
        start = jax.random.uniform(key_start, (BATCH,), minval=-2.0, maxval=2.0)
        noise = jax.random.uniform(key_noise, (HORIZON, BATCH))
        (_, reward), grads = update(params, source, start, noise)
        changes, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(params, changes)
        rewards.append(float(reward))
    return rewards


if __name__ == "__main__":
    rewards = train(200)
    print(f"reward {rewards[0]:.3f} at first, {rewards[-1]:.3f} after {len(rewards)} updates")

"""What the files of V-D4RL's two pixel agents have in common: weights, inputs, and most values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from coworld_jax import augment, distributions
from coworld_jax.agents.model_free import (
    Draws,
    PixelAgent,
    PixelState,
    Trace,
    Transitions,
    exploration_std,
    mean_action,
)
from coworld_jax.agents.model_free.actor_critic import PAD, encode, scale_frames
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.networks.convolution import convolve_pixels
from coworld_jax.networks.pixels import STRIDES
from experiments.parity.compare import FIRST_CONVOLUTION, LATER, VALUE, Claim
from experiments.parity.fixture import Arrays, FixtureError, required, setting
from experiments.parity.layouts import (
    CONVOLUTION,
    LINEAR,
    SAME,
    Params,
    Place,
    Table,
    channel_major,
    flat_linear,
    read_params,
    refuse_unknown,
    write_params,
)
from experiments.parity.steps import gradient_claims, norm, norm_claims, state_claims

_FIRST = ("encoder/convnet.0.weight", "encoder/convnet.0.bias")
Update = Callable[[PixelState, Transitions, Draws, jax.Array, int], tuple[PixelState, Trace]]


class Official(NamedTuple):
    """Our agent at the sizes of a file, with the file's weights and inputs."""

    agent: PixelAgent
    state: PixelState
    batch: Transitions
    table: Table
    pixels: tuple[int, int]  # height and width of the encoder's output
    lr: float


def read(arrays: Arrays) -> Official:
    """Our networks at a file's sizes, with its weights; its transitions.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    obs = required(arrays, "in/obs")
    if obs.ndim != 4 or obs.dtype != np.uint8:
        raise FixtureError(f"in/obs is {obs.dtype} {obs.shape}, but uint8 (B, C, H, W) is needed.")
    pixels = (encoded_size(obs.shape[2]), encoded_size(obs.shape[3]))
    table = _table(pixels)
    refuse_unknown(arrays, table)
    params = read_params(arrays, table)
    lr = setting(arrays, "lr")
    agent = PixelAgent(
        encoder=PixelEncoder(params["encoder"]["params"]["conv0"]["bias"].size),
        actor=PixelActor(*sizes(params["actor"], "policy"), required(arrays, "in/action").shape[1]),
        critic=TwinCritic(*sizes(params["critic"], "q1")),
        optimizer=adam(arrays, lr),
        slow_rate=setting(arrays, "tau"),
        noise_clip=setting(arrays, "stddev_clip"),
    )
    state = PixelState(
        **params,
        critic_opt=agent.optimizer.init({name: params[name] for name in ("encoder", "critic")}),
        actor_opt=agent.optimizer.init(params["actor"]),
    )
    batch = Transitions(
        obs=channels_last(obs),
        action=jnp.asarray(arrays["in/action"]),
        reward=jnp.asarray(required(arrays, "in/reward"))[:, 0],
        discount=jnp.asarray(required(arrays, "in/discount"))[:, 0],
        next_obs=channels_last(required(arrays, "in/next_obs")),
    )
    return Official(agent, state, batch, table, pixels, lr)


def adam(arrays: Arrays, lr: float) -> optax.GradientTransformation:
    """PyTorch's Adam with the file's constants."""
    b1, b2, eps = (setting(arrays, f"adam_{name}") for name in ("b1", "b2", "eps"))
    return optax.adam(lr, b1, b2, eps)


def encoded_size(size: int) -> int:
    """Height or width that the encoder makes of a frame's."""
    for stride in STRIDES:
        size = (size - 3) // stride + 1
    return size


def channels_last(images: np.ndarray) -> jax.Array:
    """``[B, C, H, W] -> [B, H, W, C]``."""
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def draws(arrays: Arrays, update: int) -> Draws:
    """The random numbers of one update; their shifts are (column, row)."""
    shift, next_shift = (
        required(arrays, f"noise/shift_{name}")[update][:, ::-1] for name in ("obs", "next")
    )
    return Draws(shift, next_shift, arrays["noise/target"][update], arrays["noise/actor"][update])


def claims(arrays: Arrays, official: Official, update: Update) -> dict[str, Claim]:
    """Several updates in a row, and everything that the file states about each."""
    state, found = official.state, {}
    found["out/eval_action"] = Claim(_eval_action(official))
    for index, step in enumerate(required(arrays, "cfg/step")):
        names = (f"stddev_{name}" for name in ("init", "final", "steps"))
        std = exploration_std(jnp.float32(step), *(setting(arrays, name) for name in names))
        before, drawn = state, draws(arrays, index)
        state, trace = update(state, official.batch, drawn, std, index)
        place, tolerance = f"out/u{index}", LATER if index else VALUE
        values = _values(trace, std) | {"stddev": std}
        found |= {f"{place}/{name}": Claim(value, tolerance) for name, value in values.items()}
        found |= _norms(place, trace, max(tolerance, VALUE))
        if index == 0:
            found |= _first_update(arrays, official, drawn, before, trace)
            found |= step_claims(arrays, official, "out/u0", trace.grads, before, state)
    return found


def step_claims(
    arrays: Arrays, official: Official, place: str, grads: Params, before: Any, after: Any
) -> dict[str, Claim]:
    """Gradients and the parameters after their step."""
    table, names = official.table, ("encoder", "actor", "critic", "slow_critic")
    kept = [name for name in names if name in after._fields]
    old, new = (
        write_params({name: getattr(state, name) for name in kept}, table)
        for state in (before, after)
    )
    written = write_params(grads, table)
    found = gradient_claims(arrays, place, "grad", written, _FIRST)
    found |= norm_claims(place, written, _FIRST)
    return found | state_claims(arrays, place, old, new, official.lr)


def _values(trace: Trace, std: jax.Array) -> dict[str, Any]:
    """Values that the file holds for every update.

    Density and entropy are those of a normal distribution, without clip and clamp.
    """
    seen = trace.values
    log_prob = distributions.normal_log_prob(seen["actor_action"], seen["actor_mean"], std)
    entropy = 0.5 + distributions.LOG_SQRT_2PI + jnp.log(std)
    mean = {name: jnp.mean(value) for name, value in seen.items() if name.endswith("_loss")}
    found: dict[str, Any] = {
        "critic_loss": mean["critic_loss"],
        "actor_loss": mean["actor_loss"],
        "actor_policy_loss": -jnp.mean(jnp.min(seen["actor_q"], axis=0)),
        "target_q_mean": jnp.mean(seen["target"]),
        "actor_logprob": jnp.mean(jnp.sum(log_prob, axis=-1)),
        "actor_entropy": log_prob.shape[-1] * entropy,
        "target_action": seen["target_action"],
        "actor_action": seen["actor_action"],
    }
    for name, key in {"q": "q", "actor_q": "actor_q", "target_q": "target_q"}.items():
        found |= {f"{name}{head + 1}": seen[key][head][:, None] for head in range(2)}
    return found


def _norms(place: str, trace: Trace, tolerance: float) -> dict[str, Claim]:
    """Gradient norms of whole networks; the encoder's passes every ReLU."""
    return {
        f"{place}/grad_norm/{name}": Claim(
            norm(jax.tree.leaves(grads)), FIRST_CONVOLUTION if name == "encoder" else tolerance
        )
        for name, grads in trace.grads.items()
    }


def _first_update(
    arrays: Arrays, official: Official, drawn: Draws, before: PixelState, trace: Trace
) -> dict[str, Claim]:
    """What the file holds about the inside of the first update."""
    agent, seen = official.agent, trace.values
    obs = augment.random_shift(official.batch.obs, drawn.shift, PAD)
    found: dict[str, Any] = {
        "aug_obs_b0c0": obs[0, :, :, 0],
        "aug_obs_b1c8": obs[1, :, :, 8],
        "actor_trunk_next": agent.actor.apply(before.actor, seen["next_feat"], method="embed"),
        "critic_trunk_obs": agent.critic.apply(before.critic, seen["feat"], method="embed"),
        "target_mu": seen["target_mean"],
        "actor_mu": seen["actor_mean"],
        "target_q_full": seen["target"][:, None],
    }
    layers = _layers(before.encoder)
    for count in range(1, 5):
        x = convolve_pixels(scale_frames(obs), layers[:count], STRIDES[:count])
        found[f"conv{count}_channel_mean"] = jnp.mean(x, axis=(1, 2))
    index = required(arrays, "out/u0/feat_idx")
    for name, key in {"feat_obs": "feat", "feat_next": "next_feat"}.items():
        found |= feature_values(name, channel_major(seen[key], *official.pixels), index)
    return {f"out/u0/{name}": Claim(value) for name, value in found.items()}


def feature_values(name: str, feat: np.ndarray, index: np.ndarray) -> dict[str, np.ndarray]:
    """Some of the features, and sums over all of them."""
    exact = feat.astype(np.float64)
    return {
        name: feat[:, index],
        f"{name}_sum": np.sum(exact, axis=1),
        f"{name}_sumsq": np.sum(np.square(exact), axis=1),
    }


def _eval_action(official: Official) -> jax.Array:
    feat = encode(official.agent, official.state.encoder, official.batch.obs)
    return mean_action(official.agent, official.state.actor, feat)


def _layers(encoder: Params) -> list[tuple[jax.Array, jax.Array]]:
    kernels = encoder["params"]
    return [(kernels[f"conv{i}"]["kernel"], kernels[f"conv{i}"]["bias"]) for i in range(4)]


def sizes(params: Params, head: str) -> tuple[int, int]:
    """Units of the trunk and of the hidden layers."""
    inner = params["params"]
    return inner["trunk"]["linear"]["bias"].size, inner[head]["hidden0"]["bias"].size


def _table(pixels: tuple[int, int]) -> Table:
    table = {}
    for layer in range(4):
        path = ("encoder", "params", f"conv{layer}")
        table[f"encoder/convnet.{2 * layer}.weight"] = Place((*path, "kernel"), CONVOLUTION)
        table[f"encoder/convnet.{2 * layer}.bias"] = Place((*path, "bias"), SAME)
    for theirs, ours, heads in (
        ("actor", "actor", {"policy": "policy"}),
        ("critic", "critic", {"Q1": "q1", "Q2": "q2"}),
        ("critic_target", "slow_critic", {"Q1": "q1", "Q2": "q2"}),
    ):
        root = (ours, "params")
        table[f"{theirs}/trunk.0.weight"] = Place(
            (*root, "trunk", "linear", "kernel"), flat_linear(*pixels)
        )
        table[f"{theirs}/trunk.0.bias"] = Place((*root, "trunk", "linear", "bias"), SAME)
        table[f"{theirs}/trunk.1.weight"] = Place((*root, "trunk", "norm", "scale"), SAME)
        table[f"{theirs}/trunk.1.bias"] = Place((*root, "trunk", "norm", "bias"), SAME)
        for official, head in heads.items():
            table |= mlp_table(f"{theirs}/{official}", (*root, head))
    return table


def mlp_table(name: str, path: tuple[str, ...]) -> dict[str, Place]:
    """Two hidden layers and an output, numbered 0, 2, 4 there."""
    table = {}
    for number, layer in zip((0, 2, 4), ("hidden0", "hidden1", "output")):
        table[f"{name}.{number}.weight"] = Place((*path, layer, "kernel"), LINEAR)
        table[f"{name}.{number}.bias"] = Place((*path, layer, "bias"), SAME)
    return table

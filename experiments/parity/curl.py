"""Golden values of CURL: three updates, the second without actor, temperature and slow copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from coworld_jax import augment, distributions
from coworld_jax.agents.model_free import CurlAgent, CurlDraws, CurlState, Transitions, update_curl
from coworld_jax.agents.model_free.actor_critic import Trace
from coworld_jax.agents.model_free.curl import encode, squashed_action, with_optimizers
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from experiments.parity.compare import FIRST_CONVOLUTION, LATER, STEP, VALUE, Claim
from experiments.parity.fixture import Arrays, FixtureError, required, setting
from experiments.parity.layouts import (
    CONVOLUTION,
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
from experiments.parity.pixels import (
    adam,
    channels_last,
    encoded_size,
    feature_values,
    mlp_table,
    sizes,
)
from experiments.parity.steps import gradient_claims, norm, norm_claims, state_claims

_FIRST = ("critic/encoder.convs.0.weight", "critic/encoder.convs.0.bias")


class Official(NamedTuple):
    """Our agent at the sizes of a file, with the file's weights and inputs."""

    agent: CurlAgent
    state: CurlState
    batch: Transitions
    table: Table
    pixels: int  # height and width of the encoder's output
    lr: float


def recognise(arrays: Arrays) -> bool:
    """The only agent with a matrix of the bilinear product."""
    return "w/curl/W" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    official = _read(arrays)
    agent, state = official.agent, official.state
    found = {"out/eval_action": Claim(_eval_action(official))}
    run = jax.jit(update_curl, static_argnums=0)
    every = setting(arrays, "actor_update_freq")
    if setting(arrays, "target_update_freq") != every:
        raise FixtureError("cfg/target_update_freq is not cfg/actor_update_freq.")
    for index, step in enumerate(required(arrays, "cfg/step")):
        due, before = bool(step % every == 0), state
        state, trace = run(agent, state, official.batch, _draws(arrays, index), due)
        place, tolerance = f"out/u{index}", LATER if index else VALUE
        values = _values(trace) | (_policy_values(before, trace) if due else {})
        found |= {f"{place}/{name}": Claim(value, tolerance) for name, value in values.items()}
        found |= _norms(place, trace, tolerance, due)
        if due or f"{place}/log_alpha_after" in arrays:
            allowed = STEP * setting(arrays, "alpha_lr")
            after = Claim(state.log_temperature, allowed * (index + 1), absolute=True)
            found[f"{place}/log_alpha_after"] = after
        if index == 0:
            found |= _first_update(arrays, official, before, trace)
            found |= _step_claims(arrays, official, trace, before, state)
    return found


def _read(arrays: Arrays) -> Official:
    obs = required(arrays, "in/obs")
    if obs.ndim != 4 or obs.dtype != np.uint8:
        raise FixtureError(f"in/obs is {obs.dtype} {obs.shape}, but uint8 (B, C, H, W) is needed.")
    crop = int(setting(arrays, "crop"))
    table = _table(encoded_size(crop))
    refuse_unknown(arrays, table, ("log_alpha",))
    params = read_params(arrays, table)
    actions, lr = required(arrays, "in/action"), setting(arrays, "lr")
    agent = CurlAgent(
        encoder=PixelEncoder(params["encoder"]["params"]["conv0"]["bias"].size),
        actor=PixelActor(*sizes(params["actor"], "policy"), 2 * actions.shape[1], squash=False),
        critic=TwinCritic(*sizes(params["critic"], "q1"), squash=False),
        optimizer=adam(arrays, lr),
        temperature_optimizer=optax.adam(
            setting(arrays, "alpha_lr"),
            setting(arrays, "alpha_b1"),
            setting(arrays, "adam_b2"),
            setting(arrays, "adam_eps"),
        ),
        crop=crop,
        target_entropy=setting(arrays, "target_entropy"),
        critic_rate=setting(arrays, "critic_tau"),
        encoder_rate=setting(arrays, "encoder_tau"),
        log_std_min=setting(arrays, "log_std_min"),
        log_std_max=setting(arrays, "log_std_max"),
    )
    state = with_optimizers(
        agent,
        params["encoder"],
        params["actor"],
        params["critic"],
        contrast=params["contrast"],
        log_temperature=jnp.float32(required(arrays, "w/log_alpha")),
    )
    batch = Transitions(
        obs=channels_last(obs),
        action=jnp.asarray(actions),
        reward=jnp.asarray(required(arrays, "in/reward"))[:, 0],
        discount=setting(arrays, "discount") * jnp.asarray(required(arrays, "in/not_done"))[:, 0],
        next_obs=channels_last(required(arrays, "in/next_obs")),
    )
    slow = {name: params[name] for name in ("slow_encoder", "slow_critic")}
    return Official(agent, state._replace(**slow), batch, table, encoded_size(crop), lr)


def _draws(arrays: Arrays, update: int) -> CurlDraws:
    names = ("crop_obs", "crop_next", "crop_pos", "target", "actor")
    return CurlDraws(*(required(arrays, f"noise/{name}")[update] for name in names))


def _eval_action(official: Official) -> jax.Array:
    agent = official.agent
    frames = augment.centre_crop(official.batch.obs, agent.crop)
    outputs = agent.actor.apply(official.state.actor, encode(agent, official.state.encoder, frames))
    noise = jnp.zeros(official.batch.action.shape)
    return squashed_action(agent, outputs, noise)["mean"]


def _values(trace: Trace) -> dict[str, Any]:
    """Values that the file holds for every update."""
    seen = trace.values
    return {
        "critic_loss": jnp.mean(seen["critic_loss"]),
        "curl_loss": jnp.mean(seen["contrastive_loss"]),
        "logits": seen["logits"],
        **_heads("q", seen["q"]),
        **_heads("target_q", seen["target_q"]),
    }


def _policy_values(before: CurlState, trace: Trace) -> dict[str, Any]:
    """Values of actor and temperature, where they took a step."""
    seen = trace.values
    normal_entropy = 0.5 + distributions.LOG_SQRT_2PI + seen["actor_log_std"]
    return {
        "actor_loss": jnp.mean(seen["actor_loss"]),
        "alpha_loss": jnp.mean(seen["temperature_loss"]),
        "alpha_before": jnp.exp(before.log_temperature),
        "entropy_mean": jnp.mean(jnp.sum(normal_entropy, axis=-1)),
    }


def _heads(name: str, q: jax.Array) -> dict[str, jax.Array]:
    return {f"{name}{head + 1}": q[head][:, None] for head in range(2)}


def _norms(place: str, trace: Trace, tolerance: float, due: bool) -> dict[str, Claim]:
    """Norms of whole networks; those with the encoder pass every ReLU."""
    grads = trace.grads
    td, contrast = grads["td"], grads["contrast"]
    trunk = td["critic"]["params"]["trunk"]
    tensors = {
        "critic": (td, FIRST_CONVOLUTION),
        "critic_encoder_td": ((td["encoder"], trunk), FIRST_CONVOLUTION),
        "encoder_curl": ((contrast["encoder"], contrast["trunk"]), FIRST_CONVOLUTION),
        "W": (contrast["contrast"], tolerance),
    }
    if due:
        tensors["actor"] = (grads["actor"], tolerance)
        tensors["log_alpha"] = (grads["log_temperature"], tolerance)
    return {
        f"{place}/grad_norm/{name}": Claim(norm(jax.tree.leaves(tree)), allowed)
        for name, (tree, allowed) in tensors.items()
    }


def _first_update(
    arrays: Arrays, official: Official, before: CurlState, trace: Trace
) -> dict[str, Claim]:
    """What the file holds about the inside of the first update."""
    agent, seen, batch = official.agent, trace.values, official.batch
    drawn, size = _draws(arrays, 0), (official.agent.crop,) * 2
    next_obs = augment.crop(batch.next_obs, drawn.next_obs, size)
    online, slow = (
        encode(agent, encoder, next_obs) for encoder in (before.encoder, before.slow_encoder)
    )

    def embed(critic: Params, feat: jax.Array) -> jax.Array:
        return agent.critic.apply(critic, feat, method="embed")

    found: dict[str, Any] = {
        "critic_feat_obs": embed(before.critic, seen["feat"]),
        "target_feat_next": embed(before.slow_critic, slow),
        "actor_feat_next": agent.actor.apply(before.actor, online, method="embed"),
        "z_anchor": seen["anchor"],
        "z_pos": seen["positive"],
        "target_q_full": seen["target"][:, None],
        **_heads("actor_q", seen["actor_q"]),
    }
    for kind in ("target", "actor"):
        for theirs, ours in {"mu_tanh": "mean", "action": "action", "log_std": "log_std"}.items():
            found[f"{kind}_{theirs}"] = seen[f"{kind}_{ours}"]
        found[f"{kind}_log_pi"] = seen[f"{kind}_log_prob"][:, None]
    features = channel_major(seen["feat"], official.pixels, official.pixels)
    found |= feature_values("conv_obs", features, required(arrays, "out/u0/conv_idx"))
    return {f"out/u0/{name}": Claim(value) for name, value in found.items()}


def _step_claims(
    arrays: Arrays, official: Official, trace: Trace, before: CurlState, after: CurlState
) -> dict[str, Claim]:
    """Gradients of both losses, and all parameters after the whole update."""
    place, table, grads = "out/u0", official.table, trace.grads
    td = write_params(grads["td"] | {"actor": grads["actor"]}, table)
    contrast = write_params(
        {
            "encoder": grads["contrast"]["encoder"],
            "critic": {"params": {"trunk": grads["contrast"]["trunk"]}},
            "contrast": grads["contrast"]["contrast"],
        },
        {name: table[name] for name in table if ".trunk." not in name},
    )
    product = {"curl/W": contrast.pop("curl/W")}
    networks = ("encoder", "actor", "critic", "slow_encoder", "slow_critic", "contrast")
    old, new = (
        write_params({name: getattr(state, name) for name in networks}, table)
        for state in (before, after)
    )
    found = gradient_claims(arrays, place, "grad", td | product, _FIRST)
    found |= gradient_claims(arrays, place, "grad_curl", contrast, _FIRST)
    found |= norm_claims(place, td, _FIRST)
    found |= norm_claims(place, contrast, _FIRST, "tensor_grad_norm_curl")
    states = state_claims(arrays, place, old, new, official.lr)
    # Sums over W are stated in some files only.
    sums = {f"{place}/{name}/curl/W" for name in ("delta_abs_sum", "after_sumsq")} - set(arrays)
    return found | {name: claim for name, claim in states.items() if name not in sums}


def _table(pixels: int) -> Table:
    table = {"curl/W": Place(("contrast",), SAME)}
    for theirs, encoder, critic in (
        ("critic", "encoder", "critic"),
        ("critic_target", "slow_encoder", "slow_critic"),
    ):
        for layer in range(4):
            path = (encoder, "params", f"conv{layer}")
            name = f"{theirs}/encoder.convs.{layer}"
            table[f"{name}.weight"] = Place((*path, "kernel"), CONVOLUTION)
            table[f"{name}.bias"] = Place((*path, "bias"), SAME)
        table |= _trunk_table(theirs, critic, pixels)
        for official, head in {"Q1": "q1", "Q2": "q2"}.items():
            table |= mlp_table(f"{theirs}/{official}.trunk", (critic, "params", head))
    table |= _trunk_table("actor", "actor", pixels)
    return table | mlp_table("actor/trunk", ("actor", "params", "policy"))


def _trunk_table(theirs: str, ours: str, pixels: int) -> dict[str, Place]:
    path = (ours, "params", "trunk")
    return {
        f"{theirs}/encoder.fc.weight": Place(
            (*path, "linear", "kernel"), flat_linear(pixels, pixels)
        ),
        f"{theirs}/encoder.fc.bias": Place((*path, "linear", "bias"), SAME),
        f"{theirs}/encoder.ln.weight": Place((*path, "norm", "scale"), SAME),
        f"{theirs}/encoder.ln.bias": Place((*path, "norm", "bias"), SAME),
    }

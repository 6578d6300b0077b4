"""Golden values of V-D4RL's Offline DV2: penalties, ensemble RSSM, one update in imagination."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import losses
from coworld_jax.agents import ensemble
from coworld_jax.agents.dreamer.world_model import Observation, balanced_kl, draw
from coworld_jax.agents.offline_dv2.behavior import (
    PenalisedAgent,
    PenalisedState,
    actor_loss,
    update_penalised,
)
from coworld_jax.agents.optimizers import keras_adam
from coworld_jax.networks import MLP, ActorHead, EnsembleRSSM
from coworld_jax.types import Latent
from experiments.parity.compare import STEP, Claim
from experiments.parity.fixture import Arrays, FixtureError, required, setting
from experiments.parity.layouts import (
    SAME,
    Params,
    Place,
    Table,
    read_params,
    refuse_unknown,
    write_params,
)
from experiments.parity.steps import norm

_KINDS = {"meandis": "mean_distance", "log_prob_ens": "log_prob"}
_FREE = re.compile(r"rssm/out/kl_loss_free(.+)")


class Official(NamedTuple):
    """Our networks at the sizes of a file, with its weights."""

    rssm: EnsembleRSSM
    params: Params  # rssm, reward, actor, critic, slow_critic
    tables: Mapping[str, Table]  # of each network


def recognise(arrays: Arrays) -> bool:
    """An ensemble of priors with a layer-norm GRU."""
    return "w/rssm/gru_norm/scale" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    official = _read(arrays)
    seen = _observe(arrays, official, official.params["rssm"])
    found = _penalties(arrays) | _model(arrays, official, seen) | _kl(arrays, official)
    return found | _imagination(arrays, official, seen.post)


def _read(arrays: Arrays) -> Official:
    number = {name: int(setting(arrays, name)) for name in ("K", "stoch", "discrete", "deter")}
    hidden = int(setting(arrays, "hidden"))
    embed = required(arrays, "w/rssm/obs_out/kernel").shape[0] - number["deter"]
    rssm = EnsembleRSSM(
        heads=number["K"],
        latent="categorical",
        groups=number["stoch"],
        classes=number["discrete"],
        deter=number["deter"],
        hidden=hidden,
        embed=embed,
    )
    tables: dict[str, Table] = {
        "critic": head_table("critic", "critic", _layers(arrays, "critic")),
        "slow_critic": head_table("target_critic", "slow_critic", _layers(arrays, "target_critic")),
        "reward": head_table("reward", "reward", _layers(arrays, "reward")),
    }
    params = read_params(arrays, {k: v for table in tables.values() for k, v in table.items()})
    params["rssm"] = _read_rssm(arrays, rssm)
    params["actor"] = _read_actor(arrays)
    named = {f"w/{name}" for table in tables.values() for name in table}
    rest = {name: array for name, array in arrays.items() if name not in named}
    refuse_unknown(rest, {}, (*_rssm_names(number["K"]), *_actor_names(arrays)))
    return Official(rssm, jax.tree.map(jnp.asarray, params), tables)


def _penalties(arrays: Arrays) -> dict[str, Claim]:
    """Values and gradients for given logits."""
    logits = jnp.asarray(required(arrays, "pen/in/logits"), jnp.float32)
    index = required(arrays, "pen/in/stoch_index")
    one_hot = jax.nn.one_hot(index, logits.shape[-1])
    stoch = one_hot.reshape(*index.shape[:-1], -1)
    found = {}
    for name in (*_KINDS, "mixstd_mean"):

        def value(logits: jax.Array, name: str = name) -> tuple[jax.Array, jax.Array]:
            each = _penalty(name, {"logits": logits}, stoch)
            return jnp.sum(each), each

        grad, each = jax.grad(value, has_aux=True)(logits)
        found[f"pen/out/{name}"] = Claim(each)
        found[f"pen/out/grad_norm/{name}"] = Claim(norm([grad]))
        found[f"pen/out/grad_t0n0g0/{name}"] = Claim(grad[:, 0, 0, 0])
    return found


def _penalty(name: str, stats: dict[str, jax.Array], stoch: jax.Array) -> jax.Array:
    if name in _KINDS:
        return ensemble.DISAGREEMENTS[_KINDS[name]](stats, stoch)
    # The official code takes [K, T, N] for [T, N, K]: members and states are mixed.
    probs = jax.nn.softmax(stats["logits"])
    heads, *states = probs.shape[:-2]
    mixed = jnp.moveaxis(probs.reshape(*states, heads, -1), -2, 0)
    return losses.mixture_std(mixed)


def _observe(arrays: Arrays, official: Official, params: Params) -> Observation:
    embed, action, first = (
        jnp.swapaxes(jnp.asarray(required(arrays, f"rssm/in/{name}")), 0, 1)
        for name in ("embed", "action", "is_first")
    )
    heads = jnp.asarray(required(arrays, "rssm/in/heads"))
    filtering = jax.jit(ensemble.observe, static_argnums=0)
    return filtering(official.rssm, params, embed, action, first, heads, None)


def _model(arrays: Arrays, official: Official, seen: Observation) -> dict[str, Claim]:
    """Filtered and predicted states, and every prior at the filtered ones."""
    params = official.params["rssm"]
    found: dict[str, jax.Array] = {"feat": seen.feat}
    prior_stoch = draw(seen.prior, None)
    for name, stats, stoch in (
        ("post", seen.post.stats, seen.post.stoch),
        ("prior", seen.prior, prior_stoch),
    ):
        found[f"{name}/logit"] = stats["logits"]
        found[f"{name}/stoch"] = stoch.reshape(stats["logits"].shape)
        found[f"{name}/deter"] = seen.post.deter
    every = official.rssm.apply(params, seen.post.deter, method="priors")
    # The official arrays are batch-major, also where the mixture's reshape mixes them.
    every = {"logits": jnp.swapaxes(every["logits"], 1, 2)}
    stoch = jnp.swapaxes(seen.post.stoch, 0, 1)
    values = {f"rssm/out/{k}": jnp.swapaxes(v, 0, 1) for k, v in found.items()}
    values["rssm/out/ensemble_logits"] = every["logits"]
    values["rssm/out/kl_value"] = jnp.swapaxes(losses.latent_kl(seen.post.stats, seen.prior), 0, 1)
    for name in (*_KINDS, "mixstd_mean"):
        values[f"rssm/out/penalty/{name}"] = _penalty(name, every, stoch)
    return {name: Claim(value) for name, value in values.items()}


def _kl(arrays: Arrays, official: Official) -> dict[str, Claim]:
    """The balanced divergence with several clamps, and its gradients."""
    found = {}

    @jax.jit
    @jax.value_and_grad
    def loss(params: Params, free: float) -> jax.Array:
        return balanced_kl(_observe(arrays, official, params), 0.8, free)

    for match in filter(None, map(_FREE.fullmatch, sorted(arrays))):
        free = match[1]
        value, grads = loss(official.params["rssm"], float(free))
        found[f"rssm/out/kl_loss_free{free}"] = Claim(value)
        found[f"rssm/out/kl_grad_norm_free{free}"] = Claim(norm(jax.tree.leaves(grads)))
        if float(free) == 0.0:
            for name, grad in _write_rssm(grads, official.rssm).items():
                found[f"rssm/out/kl_tensor_grad_norm/{name}"] = Claim(norm([grad]))
    return found


def _imagination(arrays: Arrays, official: Official, post: Latent) -> dict[str, Claim]:
    """One update of actor and critic from all filtered states."""
    agent, state = _agent(arrays, official)
    start = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), post._replace(stats={})
    )
    heads = jnp.asarray(required(arrays, "imag/in/heads"))
    model = {name: official.params[name] for name in ("rssm", "reward")}
    after, seen, grads = jax.jit(update_penalised, static_argnums=0)(
        agent, state, model, start, heads, None, jnp.asarray(0)
    )
    weight = seen["weight"]
    constant = 0.5 * math.log(2.0 * math.pi) * jnp.mean(weight[:-1])
    values: dict[str, Any] = {
        **{name: seen[name] for name in ("feat", "action", "deter", "penalty", "weight")},
        "target": seen["lambda_return"],
        **{name: seen[name] for name in ("entropy", "slow_value")},
        "reward_head": seen["plain_reward"],
        "reward_used": seen["reward"],
        "reward_after_norm": seen["reward"] / (1.0 + setting(arrays, "rewnorm_eps")),
        "value": seen["value"],
        "actor_loss": jnp.mean(seen["actor_loss"]),
        "critic_loss": jnp.mean(seen["critic_loss"]) + constant,
        "grad_norm/actor": norm(jax.tree.leaves(grads["actor"])),
        "grad_norm/critic": norm(jax.tree.leaves(grads["critic"])),
        "grad_norm/actor_if_penalty_were_detached": _without_penalty(
            agent, state, model, start, heads
        ),
    }
    found = {f"imag/out/{name}": Claim(value) for name, value in values.items()}
    tables, lr = official.tables, setting(arrays, "actor_lr")
    critic_lr = setting(arrays, "critic_lr")
    for kind, trees, allowed in (
        ("grad", grads, {}),
        (
            "after",
            {"actor": after.actor, "critic": after.critic, "slow_critic": after.slow_critic},
            {"actor": lr, "critic": critic_lr, "slow_critic": critic_lr},
        ),
    ):
        for network, tree in trees.items():
            written = (
                _write_actor(tree, arrays)
                if network == "actor"
                else write_params({network: tree}, tables[network])
            )
            for name, value in written.items():
                claim = Claim(value)
                if allowed:
                    claim = Claim(value, STEP * allowed[network], absolute=True)
                found[f"imag/out/{kind}/{name}"] = claim
    return found


def _without_penalty(
    agent: PenalisedAgent, state: PenalisedState, model: Params, start: Latent, heads: jax.Array
) -> float:
    """The actor's gradient norm if the penalty were a constant; the returns are linear in it."""
    free = agent._replace(penalty_scale=0.0)

    @jax.jit
    @jax.grad
    def slope(actor: Params) -> jax.Array:
        return jnp.mean(actor_loss(actor, free, state, model, start, heads, None)[0])

    return norm(jax.tree.leaves(slope(state.actor)))


def _agent(arrays: Arrays, official: Official) -> tuple[PenalisedAgent, PenalisedState]:
    params = official.params
    eps, clip, decay = (setting(arrays, name) for name in ("adam_eps", "clip", "wd"))
    actions = required(arrays, "rssm/in/action").shape[-1]
    agent = PenalisedAgent(
        rssm=official.rssm,
        reward=MLP(*_layers(arrays, "reward")),
        actor=ActorHead(actions, *_layers(arrays, "actor")),
        critic=MLP(*_layers(arrays, "critic")),
        actor_optimizer=keras_adam(setting(arrays, "actor_lr"), eps, clip, decay),
        critic_optimizer=keras_adam(setting(arrays, "critic_lr"), eps, clip, decay),
        penalty="mean_distance",
        penalty_scale=setting(arrays, "lmbd"),
        discount=setting(arrays, "discount"),
        lambda_=setting(arrays, "discount_lambda"),
        entropy_scale=setting(arrays, "actor_ent"),
    )
    state = PenalisedState(
        actor=params["actor"],
        critic=params["critic"],
        slow_critic=params["slow_critic"],
        actor_opt=agent.actor_optimizer.init(params["actor"]),
        critic_opt=agent.critic_optimizer.init(params["critic"]),
    )
    return agent, state


def _layers(arrays: Arrays, network: str) -> tuple[int, int]:
    """Count and units of a head's hidden layers."""
    count = sum(1 for name in arrays if re.fullmatch(rf"w/{network}/dense\d+/kernel", name))
    if count == 0:
        raise FixtureError(f"w/{network}/dense0/kernel is missing.")
    return count, arrays[f"w/{network}/dense0/kernel"].shape[1]


def head_table(theirs: str, ours: str, layers: tuple[int, int]) -> dict[str, Place]:
    """A scalar head: dense layers and an output."""
    table = {}
    for index in range(layers[0] + 1):
        last = index == layers[0]
        name, layer = ("out/out", "output") if last else (f"dense{index}", f"hidden{index}")
        for part in ("kernel", "bias"):
            table[f"{theirs}/{name}/{part}"] = Place((ours, "params", layer, part), SAME)
    return table


def _actor_names(arrays: Arrays) -> list[str]:
    layers = [f"dense{index}" for index in range(_layers(arrays, "actor")[0])]
    names = (*layers, "out/out", "out/std")
    return [f"actor/{name}/{part}" for name in names for part in ("kernel", "bias")]


def _read_actor(arrays: Arrays) -> Params:
    """Mean and scale are two layers there, one here."""

    def layer(name: str) -> Params:
        return {p: required(arrays, f"w/actor/{name}/{p}") for p in ("kernel", "bias")}

    mean, std = layer("out/out"), layer("out/std")
    output = {p: np.concatenate([mean[p], std[p]], axis=-1) for p in ("kernel", "bias")}
    hidden = {f"hidden{i}": layer(f"dense{i}") for i in range(_layers(arrays, "actor")[0])}
    return {"params": hidden | {"output": output}}


def _write_actor(actor: Params, arrays: Arrays) -> dict[str, np.ndarray]:
    inner, found = actor["params"], {}
    for part in ("kernel", "bias"):
        for index in range(_layers(arrays, "actor")[0]):
            found[f"actor/dense{index}/{part}"] = np.asarray(inner[f"hidden{index}"][part])
        mean, std = np.split(np.asarray(inner["output"][part]), 2, axis=-1)
        found |= {f"actor/out/out/{part}": mean, f"actor/out/std/{part}": std}
    return found


_PLAIN = {"img_in": "input", "gru": "gates", "obs_dist": "post_stats"}
_STACKED = {"img_out": "hidden", "img_dist": "stats"}


def _rssm_names(heads: int) -> list[str]:
    layers = [*_PLAIN, "obs_out", *(f"{name}_{k}" for name in _STACKED for k in range(heads))]
    names = [f"rssm/{layer}/{part}" for layer in layers for part in ("kernel", "bias")]
    return [*names, "rssm/gru_norm/scale", "rssm/gru_norm/offset"]


def _read_rssm(arrays: Arrays, rssm: EnsembleRSSM) -> Params:
    def take(name: str) -> np.ndarray:
        return required(arrays, f"w/rssm/{name}")

    params: Params = {
        ours: {part: take(f"{theirs}/{part}") for part in ("kernel", "bias")}
        for theirs, ours in _PLAIN.items()
    }
    params["norm"] = {"scale": take("gru_norm/scale"), "bias": take("gru_norm/offset")}
    deter, embed = np.split(take("obs_out/kernel"), [rssm.deter])
    params["post_deter"] = {"kernel": deter, "bias": take("obs_out/bias")}
    params["post_embed"] = {"kernel": embed}
    params["prior_heads"] = {
        f"{ours}_{part}": np.stack([take(f"{theirs}_{k}/{part}") for k in range(rssm.heads)])
        for theirs, ours in _STACKED.items()
        for part in ("kernel", "bias")
    }
    return {"params": params}


def _write_rssm(params: Params, rssm: EnsembleRSSM) -> dict[str, np.ndarray]:
    """The inverse of `_read_rssm`."""
    inner, found = params["params"], {}
    for part in ("kernel", "bias"):
        for theirs, ours in _PLAIN.items():
            found[f"rssm/{theirs}/{part}"] = inner[ours][part]
        for theirs, ours in _STACKED.items():
            for k in range(rssm.heads):
                found[f"rssm/{theirs}_{k}/{part}"] = inner["prior_heads"][f"{ours}_{part}"][k]
    found["rssm/gru_norm/scale"] = inner["norm"]["scale"]
    found["rssm/gru_norm/offset"] = inner["norm"]["bias"]
    kernels = [inner[name]["kernel"] for name in ("post_deter", "post_embed")]
    found["rssm/obs_out/kernel"] = np.concatenate(kernels)
    found["rssm/obs_out/bias"] = inner["post_deter"]["bias"]
    return found

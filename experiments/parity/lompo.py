"""Golden values of LOMPO: penalties, world model, imagined transitions, two agent updates."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.agents import ensemble
from coworld_jax.agents.dreamer.world_model import Observation, draw, normalise_image
from coworld_jax.agents.lompo.model import (
    ImaginedSteps,
    LatentModel,
    ModelDraws,
    StepDraws,
    encode,
    imagine_steps,
    model_terms,
)
from coworld_jax.agents.model_free import (
    FeatureAgent,
    FeatureState,
    Transitions,
    update_features,
)
from coworld_jax.agents.optimizers import keras_adam
from coworld_jax.networks import MLP, Decoder, Encoder, EnsembleRSSM, FeatureActor, FeatureCritic
from coworld_jax.types import Latent, Metrics
from experiments.parity.compare import LATER, STEP, VALUE, Claim
from experiments.parity.fixture import Arrays, FixtureError, required, setting
from experiments.parity.layouts import (
    SAME,
    Layout,
    Params,
    Place,
    Table,
    read_params,
    refuse_unknown,
    write_params,
)
from experiments.parity.steps import norm

_KINDS = {"log_prob": "log_prob", "max_var": "largest_std", "mean": "mean_distance"}
_TRANSPOSED = Layout(  # [k, k, out, in]
    lambda x: np.transpose(x, (0, 1, 3, 2)), lambda x: np.transpose(x, (0, 1, 3, 2))
)
_PARTS = ("kernel", "bias")


class Official(NamedTuple):
    """Our networks at the sizes of a file, with its weights."""

    model: LatentModel
    params: Params  # encoder, rssm, decoder, reward
    actor: FeatureActor
    actor_params: Params
    table: Table  # of all that is stored here as there


def recognise(arrays: Arrays) -> bool:
    """An ensemble of priors with Keras' GRU."""
    return "w/rssm/gru/recurrent_kernel" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    official = _read(arrays)
    found, post = _model(arrays, official)
    return found | _penalties(arrays) | _latent(arrays, official, post) | _agent(arrays, official)


def _read(arrays: Arrays) -> Official:
    image = required(arrays, "in/image")
    if image.dtype != np.uint8 or image.ndim != 5 or image.shape[2:] != (64, 64, 3):
        raise FixtureError(
            f"in/image is {image.dtype} {image.shape}, but uint8 (B, L, 64, 64, 3) is needed."
        )
    heads, action_size = int(setting(arrays, "K")), required(arrays, "in/action").shape[2]
    stats = required(arrays, "w/rssm/obs2/bias").shape[0]
    deter = required(arrays, "w/rssm/gru/recurrent_kernel").shape[0]
    hidden = required(arrays, "w/rssm/img1/bias").shape[0]
    depth = required(arrays, "w/encode/h1/bias").shape[0]
    rssm = EnsembleRSSM(
        heads=heads,
        latent="gaussian",
        groups=stats // 2,
        classes=1,
        deter=deter,
        hidden=hidden,
        embed=required(arrays, "w/rssm/obs1/kernel").shape[0] - deter,
        min_std=setting(arrays, "min_std"),
    )
    table = _table(arrays)
    refuse_unknown(arrays, table, tuple(_rssm_names(heads)))
    params = read_params(arrays, table)
    params["rssm"] = _read_rssm(arrays, rssm)
    params = jax.tree.map(jnp.asarray, params)
    return Official(
        model=LatentModel(
            encoder=Encoder(depth, activation="relu"),
            rssm=rssm,
            decoder=Decoder(required(arrays, "w/decode/h1/bias").shape[0] // 32, activation="relu"),
            reward=MLP(*_layers(arrays, "reward")),
            penalty_scale=setting(arrays, "lmbd"),
            noise_scale=setting(arrays, "expl_amount"),
        ),
        params={name: params[name] for name in ("encoder", "rssm", "decoder", "reward")},
        actor=FeatureActor(action_size, *_layers(arrays, "actor")),
        actor_params=params["actor"],
        table=table,
    )


def _model(arrays: Arrays, official: Official) -> tuple[dict[str, Claim], Latent]:
    """The model's loss and gradients; also the filtered states, time-major."""
    image, action, reward, mask = (
        jnp.swapaxes(jnp.asarray(required(arrays, f"in/{name}")), 0, 1)
        for name in ("image", "action", "reward", "mask")
    )
    image, batch = normalise_image(image), reward.shape[1]
    draws = ModelDraws(
        jnp.asarray(required(arrays, "noise/head_observe")),
        _shared(required(arrays, "noise/obs_post"), batch),
    )

    @jax.jit
    def loss(params: Params) -> tuple[jax.Array, tuple[Metrics, Any]]:
        terms, aux = model_terms(params, official.model, image, action, reward, draws)
        each = terms["kl"] + terms["image"] + terms["reward"]
        return jnp.sum(mask * each) / jnp.sum(mask), (terms, aux)

    (total, (terms, (seen, predicted))), grads = jax.value_and_grad(loss, has_aux=True)(
        official.params
    )
    prior_noise = _shared(required(arrays, "noise/obs_prior"), batch)
    feat = seen.feat.reshape(-1, seen.feat.shape[-1])
    decoded = official.model.decoder.apply(official.params["decoder"], feat)
    values = _states(seen, prior_noise) | {
        "embed": encode(official.model, official.params, image),
        "image_logprob": -terms["image"],
        "image_mean_sum": jnp.sum(decoded.reshape(image.shape), axis=(2, 3)),
        "reward_mean": predicted,
        "reward_logprob": -terms["reward"],
        "kl": terms["kl"],
    }
    found = {f"model/out/{k}": Claim(jnp.swapaxes(v, 0, 1)) for k, v in values.items()}
    found["model/out/loss"] = Claim(total)
    found["model/out/grad_norm"] = Claim(norm(jax.tree.leaves(grads)))
    plain = {name: grads[name] for name in ("encoder", "decoder", "reward")}
    tensors = write_params(plain, official.table) | _write_rssm(grads["rssm"], official.model.rssm)
    for name, grad in tensors.items():
        found[f"model/out/tensor_grad_norm/{name}"] = Claim(norm([grad]))
    return found, seen.post


def _states(seen: Observation, prior_noise: jax.Array) -> dict[str, jax.Array]:
    """Filtered and predicted states under their names."""
    found = {"feat": seen.feat}
    for name, stats, stoch in (
        ("post", seen.post.stats, seen.post.stoch),
        ("prior", seen.prior, draw(seen.prior, prior_noise)),
    ):
        found |= {f"{name}/mean": stats["mean"], f"{name}/std": stats["std"]}
        found |= {f"{name}/stoch": stoch, f"{name}/deter": seen.post.deter}
    return found


def _penalties(arrays: Arrays) -> dict[str, Claim]:
    """Disagreement of given statistics."""
    stats = {name: jnp.asarray(required(arrays, f"pen/in/{name}")) for name in ("mean", "std")}
    stoch = jnp.asarray(required(arrays, "pen/in/z"))
    return {
        f"pen/out/{theirs}": Claim(ensemble.DISAGREEMENTS[ours](stats, stoch))
        for theirs, ours in _KINDS.items()
    }


def _latent(arrays: Arrays, official: Official, post: Latent) -> dict[str, Claim]:
    """Transitions made up from every valid state, with each penalty."""
    valid = np.flatnonzero(required(arrays, "in/mask").reshape(-1))
    start = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:])[valid], post._replace(stats={})
    )

    draws = StepDraws(
        jnp.asarray(required(arrays, "noise/head_imagine")),
        _shared(required(arrays, "noise/imag_next"), len(valid)),
        jnp.asarray(required(arrays, "noise/explore")),
    )
    actor, params = official.actor, official.actor_params

    @jax.jit
    def steps() -> dict[str, ImaginedSteps]:
        models = {name: official.model._replace(penalty=kind) for name, kind in _KINDS.items()}
        return {
            name: imagine_steps(model, official.params, actor, params, start, draws)
            for name, model in models.items()
        }

    found: dict[str, jax.Array] = {}
    for name, made in steps().items():
        found |= {f"reward_{name}": made.reward, f"penalty_{name}": made.penalty}
        found |= {"obs": made.obs, "action": made.action, "next_obs": made.next_obs}
        found |= {"reward_plain": made.plain_reward, "done": jnp.zeros(made.reward.shape)}
    return {f"latent/out/{name}": Claim(value) for name, value in found.items()}


def _agent(arrays: Arrays, official: Official) -> dict[str, Claim]:
    """Updates of the agent on the same rows."""
    agent, state = _feature_agent(arrays, official)
    rows = {
        name: jnp.asarray(required(arrays, f"agent/in/{name}"))
        for name in ("obs", "actions", "rewards", "next_obs", "terminals")
    }
    batch = Transitions(
        obs=rows["obs"],
        action=rows["actions"],
        reward=rows["rewards"][:, 0],
        discount=setting(arrays, "discount") * (1.0 - rows["terminals"][:, 0]),
        next_obs=rows["next_obs"],
    )
    run = jax.jit(update_features, static_argnums=0)
    found: dict[str, Claim] = {}
    count = len({name.split("/")[2] for name in arrays if name.startswith("agent/out/u")})
    for index in range(count):
        state, trace = run(agent, state, batch)
        place, tolerance = f"agent/out/u{index}", LATER if index else VALUE
        values: dict[str, Any] = {
            "q_loss": jnp.mean(trace.values["critic_loss"]),
            "actor_loss": jnp.mean(trace.values["actor_loss"]),
            "grad_norm/q": norm(jax.tree.leaves(trace.grads["critic"])),
            "grad_norm/actor": norm(jax.tree.leaves(trace.grads["actor"])),
        }
        found |= {f"{place}/{name}": Claim(value, tolerance) for name, value in values.items()}
        if index == 0:
            found |= _step_claims(arrays, official, trace.grads, state)
    return found


def _step_claims(
    arrays: Arrays, official: Official, grads: dict[str, Params], after: FeatureState
) -> dict[str, Claim]:
    """Gradients and parameters of the first update, whole."""
    found = {}
    for name, grad in write_params(grads, official.table).items():
        found[f"agent/out/u0/grad/{name}"] = Claim(grad)
    networks = ("actor", "critic", "slow_critic")
    written = write_params({k: getattr(after, k) for k in networks}, official.table)
    for name, value in written.items():
        lr = setting(arrays, "actor_lr" if name.startswith("actor/") else "q_lr")
        found[f"agent/out/u0/after/{name}"] = Claim(value, STEP * lr, absolute=True)
    return found


def _feature_agent(arrays: Arrays, official: Official) -> tuple[FeatureAgent, FeatureState]:
    eps, clip = setting(arrays, "adam_eps"), setting(arrays, "clip")
    agent = FeatureAgent(
        actor=official.actor,
        critic=FeatureCritic(*_layers(arrays, "qf1")),
        actor_optimizer=keras_adam(setting(arrays, "actor_lr"), eps, clip),
        critic_optimizer=keras_adam(setting(arrays, "q_lr"), eps, clip),
        slow_rate=setting(arrays, "tau"),
    )
    params = jax.tree.map(jnp.asarray, read_params(arrays, official.table))
    state = FeatureState(
        actor=params["actor"],
        critic=params["critic"],
        slow_critic=params["slow_critic"],
        actor_opt=agent.actor_optimizer.init(params["actor"]),
        critic_opt=agent.critic_optimizer.init(params["critic"]),
    )
    return agent, state


def _shared(noise: np.ndarray, batch: int) -> jax.Array:
    """One vector per draw, the same for the whole batch: ``[T, S] -> [T, batch, S]``."""
    return jnp.broadcast_to(noise[:, None], (noise.shape[0], batch, noise.shape[1]))


def _layers(arrays: Arrays, network: str) -> tuple[int, int]:
    """Count and units of a head's hidden layers."""
    count = sum(1 for name in arrays if re.fullmatch(rf"w/{network}/h\d+/kernel", name))
    return count, required(arrays, f"w/{network}/h0/kernel").shape[1]


def _table(arrays: Arrays) -> Table:
    table = {}
    for index in range(4):
        for part in _PARTS:
            path = ("params", f"conv{index}", part)
            transposed = _TRANSPOSED if part == "kernel" else SAME
            table[f"encode/h{index + 1}/{part}"] = Place(("encoder", *path), SAME)
            table[f"decode/h{index + 2}/{part}"] = Place(("decoder", *path), transposed)
    for part in _PARTS:
        table[f"decode/h1/{part}"] = Place(("decoder", "params", "input", part), SAME)
    heads: dict[str, tuple[str, ...]] = {
        "reward": ("reward", "params"),
        "actor": ("actor", "params"),
        "qf1": ("critic", "params", "q1"),
        "qf2": ("critic", "params", "q2"),
        "target_qf1": ("slow_critic", "params", "q1"),
        "target_qf2": ("slow_critic", "params", "q2"),
    }
    for theirs, root in heads.items():
        layers = _layers(arrays, theirs)[0]
        for part in _PARTS:
            for index in range(layers):
                table[f"{theirs}/h{index}/{part}"] = Place((*root, f"hidden{index}", part), SAME)
            table[f"{theirs}/hout/{part}"] = Place((*root, "output", part), SAME)
    return table


_PLAIN = {"img1": "input", "obs2": "post_stats"}
_STACKED = {"img2": "hidden", "img3": "stats"}


def _rssm_names(heads: int) -> list[str]:
    layers = [*_PLAIN, "obs1", "gru", *(f"{name}_{k}" for name in _STACKED for k in range(heads))]
    names = [f"rssm/{layer}/{part}" for layer in layers for part in _PARTS]
    return [*names, "rssm/gru/recurrent_kernel"]


def _read_rssm(arrays: Arrays, rssm: EnsembleRSSM) -> Params:
    def take(name: str) -> np.ndarray:
        return required(arrays, f"w/rssm/{name}")

    params: Params = {
        ours: {part: take(f"{theirs}/{part}") for part in _PARTS} for theirs, ours in _PLAIN.items()
    }
    bias = take("gru/bias")  # of the input's product, and of the recurrent one
    params["gates"] = {"kernel": take("gru/kernel"), "bias": bias[0]}
    params["recurrent_gates"] = {"kernel": take("gru/recurrent_kernel"), "bias": bias[1]}
    deter, embed = np.split(take("obs1/kernel"), [rssm.deter])
    params["post_deter"] = {"kernel": deter, "bias": take("obs1/bias")}
    params["post_embed"] = {"kernel": embed}
    params["prior_heads"] = {
        f"{ours}_{part}": np.stack([take(f"{theirs}_{k}/{part}") for k in range(rssm.heads)])
        for theirs, ours in _STACKED.items()
        for part in _PARTS
    }
    return {"params": params}


def _write_rssm(params: Params, rssm: EnsembleRSSM) -> dict[str, np.ndarray]:
    """The inverse of `_read_rssm`."""
    inner, found = params["params"], {}
    for part in _PARTS:
        for theirs, ours in _PLAIN.items():
            found[f"rssm/{theirs}/{part}"] = inner[ours][part]
        for theirs, ours in _STACKED.items():
            for k in range(rssm.heads):
                found[f"rssm/{theirs}_{k}/{part}"] = inner["prior_heads"][f"{ours}_{part}"][k]
    gates, recurrent = inner["gates"], inner["recurrent_gates"]
    found["rssm/gru/kernel"] = gates["kernel"]
    found["rssm/gru/recurrent_kernel"] = recurrent["kernel"]
    found["rssm/gru/bias"] = np.stack([gates["bias"], recurrent["bias"]])
    kernels = [inner[name]["kernel"] for name in ("post_deter", "post_embed")]
    found["rssm/obs1/kernel"] = np.concatenate(kernels)
    found["rssm/obs1/bias"] = inner["post_deter"]["bias"]
    return found

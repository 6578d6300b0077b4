"""Files of golden values of pixel agents at small sizes, from formulas written down a second time.

Channels come first, weights lie in a flat dictionary under PyTorch's names, convolutions are lax's:
nothing of the package is used. It checks the reading of files and the order of an update; that
the formulas are the official ones is what the official files are for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Arrays = dict[str, Any]

LR, TAU, CLIP, ADAM_EPS = 3e-4, 0.02, 0.25, 1e-8
WHOLE = 2048  # entries of the largest tensor that a file holds whole


class PixelSizes(NamedTuple):
    """Sizes of a file; height and width differ, and the hidden kernel exceeds `WHOLE`."""

    batch: int = 3
    height: int = 20
    width: int = 23
    channels: int = 9
    conv: int = 2
    feature: int = 5
    hidden: int = 46
    action: int = 2
    candidates: int = 3
    updates: int = 2


def relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0.0)


def bias(x: jax.Array, b: jax.Array) -> jax.Array:
    return x + jnp.broadcast_to(b, x.shape)


def linear(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    return bias(x @ w[f"{name}.weight"].T, w[f"{name}.bias"])


def layer_norm(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    scaled = (x - mean) / jnp.sqrt(variance + 1e-5)
    return bias(scaled * jnp.broadcast_to(w[f"{name}.weight"], x.shape), w[f"{name}.bias"])


def mlp(w: Arrays, name: str, x: jax.Array) -> jax.Array:
    for number in (0, 2):
        x = relu(linear(w, f"{name}.{number}", x))
    return linear(w, f"{name}.4", x)


def convolutions(w: Arrays, names: list[str], x: jax.Array) -> list[jax.Array]:
    found = []
    for index, name in enumerate(names):
        stride = (2, 2) if index == 0 else (1, 1)
        x = jax.lax.conv_general_dilated(x, w[f"{name}.weight"], stride, "VALID")
        x = relu(x + jnp.broadcast_to(w[f"{name}.bias"][:, None, None], x.shape))
        found.append(x)
    return found


CONVS = [f"encoder/convnet.{2 * index}" for index in range(4)]


def encode(w: Arrays, frames: jax.Array) -> jax.Array:
    x = convolutions(w, CONVS, frames.astype(jnp.float32) / 255.0 - 0.5)[-1]
    return x.reshape(x.shape[0], -1)


def trunk(w: Arrays, net: str, f: jax.Array) -> jax.Array:
    return jnp.tanh(layer_norm(w, f"{net}/trunk.1", linear(w, f"{net}/trunk.0", f)))


def mean_action(w: Arrays, f: jax.Array) -> jax.Array:
    return jnp.tanh(mlp(w, "actor/policy", trunk(w, "actor", f)))


def critics(w: Arrays, net: str, f: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
    x = jnp.concatenate([trunk(w, net, f), action], axis=-1)
    return mlp(w, f"{net}/Q1", x), mlp(w, f"{net}/Q2", x)


def noisy(mean: jax.Array, std: float, noise: jax.Array) -> jax.Array:
    raw = mean + jnp.clip(std * noise, -CLIP, CLIP)
    return raw + jax.lax.stop_gradient(jnp.clip(raw, -0.999999, 0.999999) - raw)


def shifted(frames: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Windows of frames padded by 4; the shift is (column, row)."""
    _, _, height, width = frames.shape
    padded = np.pad(frames, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="edge")
    return np.stack(
        [p[:, y : y + height, x : x + width] for p, (x, y) in zip(padded, shift, strict=True)]
    )


class Adam:
    """PyTorch's, on a flat dictionary."""

    def __init__(self, lr: float, b1: float = 0.9) -> None:
        self.lr, self.b1, self.count = lr, b1, 0
        self.m: Arrays = {}
        self.v: Arrays = {}

    def step(self, w: Arrays, grads: Arrays) -> Arrays:
        self.count += 1
        if self.count == 1:
            self.m = {name: jnp.zeros_like(g) for name, g in grads.items()}
            self.v = dict(self.m)
        new = dict(w)
        for name, g in grads.items():
            self.m[name] = self.b1 * self.m[name] + (1 - self.b1) * g
            self.v[name] = 0.999 * self.v[name] + 0.001 * g * g
            mhat = self.m[name] / (1 - self.b1**self.count)
            vhat = self.v[name] / (1 - 0.999**self.count)
            new[name] = w[name] - self.lr * mhat / (jnp.sqrt(vhat) + ADAM_EPS)
        return new


def part(w: Arrays, *nets: str) -> Arrays:
    return {name: value for name, value in w.items() if name.startswith(nets)}


def slope(loss: Callable[[Arrays], Any], w: Arrays, *nets: str) -> tuple[Any, Arrays]:
    """What a loss returns beside its value, and its gradient with respect to some networks."""
    grads, seen = jax.grad(lambda p: loss(w | p), has_aux=True)(part(w, *nets))
    return seen, grads


def norm(arrays: Arrays) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.float64(x))) for x in arrays.values())))


def step_record(place: str, grads: Arrays, before: Arrays, after: Arrays) -> Arrays:
    """Gradients and parameters after a step, whole or at some indices."""
    found: Arrays = {}
    rng = np.random.default_rng(0)
    for name, value in after.items():
        at, index = "", slice(None)
        if value.size > WHOLE:
            at, index = "_at", rng.choice(value.size, 100, replace=False)
            found[f"{place}/idx/{name}"] = index
        shape = value.shape if at == "" else (100,)
        found[f"{place}/after{at}/{name}"] = value.reshape(-1)[index].reshape(shape)
        found[f"{place}/delta_abs_sum/{name}"] = np.sum(np.abs(np.float64(value) - before[name]))
        found[f"{place}/after_sumsq/{name}"] = np.sum(np.square(np.float64(value)))
        if name in grads:
            found[f"{place}/grad{at}/{name}"] = grads[name].reshape(-1)[index].reshape(shape)
            found[f"{place}/tensor_grad_norm/{name}"] = norm({name: grads[name]})
    return found


def weights(sizes: PixelSizes, rng: np.random.Generator) -> Arrays:
    """Random weights of a DrQ agent under PyTorch's names."""
    height, width = (((size - 3) // 2 + 1) - 6 for size in (sizes.height, sizes.width))
    flat, found = sizes.conv * height * width, {}

    def put(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        found[f"{name}.bias"] = 0.1 * rng.normal(size=shape[0])

    for index, name in enumerate(CONVS):
        put(name, sizes.conv, sizes.conv if index else sizes.channels, 3, 3)
    for net in ("actor", "critic", "critic_target"):
        put(f"{net}/trunk.0", sizes.feature, flat)
        found[f"{net}/trunk.1.weight"] = 1.0 + 0.2 * rng.normal(size=sizes.feature)
        found[f"{net}/trunk.1.bias"] = 0.1 * rng.normal(size=sizes.feature)
        inputs = sizes.feature + (0 if net == "actor" else sizes.action)
        for head in ("policy",) if net == "actor" else ("Q1", "Q2"):
            put(f"{net}/{head}.0", sizes.hidden, inputs)
            put(f"{net}/{head}.2", sizes.hidden, sizes.hidden)
            put(f"{net}/{head}.4", sizes.action if net == "actor" else 1, sizes.hidden)
    return {name: jnp.asarray(value, jnp.float32) for name, value in found.items()}


def inputs(sizes: PixelSizes, rng: np.random.Generator, kind: str) -> Arrays:
    """A batch, draws and constants."""
    b, a, c, u = sizes.batch, sizes.action, sizes.candidates, sizes.updates
    frames = (b, sizes.channels, sizes.height, sizes.width)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    found: Arrays = {
        "in/obs": rng.integers(0, 256, frames, np.uint8),
        "in/next_obs": rng.integers(0, 256, frames, np.uint8),
        "in/action": 1.3 * normal(b, a),
        "in/reward": normal(b, 1),
        "in/discount": np.where(np.arange(b)[:, None] == 1, 0.0, 0.97).astype(np.float32),
        "noise/shift_obs": rng.integers(0, 9, (u, b, 2)),
        "noise/shift_next": rng.integers(0, 9, (u, b, 2)),
        "noise/target": normal(u, b, a),
        "noise/actor": normal(u, b, a),
        "cfg/step": 50_000 + 2 * np.arange(u),
        "cfg/lr": LR,
        "cfg/tau": TAU,
        "cfg/stddev_clip": CLIP,
        "cfg/stddev_init": 1.0,
        "cfg/stddev_final": 0.2,
        "cfg/stddev_steps": 2e5,
        "cfg/adam_b1": 0.9,
        "cfg/adam_b2": 0.999,
        "cfg/adam_eps": ADAM_EPS,
    }
    if kind == "cql":
        found["noise/cql_random"] = rng.uniform(-1, 1, (u, b, c, a)).astype(np.float32)
        found |= {f"noise/cql_{name}": normal(u, b, c, a) for name in ("curr", "next")}
        return found | {"cfg/min_q_weight": 5.0}
    return found | {"cfg/bc_weight": 2.5}


def fixture(kind: str) -> Arrays:
    """A file of ``drqbc`` or ``cql``."""
    rng, sizes = np.random.default_rng(3), PixelSizes()
    w = weights(sizes, rng)
    arrays = {f"w/{name}": value for name, value in w.items()} | inputs(sizes, rng, kind)
    arrays["out/eval_action"] = mean_action(w, encode(w, jnp.asarray(arrays["in/obs"])))
    start, critic_adam, actor_adam = w, Adam(LR), Adam(LR)
    for u in range(sizes.updates):
        w, out = update(kind, arrays, w, u, critic_adam, actor_adam)
        arrays |= {f"out/u{u}/{name}": value for name, value in out.items()}
    if kind == "drqbc":
        arrays |= cloning(arrays, start) | replay()
    return {name: np.asarray(value) for name, value in arrays.items()}


def update(
    kind: str, arrays: Arrays, w: Arrays, u: int, critic_adam: Adam, actor_adam: Adam
) -> tuple[Arrays, Arrays]:
    """One update, and what a file holds about it."""
    before = w
    action, reward, discount = (arrays[f"in/{n}"] for n in ("action", "reward", "discount"))
    std = 1.0 - 0.8 * float(arrays["cfg/step"][u]) / 2e5
    obs, next_obs = (
        shifted(arrays[f"in/{name}"], arrays[f"noise/shift_{short}"][u])
        for name, short in (("obs", "obs"), ("next_obs", "next"))
    )
    next_f = encode(w, jnp.asarray(next_obs))
    target_mu = mean_action(w, next_f)
    target_action = noisy(target_mu, std, arrays["noise/target"][u])
    t1, t2 = critics(w, "critic_target", next_f, target_action)
    y = reward + discount * jnp.minimum(t1, t2)

    def critic_loss(p: Arrays) -> Any:
        f = encode(p, jnp.asarray(obs))
        q1, q2 = critics(p, "critic", f, action)
        loss = jnp.mean((q1 - y) ** 2) + jnp.mean((q2 - y) ** 2)
        seen = {"f": f, "q1": q1, "q2": q2}
        if kind == "cql":
            terms, more = conservative(arrays, w, p, u, f, target_mu, std)
            loss, seen = loss + terms[0] + terms[1], seen | more
        return loss, seen | {"critic_loss": loss}

    seen, critic_grads = slope(critic_loss, w, "encoder/", "critic/")
    w = critic_adam.step(w, critic_grads)
    f = seen.pop("f")

    def actor_loss(p: Arrays) -> Any:
        mu = mean_action(p, f)
        chosen = noisy(mu, std, arrays["noise/actor"][u])
        q1, q2 = critics(w, "critic", f, chosen)
        q = jnp.minimum(q1, q2)
        found = {"actor_mu": mu, "actor_action": chosen, "actor_q1": q1, "actor_q2": q2}
        loss = found["actor_policy_loss"] = -jnp.mean(q)
        if kind == "drqbc":
            lam = jax.lax.stop_gradient(2.5 / jnp.mean(jnp.abs(q)))
            found |= {"lam": lam, "bc_loss": jnp.mean((chosen - action) ** 2)}
            loss = lam * loss + found["bc_loss"]
        return loss, found | {"actor_loss": loss}

    chosen, actor_grads = slope(actor_loss, w, "actor/")
    w = actor_adam.step(w, actor_grads)
    for name in part(w, "critic_target/"):
        fast = w[name.replace("_target", "")]
        w[name] = TAU * fast + (1 - TAU) * w[name]
    out = seen | chosen | {"target_action": target_action, "target_q1": t1, "target_q2": t2}
    out |= {"stddev": std, "target_q_mean": jnp.mean(y)} | density(chosen, std)
    for net in ("encoder", "critic"):
        out[f"grad_norm/{net}"] = norm(part(critic_grads, f"{net}/"))
    out["grad_norm/actor"] = norm(actor_grads)
    if u > 0:
        inner = {"lam", "actor_mu", "cql_curr_actions", "cql_next_actions"}
        inner |= {name for name in out if name.startswith("cql_q")}
        return w, {name: value for name, value in out.items() if name not in inner}
    out |= {"target_mu": target_mu, "target_q_full": y} | inside(before, obs, f, next_f)
    recorded = step_record("", critic_grads | actor_grads, before, w)
    return w, out | {name.removeprefix("/"): value for name, value in recorded.items()}


def density(chosen: Arrays, std: float) -> Arrays:
    """Log-density and entropy of the policy's normal distribution."""
    deviation = (chosen["actor_action"] - chosen["actor_mu"]) / std
    each = -0.5 * deviation**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    entropy = each.shape[1] * (0.5 * np.log(2 * np.pi * np.e) + np.log(std))
    return {"actor_logprob": jnp.mean(jnp.sum(each, axis=1)), "actor_entropy": entropy}


def conservative(
    arrays: Arrays, w: Arrays, p: Arrays, u: int, f: jax.Array, next_mu: jax.Array, std: float
) -> tuple[list[jax.Array], Arrays]:
    """Both critics' terms, one candidate action after another, all at s."""
    mu = mean_action(w, jax.lax.stop_gradient(f))
    kinds = {"random": arrays["noise/cql_random"][u]}
    for name, mean in (("next", next_mu), ("curr", mu)):
        noise = arrays[f"noise/cql_{name}"][u]
        each = [noisy(mean, std, noise[:, c]) for c in range(noise.shape[1])]
        kinds[name] = jax.lax.stop_gradient(jnp.stack(each, axis=1))
    data = critics(p, "critic", f, arrays["in/action"])
    found: Arrays = {f"cql_{name}_actions": kinds[name] for name in ("curr", "next")}
    terms = []
    for head in range(2):
        values = {
            name: jnp.concatenate(
                [critics(p, "critic", f, a[:, c])[head] for c in range(a.shape[1])], axis=1
            )
            for name, a in kinds.items()
        }
        found |= {f"cql_q{head + 1}_{name}": value for name, value in values.items()}
        every = jnp.concatenate([*values.values(), data[head]], axis=1)
        soft = jnp.log(jnp.sum(jnp.exp(every), axis=1))
        terms.append(5.0 * (jnp.mean(soft) - jnp.mean(data[head])))
        found[f"cql_term{head + 1}"] = terms[-1]
    return terms, found


def inside(w: Arrays, obs: np.ndarray, f: jax.Array, next_f: jax.Array) -> Arrays:
    """The inner values of the first update."""
    index = np.random.default_rng(1).choice(f.shape[1], 20, replace=False)
    found: Arrays = {
        "aug_obs_b0c0": obs[0, 0],
        "aug_obs_b1c8": obs[1, 8],
        "feat_idx": index,
        "actor_trunk_next": trunk(w, "actor", next_f),
        "critic_trunk_obs": trunk(w, "critic", f),
    }
    layers = convolutions(w, CONVS, jnp.asarray(obs, jnp.float32) / 255.0 - 0.5)
    for count, x in enumerate(layers):
        found[f"conv{count + 1}_channel_mean"] = jnp.mean(x, axis=(2, 3))
    for name, feat in (("feat_obs", f), ("feat_next", next_f)):
        found |= {name: feat[:, index], f"{name}_sum": jnp.sum(feat, axis=1)}
        found[f"{name}_sumsq"] = jnp.sum(feat**2, axis=1)
    return found


def cloning(arrays: Arrays, w: Arrays) -> Arrays:
    """One update of behaviour cloning."""
    obs = jnp.asarray(shifted(arrays["in/obs"], arrays["noise/shift_obs"][0]))
    std = 1.0 - 0.8 * float(arrays["cfg/step"][0]) / 2e5

    def loss(p: Arrays) -> Any:
        action = noisy(mean_action(p, encode(p, obs)), std, arrays["noise/actor"][0])
        value = jnp.mean((action - arrays["in/action"]) ** 2)
        return value, {"action": action, "actor_loss": value}

    seen, grads = slope(loss, w, "encoder/", "actor/")
    after = Adam(LR).step(part(w, "encoder/", "actor/"), grads)
    found = {f"bc/out/{name}": value for name, value in seen.items()}
    for net in ("encoder", "actor"):
        found[f"bc/out/grad_norm/{net}"] = norm(part(grads, f"{net}/"))
    return found | step_record("bc/out", grads, w, after)


def replay() -> Arrays:
    """Two episodes of 5 and 4 rows, and their transitions row by row."""
    kind = np.array([0, 1, 1, 1, 2, 0, 1, 1, 2])
    reward = np.arange(9, dtype=np.float32) ** 2
    discount = np.array([1, 1, 0.5, 1, 0, 1, 1, 0.9, 1], np.float32)
    action = np.stack([np.arange(9.0), -np.arange(9.0)], axis=1).astype(np.float32)
    found: Arrays = {
        "replay/in/frame_id": np.arange(9, dtype=np.uint8) + 10,
        "replay/in/reward": reward,
        "replay/in/action": action,
        "replay/in/discount": discount,
        "replay/in/step_type": kind,
        "replay/in/frame_stack": 3,
        "replay/in/gamma": np.float32(0.9),
    }
    for n in (1, 3):
        rows: dict[str, list[Any]] = {k: [] for k in ("obs_ids", "next_ids", "action")}
        rows |= {"reward": [], "discount": []}
        for first, last in ((0, 4), (5, 8)):
            for t in range(first, last - n + 1):
                rows["obs_ids"].append([10 + max(t - k, first) for k in (2, 1, 0)])
                rows["next_ids"].append([10 + max(t + n - k, first) for k in (2, 1, 0)])
                rows["action"].append(action[t + 1])
                rows["reward"].append([sum(0.9**i * reward[t + 1 + i] for i in range(n))])
                rows["discount"].append([0.9**n * discount[t + n]])
        found |= {f"replay/out/n{n}/{name}": np.array(value) for name, value in rows.items()}
    return found

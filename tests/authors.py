"""The authors' networks, written from their equations in plain NumPy, and fixtures made with them.

An independent second implementation: torch layouts and names, float64, loops over time. It shares
no code with the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]


class Sizes(NamedTuple):
    """Sizes of one fixture; ``classes`` 0 means Gaussian latents."""

    groups: int = 3
    classes: int = 0
    layer_norm: bool = False
    deter: int = 5
    hidden: int = 7
    depth: int = 1
    action: int = 2
    units: int = 4
    reward_layers: int = 2
    value_layers: int = 3
    actor_layers: int = 4
    batch: int = 2
    time: int = 3

    @property
    def stoch(self) -> int:
        return self.groups * max(self.classes, 1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1.0)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def linear(weights: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """torch's Linear: weight ``[out, in]``."""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def convolution(weights: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """torch's Conv2d of stride 2: ``[N, C, h, w]``, weight ``[out, in, kh, kw]``."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    size = kernel.shape[-1]
    high = (x.shape[-1] - size) // 2 + 1
    y = np.zeros((x.shape[0], kernel.shape[0], high, high)) + bias[:, None, None]
    for p in range(size):
        for q in range(size):
            window = x[:, :, p : p + 2 * high - 1 : 2, q : q + 2 * high - 1 : 2]
            y += np.einsum("ncij,oc->noij", window, kernel[:, :, p, q])
    return y


def transposed_convolution(weights: Arrays, name: str, x: np.ndarray) -> np.ndarray:
    """torch's ConvTranspose2d of stride 2: ``[N, C, h, w]``, weight ``[in, out, kh, kw]``."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    size, high = kernel.shape[-1], x.shape[-1]
    out = 2 * (high - 1) + size
    y = np.zeros((x.shape[0], kernel.shape[1], out, out)) + bias[:, None, None]
    for p in range(size):
        for q in range(size):
            part = np.einsum("ncij,co->noij", x, kernel[:, :, p, q])
            y[:, :, p : p + 2 * high - 1 : 2, q : q + 2 * high - 1 : 2] += part
    return y


def encode(weights: Arrays, module: str, image: np.ndarray) -> np.ndarray:
    """``[..., 64, 64, 3]`` to embeddings, flattened channel by channel."""
    x = np.moveaxis(image.reshape(-1, 64, 64, 3), -1, 1)
    for layer in range(4):
        x = elu(convolution(weights, f"w/{module}/layers.{2 * layer}", x))
    return x.reshape(*image.shape[:-3], -1)


def decode(weights: Arrays, feat: np.ndarray) -> np.ndarray:
    x = linear(weights, "w/decoder/_linear_layer", feat.reshape(-1, feat.shape[-1]))
    x = x[:, :, None, None]
    for layer in range(4):
        x = transposed_convolution(weights, f"w/decoder/_cnnt_layers.{2 * layer}", x)
        x = elu(x) if layer < 3 else x
    return np.moveaxis(x, 1, -1).reshape(*feat.shape[:-1], 64, 64, 3)


def recur(weights: Arrays, stoch: np.ndarray, deter: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The GRU with its parts in the order reset, candidate, update."""
    x = elu(linear(weights, "w/dynamics/_inp_layers.0", np.concatenate([stoch, action], -1)))
    parts = linear(weights, "w/dynamics/_cell._layer", np.concatenate([x, deter], -1))
    if "w/dynamics/_cell._norm.weight" in weights:
        centred = parts - parts.mean(-1, keepdims=True)
        parts = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        parts = parts * weights["w/dynamics/_cell._norm.weight"]
        parts = parts + weights["w/dynamics/_cell._norm.bias"]
    size = deter.shape[-1]
    reset, candidate, update = parts[:, :size], parts[:, size : 2 * size], parts[:, 2 * size :]
    update = sigmoid(update - 1.0)
    return update * np.tanh(sigmoid(reset) * candidate) + (1.0 - update) * deter


def latent(sizes: Sizes, weights: Arrays, layers: tuple[str, str], x: np.ndarray) -> Arrays:
    """Statistics and mode, under the authors' names."""
    x = linear(weights, layers[1], elu(linear(weights, layers[0], x)))
    if not sizes.classes:
        mean, std = x[:, : sizes.groups], x[:, sizes.groups :]
        return {"mean": mean, "std": 2.0 * sigmoid(std / 2.0) + 0.1, "stoch": mean}
    logit = x.reshape(-1, sizes.groups, sizes.classes)
    return {"logit": logit, "stoch": np.eye(sizes.classes)[logit.argmax(-1)]}


def step(
    sizes: Sizes, weights: Arrays, state: Arrays, action: np.ndarray, embed: np.ndarray | None
) -> tuple[Arrays, Arrays]:
    """Prior after one action, and the posterior if there is an embedding."""
    flat = state["stoch"].reshape(sizes.batch, -1)
    deter = recur(weights, flat, state["deter"], action)
    names = ("w/dynamics/_img_out_layers.0", "w/dynamics/_ims_stat_layer")
    prior = latent(sizes, weights, names, deter) | {"deter": deter}
    if embed is None:
        return prior, prior
    names = ("w/dynamics/_obs_out_layers.0", "w/dynamics/_obs_stat_layer")
    joint = np.concatenate([deter, embed], -1)
    return prior, latent(sizes, weights, names, joint) | {"deter": deter}


def mlp(weights: Arrays, name: str, layers: int, x: np.ndarray) -> np.ndarray:
    for layer in range(layers):
        x = elu(linear(weights, f"{name}.{2 * layer}", x))
    return x


def kl(sizes: Sizes, q: Arrays, p: Arrays) -> np.ndarray:
    """``KL(q || p)`` summed over the latent, per batch element and step."""
    if sizes.classes:
        log_q, log_p = log_softmax(q["logit"]), log_softmax(p["logit"])
        return (np.exp(log_q) * (log_q - log_p)).sum((-1, -2))
    variance = (q["std"] / p["std"]) ** 2
    gap = ((q["mean"] - p["mean"]) / p["std"]) ** 2
    return (0.5 * (variance + gap - 1.0 - np.log(variance))).sum(-1)


def outputs(sizes: Sizes, arrays: Arrays) -> Arrays:
    """All values below ``out/``."""
    image = arrays["in/image"] / 255.0 - 0.5
    action, found = arrays["in/action"], {}
    found["embed"] = encode(arrays, "encoder", image)
    found["source_embed"] = encode(arrays, "source_encoder", image)
    state: Arrays = {
        "stoch": np.zeros((sizes.batch, sizes.stoch)),
        "deter": np.zeros((sizes.batch, sizes.deter)),
    }
    steps: dict[str, list[Arrays]] = {"prior": [], "post": [], "imagined": []}
    for t in range(sizes.time):
        prior, state = step(sizes, arrays, state, action[:, t], found["embed"][:, t])
        steps["prior"].append(prior)
        steps["post"].append(state)
    for t in range(sizes.time):
        state, _ = step(sizes, arrays, state, action[:, t], None)
        steps["imagined"].append(state)
    series = {
        name: {key: np.stack([s[key] for s in states], 1) for key in states[0]}
        for name, states in steps.items()
    }
    for name, fields in series.items():
        found |= {f"{name}/{key}": value for key, value in fields.items()}
    flat = series["post"]["stoch"].reshape(sizes.batch, sizes.time, -1)
    feat = found["feat"] = np.concatenate([flat, series["post"]["deter"]], -1)
    mean = found["image_mean"] = decode(arrays, feat)
    constant = 0.5 * np.log(2.0 * np.pi)
    found["image_logprob"] = (-0.5 * (image - mean) ** 2 - constant).sum((-1, -2, -3))
    for name, layers in (("reward", sizes.reward_layers), ("value", sizes.value_layers)):
        hidden = mlp(arrays, f"w/{name}/_mean_layers", layers, feat)
        found[f"{name}_mean"] = linear(arrays, f"w/{name}/_mean_layers.{2 * layers}", hidden)[
            ..., 0
        ]
    found["reward_logprob"] = -0.5 * (arrays["in/reward"] - found["reward_mean"]) ** 2 - constant
    hidden = mlp(arrays, "w/actor/_pre_layers", sizes.actor_layers, feat)
    actor = linear(arrays, "w/actor/_dist_layer", hidden)
    found["actor_loc"] = np.tanh(actor[..., : sizes.action])
    found["actor_scale"] = 2.0 * sigmoid(actor[..., sizes.action :] / 2.0) + 0.1
    found["kl_value"] = kl(sizes, series["post"], series["prior"])
    for free in (0, 1):
        clamped = max(found["kl_value"].mean(), free)
        found[f"kl_loss_balance0.8_free{free}"] = np.asarray(0.8 * clamped + 0.2 * clamped)
    log_source, log_own = log_softmax(found["source_embed"]), log_softmax(found["embed"])
    found["alignment_kl_sum"] = (np.exp(log_source) * (log_source - log_own)).sum()
    return {f"out/{name}": np.asarray(value, np.float32) for name, value in found.items()}


def weights(sizes: Sizes, rng: np.random.Generator) -> Arrays:
    """Random weights in torch's layouts and under its names, uniform like torch's."""
    found: Arrays = {}

    def layer(name: str, shape: tuple[int, ...], fan_in: int, bias: int) -> None:
        limit = fan_in**-0.5
        found[f"w/{name}.weight"] = rng.uniform(-limit, limit, shape)
        found[f"w/{name}.bias"] = rng.uniform(-limit, limit, bias)

    def dense(name: str, rows: int, columns: int) -> None:
        layer(name, (rows, columns), columns, rows)

    depth, feat = sizes.depth, sizes.stoch + sizes.deter
    for module in ("encoder", "source_encoder"):
        channels = (3, depth, 2 * depth, 4 * depth, 8 * depth)
        for i in range(4):
            shape = (channels[i + 1], channels[i], 4, 4)
            layer(f"{module}/layers.{2 * i}", shape, 16 * channels[i], channels[i + 1])
    stats = sizes.stoch if sizes.classes else 2 * sizes.groups
    dense("dynamics/_inp_layers.0", sizes.hidden, sizes.stoch + sizes.action)
    dense("dynamics/_cell._layer", 3 * sizes.deter, sizes.hidden + sizes.deter)
    if sizes.layer_norm:
        found["w/dynamics/_cell._norm.weight"] = rng.uniform(0.5, 1.5, 3 * sizes.deter)
        found["w/dynamics/_cell._norm.bias"] = rng.uniform(-0.5, 0.5, 3 * sizes.deter)
    dense("dynamics/_img_out_layers.0", sizes.hidden, sizes.deter)
    dense("dynamics/_obs_out_layers.0", sizes.hidden, sizes.deter + 32 * depth)
    dense("dynamics/_ims_stat_layer", stats, sizes.hidden)
    dense("dynamics/_obs_stat_layer", stats, sizes.hidden)
    dense("decoder/_linear_layer", 32 * depth, feat)
    channels = (32 * depth, 4 * depth, 2 * depth, depth, 3)
    for i, size in enumerate((5, 5, 6, 6)):
        shape = (channels[i], channels[i + 1], size, size)
        fan = size**2 * channels[i + 1]
        layer(f"decoder/_cnnt_layers.{2 * i}", shape, fan, channels[i + 1])

    def head(name: str, layers: int) -> int:
        for i in range(layers):
            dense(f"{name}.{2 * i}", sizes.units, feat if i == 0 else sizes.units)
        return sizes.units if layers else feat

    for name, layers in (("reward", sizes.reward_layers), ("value", sizes.value_layers)):
        width = head(f"{name}/_mean_layers", layers)
        dense(f"{name}/_mean_layers.{2 * layers}", 1, width)
    dense("actor/_dist_layer", 2 * sizes.action, head("actor/_pre_layers", sizes.actor_layers))
    return {name: array.astype(np.float32) for name, array in found.items()}


def fixture(sizes: Sizes, seed: int = 0) -> Arrays:
    """A whole random fixture."""
    rng = np.random.default_rng(seed)
    leading = (sizes.batch, sizes.time)
    arrays = weights(sizes, rng) | {
        "in/image": rng.integers(0, 256, (*leading, 64, 64, 3), np.uint8),
        "in/action": rng.uniform(-1, 1, (*leading, sizes.action)).astype(np.float32),
        "in/reward": rng.normal(size=leading).astype(np.float32),
    }
    return arrays | outputs(sizes, arrays)


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)
    return path

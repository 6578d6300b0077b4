"""The authors' PyTorch weights in our networks.

A fixture is an ``.npz`` file with ``w/<module>/<torch parameter>``, ``in/*`` and ``out/*``:
weights, inputs, and what the authors' modules answer, batch-major. Every size is read off the
weights, so one format serves all sizes, both kinds of latents and both kinds of GRU cells.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.world_model import WorldModel
from coworld_jax.agents.gradient import Params
from coworld_jax.networks import MLP, RSSM, ActorHead, Decoder, Encoder
from experiments.parity.fixture import Arrays, FixtureError, required

INPUTS = ("in/image", "in/action", "in/reward")


class Networks(NamedTuple):
    """Our networks at the sizes of a fixture."""

    model: WorldModel
    source_encoder: Encoder
    critic: MLP
    actor: ActorHead


def networks_of(arrays: Arrays) -> Networks:
    """Our networks at the sizes that a fixture's weights have.

    Gaussian latents have twice as many statistics as stochastic values, categorical ones as many;
    how these divide into groups is seen on ``out/post/logit``, for no weight depends on it.

    Raises:
        FixtureError: an array is missing, or its shape fits no network of ours.
    """
    batch, time, action_size = _checked_inputs(arrays)
    hidden, joint = _weight(arrays, "dynamics", "_inp_layers.0.weight", 2).shape
    deter = _weight(arrays, "dynamics", "_cell._layer.weight", 2).shape[0] // 3
    stats = _weight(arrays, "dynamics", "_ims_stat_layer.weight", 2).shape[0]
    stoch = joint - action_size
    if stats == 2 * stoch:
        latent, groups, classes = "gaussian", stoch, 1
    elif stats == stoch:
        latent = "categorical"
        logit = required(arrays, "out/post/logit")
        if logit.ndim != 4 or logit.shape[2] * logit.shape[3] != stoch:
            raise FixtureError(
                f"out/post/logit has shape {logit.shape}, but {stoch} logits in groups of classes "
                f"are needed: ({batch}, {time}, groups, classes)."
            )
        groups, classes = logit.shape[2:]
    else:
        raise FixtureError(
            f"w/dynamics/_ims_stat_layer.weight gives {stats} statistics for {stoch} stochastic "
            "values: as many are categorical latents, twice as many Gaussian ones."
        )
    encoder = _encoder(arrays, "encoder")
    spread = _weight(arrays, "decoder", "_linear_layer.weight", 2).shape[0]
    if spread % 32:
        raise FixtureError(
            f"w/decoder/_linear_layer.weight has {spread} rows, not 32 times a depth."
        )
    return Networks(
        model=WorldModel(
            encoder=encoder,
            rssm=RSSM(
                latent=latent,
                groups=groups,
                classes=classes,
                deter=deter,
                hidden=hidden,
                cell="layer_norm" if "w/dynamics/_cell._norm.weight" in arrays else "plain",
                embed=32 * encoder.depth,
            ),
            decoder=Decoder(spread // 32),
            reward=MLP(*_hidden_layers(arrays, "reward", "_mean_layers", 1)),
            continuation=None,
            action_size=action_size,
        ),
        source_encoder=_encoder(arrays, "source_encoder"),
        critic=MLP(*_hidden_layers(arrays, "value", "_mean_layers", 1)),
        actor=ActorHead(action_size, *_hidden_layers(arrays, "actor", "_pre_layers", 0)),
    )


def parameters_of(arrays: Arrays, networks: Networks) -> dict[str, Params]:
    """The weights in our layout: ``model``, ``source_encoder``, ``critic`` and ``actor``.

    Linear ``[out, in] -> [in, out]``; Conv2d ``[out, in, h, w] -> [h, w, in, out]``;
    ConvTranspose2d ``[in, out, h, w] -> [h, w, in, out]``. The posterior's first layer is divided
    into the part of the recurrent state, with the bias, and that of the embedding; the latter's
    rows are permuted, because the authors flatten the last convolution channel by channel, we row
    by row.

    Raises:
        FixtureError: a weight is missing, unknown, or of another shape than the others imply.
    """
    used: set[str] = set()

    def take(module: str, name: str, rank: int) -> np.ndarray:
        used.add(f"w/{module}/{name}")
        return _weight(arrays, module, name, rank)

    def linear(module: str, name: str) -> dict[str, np.ndarray]:
        return {
            "kernel": take(module, f"{name}.weight", 2).T,
            "bias": take(module, f"{name}.bias", 1),
        }

    def convolution(module: str, name: str, axes: tuple[int, ...]) -> dict[str, np.ndarray]:
        return {
            "kernel": take(module, f"{name}.weight", 4).transpose(axes),
            "bias": take(module, f"{name}.bias", 1),
        }

    def encoder(module: str) -> Params:
        layers = [convolution(module, f"layers.{2 * i}", (2, 3, 1, 0)) for i in range(4)]
        return {"params": {f"conv{i}": layer for i, layer in enumerate(layers)}}

    def head(module: str, name: str, layers: int, output: str) -> Params:
        hidden = {f"hidden{i}": linear(module, f"{name}.{2 * i}") for i in range(layers)}
        return {"params": hidden | {"output": linear(module, output)}}

    model = networks.model
    first = linear("dynamics", "_obs_out_layers.0")
    deter, embed = np.split(first["kernel"], [model.rssm.deter])
    rssm = {
        "input": linear("dynamics", "_inp_layers.0"),
        "gates": linear("dynamics", "_cell._layer"),
        "prior_hidden": linear("dynamics", "_img_out_layers.0"),
        "prior_stats": linear("dynamics", "_ims_stat_layer"),
        "post_deter": {"kernel": deter, "bias": first["bias"]},
        "post_embed": {"kernel": _row_by_row(embed)},
        "post_stats": linear("dynamics", "_obs_stat_layer"),
    }
    if model.rssm.cell == "layer_norm":
        rssm["norm"] = {
            "scale": take("dynamics", "_cell._norm.weight", 1),
            "bias": take("dynamics", "_cell._norm.bias", 1),
        }
    decoder = {"input": linear("decoder", "_linear_layer")}
    for i in range(4):
        decoder[f"conv{i}"] = convolution("decoder", f"_cnnt_layers.{2 * i}", (2, 3, 0, 1))
    reward, critic, actor = model.reward.layers, networks.critic.layers, networks.actor.layers
    params: dict[str, Params] = {
        "model": {
            "encoder": encoder("encoder"),
            "rssm": {"params": rssm},
            "decoder": {"params": decoder},
            "reward": head("reward", "_mean_layers", reward, f"_mean_layers.{2 * reward}"),
        },
        "source_encoder": encoder("source_encoder"),
        "critic": head("value", "_mean_layers", critic, f"_mean_layers.{2 * critic}"),
        "actor": head("actor", "_pre_layers", actor, "_dist_layer"),
    }
    unknown = sorted({name for name in arrays if name.startswith("w/")} - used)
    if unknown:
        raise FixtureError(f"{unknown[0]} belongs to no layer of these networks.")
    _check_shapes(params, networks)
    return params


def _row_by_row(kernel: np.ndarray) -> np.ndarray:
    """Rows ``[channel, 2, 2]``, flattened, to rows ``[2, 2, channel]``, flattened."""
    if kernel.shape[0] % 4 or kernel.size == 0:
        raise FixtureError(
            "w/dynamics/_obs_out_layers.0.weight has no columns for an embedding of 2x2 pixels."
        )
    return kernel.reshape(-1, 2, 2, kernel.shape[1]).transpose(1, 2, 0, 3).reshape(kernel.shape)


def _checked_inputs(arrays: Arrays) -> tuple[int, int, int]:
    """Batch, time and action size of the inputs."""
    image, action, reward = (required(arrays, name) for name in INPUTS)
    if image.dtype != np.uint8 or image.ndim != 5 or image.shape[2:] != (64, 64, 3):
        raise FixtureError(
            f"in/image is {image.dtype} {image.shape}, but uint8 (B, T, 64, 64, 3) is needed."
        )
    batch, time = image.shape[:2]
    if action.ndim != 3 or action.shape[:2] != (batch, time):
        raise FixtureError(f"in/action has shape {action.shape}, not ({batch}, {time}, A).")
    if reward.shape != (batch, time):
        raise FixtureError(f"in/reward has shape {reward.shape}, not ({batch}, {time}).")
    return batch, time, action.shape[2]


def _weight(arrays: Arrays, module: str, name: str, rank: int) -> np.ndarray:
    weight = required(arrays, f"w/{module}/{name}")
    if weight.ndim != rank:
        raise FixtureError(f"w/{module}/{name} has {weight.ndim} dimensions, not {rank}.")
    return weight


def _encoder(arrays: Arrays, module: str) -> Encoder:
    return Encoder(_weight(arrays, module, "layers.0.weight", 4).shape[0])


def _hidden_layers(arrays: Arrays, module: str, name: str, outputs: int) -> tuple[int, int]:
    """Count and units of a head's hidden layers; ``outputs`` of its numbered layers are none."""
    pattern = re.compile(rf"w/{module}/{name}\.\d+\.weight")
    count = sum(1 for key in arrays if pattern.fullmatch(key)) - outputs
    if count < 0:
        raise FixtureError(f"w/{module}/{name}.0.weight is missing.")
    return count, _weight(arrays, module, f"{name}.0.weight", 2).shape[0] if count else 1


def _check_shapes(params: dict[str, Params], networks: Networks) -> None:
    """The weights fit the networks, leaf by leaf."""
    model = networks.model
    feat = jnp.zeros((1, model.rssm.stoch + model.rssm.deter))
    key = jax.random.key(0)

    def init() -> dict[str, Any]:
        return {
            "model": world_model.init_world_model(model, key),
            "source_encoder": networks.source_encoder.init(key, jnp.zeros((1, 64, 64, 3))),
            "critic": networks.critic.init(key, feat),
            "actor": networks.actor.init(key, feat),
        }

    needed = dict(jax.tree_util.tree_leaves_with_path(jax.eval_shape(init)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.shape != needed[path].shape:
            place = "/".join(str(part.key) for part in path if part.key != "params")
            raise FixtureError(
                f"the weights for {place} have shape {leaf.shape} in our layout, but the sizes of "
                f"the other weights imply {needed[path].shape}."
            )
    if networks.source_encoder.depth != model.encoder.depth:
        raise FixtureError(
            f"w/source_encoder has depth {networks.source_encoder.depth}, w/encoder has "
            f"{model.encoder.depth}: their embeddings cannot be compared."
        )

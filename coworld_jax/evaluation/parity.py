"""Parity with the authors' PyTorch networks: their weights in our networks, value by value.

A fixture is an ``.npz`` file with ``w/<module>/<torch parameter>``, ``in/*`` and ``out/*``: weights,
inputs, and what the authors' modules answer, batch-major. Every size is read off the weights, so
one file format serves all sizes, both kinds of latents and both kinds of GRU cells.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import losses, world_model
from coworld_jax.networks import MLP, RSSM, ActorHead, Decoder, Encoder
from coworld_jax.types import Latent
from coworld_jax.world_model import Observation, Params, WorldModel

TOLERANCE = 1e-4
"""Largest relative difference that passes."""

Weights = Mapping[str, np.ndarray]

_INPUTS = ("in/image", "in/action", "in/reward")
_SCALARS = (
    "embed",
    "source_embed",
    "feat",
    "image_mean",
    "image_logprob",
    "reward_mean",
    "reward_logprob",
    "value_mean",
    "actor_loc",
    "actor_scale",
    "kl_value",
    "alignment_kl_sum",
    "kl_loss_balance0.8_free0",
    "kl_loss_balance0.8_free1",
)
_KL_LOSS = re.compile(r"kl_loss_balance(\d+(?:\.\d+)?)_free(\d+(?:\.\d+)?)")
_STATS = {"gaussian": ("mean", "std"), "categorical": ("logit",)}


class FixtureError(ValueError):
    """The file is not a fixture that can be checked; the message says why."""


class Difference(NamedTuple):
    """Ours against the authors' values; None where one of them is missing or not finite."""

    quantity: str
    max_abs: float | None
    max_rel: float | None  # largest absolute difference over the largest absolute reference

    @property
    def passed(self) -> bool:
        """Whether the two agree to `TOLERANCE`."""
        return self.max_rel is not None and self.max_rel <= TOLERANCE


class Networks(NamedTuple):
    """Our networks at the sizes of a fixture."""

    model: WorldModel
    source_encoder: Encoder
    critic: MLP
    actor: ActorHead


def load_fixture(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a fixture file, floats as float32.

    Raises:
        FixtureError: no such file, not an ``.npz`` archive, damaged, or with unusable arrays.
    """
    if not path.is_file():
        raise FixtureError(f"{path} does not exist: name an .npz file of golden values.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise FixtureError(f"{path} is a single array, not an .npz archive.")
            arrays = {name: archive[name] for name in archive.files}
    except FixtureError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise FixtureError(f"{path} cannot be read as an .npz archive: {error}.") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise FixtureError(f"{path}: {name} has dtype {array.dtype}, numbers are needed.")
        if name.startswith(("w/", "in/")) and not np.isfinite(array).all():
            raise FixtureError(f"{path}: {name} has values that are not finite.")
    return {
        name: array if name == "in/image" else array.astype(np.float32)
        for name, array in arrays.items()
    }


def check_parity(path: Path) -> list[Difference]:
    """Run our networks on a fixture's weights and inputs, and compare every quantity.

    Args:
        path: an ``.npz`` file of the authors' values.

    Returns:
        One difference for each quantity that the format names or the file holds.

    Raises:
        FixtureError: the file is broken, or describes networks of another architecture.
    """
    arrays = load_fixture(path)
    try:
        networks = networks_of(arrays)
        params = parameters_of(arrays, networks)
    except FixtureError as error:
        raise FixtureError(f"{path}: {error}") from error
    names = {name.removeprefix("out/") for name in arrays if name.startswith("out/")}
    names |= set(expected_quantities(networks.model.rssm.latent))
    kl_losses = tuple(sorted(name for name in names if _KL_LOSS.fullmatch(name)))
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(quantities, static_argnums=(0, 5))(
            networks, params, *(arrays[name] for name in _INPUTS), kl_losses
        )
    return [
        _difference(name, ours.get(name), arrays.get(f"out/{name}")) for name in sorted(names)
    ]


def expected_quantities(latent: str) -> Iterator[str]:
    """Names that every fixture holds below ``out/``."""
    yield from _SCALARS
    for state in ("post", "prior", "imagined"):
        for field in ("stoch", "deter", *_STATS[latent]):
            yield f"{state}/{field}"


def networks_of(arrays: Mapping[str, np.ndarray]) -> Networks:
    """Our networks at the sizes that a fixture's weights have.

    Gaussian latents have twice as many statistics as stochastic values, categorical ones as many;
    how these divide into groups is seen on ``out/post/logit``, for no weight depends on it.

    Raises:
        FixtureError: an array is missing, or its shape fits no network of ours.
    """
    batch, time, action_size = _checked_inputs(arrays)
    rssm = _module(arrays, "dynamics")
    gates = _array(rssm, "dynamics", "_cell._layer.weight", 2)
    hidden, joint = _array(rssm, "dynamics", "_inp_layers.0.weight", 2).shape
    deter, stoch = gates.shape[0] // 3, joint - action_size
    stats = _array(rssm, "dynamics", "_ims_stat_layer.weight", 2).shape[0]
    if stats == 2 * stoch:
        latent, groups, classes = "gaussian", stoch, 1
    elif stats == stoch > 0:
        latent = "categorical"
        logit = _required(arrays, "out/post/logit")
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
    decoder_input = _array(_module(arrays, "decoder"), "decoder", "_linear_layer.weight", 2)
    actor = _module(arrays, "actor")
    _array(actor, "actor", "_dist_layer.weight", 2)
    return Networks(
        model=WorldModel(
            encoder=encoder,
            rssm=RSSM(
                latent=latent,
                groups=groups,
                classes=classes,
                deter=deter,
                hidden=hidden,
                cell="layer_norm" if "_cell._norm.weight" in rssm else "plain",
                embed=32 * encoder.depth,
            ),
            decoder=Decoder(decoder_input.shape[0] // 32),
            reward=MLP(*_hidden_layers(arrays, "reward", "_mean_layers", 1)),
            continuation=None,
            action_size=action_size,
        ),
        source_encoder=_encoder(arrays, "source_encoder"),
        critic=MLP(*_hidden_layers(arrays, "value", "_mean_layers", 1)),
        actor=ActorHead(action_size, *_hidden_layers(arrays, "actor", "_pre_layers", 0)),
    )


def parameters_of(arrays: Mapping[str, np.ndarray], networks: Networks) -> dict[str, Params]:
    """The fixture's weights in our layout: entries ``model``, ``source_encoder``, ``critic``, ``actor``.

    Linear ``[out, in] -> [in, out]``; Conv2d ``[out, in, h, w] -> [h, w, in, out]``; ConvTranspose2d
    ``[in, out, h, w] -> [h, w, in, out]``. The posterior's first layer is divided into the part of
    the recurrent state, with the bias, and that of the embedding; the latter's rows are permuted,
    because the authors flatten the last convolution channel by channel, we row by row.

    Raises:
        FixtureError: a weight is missing, unknown, or of another shape than the others imply.
    """
    used: set[str] = set()

    def take(module: str, name: str) -> np.ndarray:
        used.add(f"w/{module}/{name}")
        return _required(arrays, f"w/{module}/{name}")

    def linear(module: str, name: str) -> dict[str, np.ndarray]:
        return {
            "kernel": take(module, f"{name}.weight").T,
            "bias": take(module, f"{name}.bias"),
        }

    def convolution(module: str, name: str, axes: tuple[int, ...]) -> dict[str, np.ndarray]:
        kernel = take(module, f"{name}.weight")
        if kernel.ndim != 4:
            raise FixtureError(f"w/{module}/{name}.weight has {kernel.ndim} dimensions, not 4.")
        return {"kernel": kernel.transpose(axes), "bias": take(module, f"{name}.bias")}

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
            "scale": take("dynamics", "_cell._norm.weight"),
            "bias": take("dynamics", "_cell._norm.bias"),
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


def quantities(
    networks: Networks,
    params: dict[str, Params],
    image: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    kl_losses: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Every quantity of the format, in the authors' layout, stepping with modes.

    Args:
        networks: static.
        params: from `parameters_of`.
        image: uint8 ``[B, T, 64, 64, 3]``.
        action: ``[B, T, A]``.
        reward: ``[B, T]``.
        kl_losses: names ``kl_loss_balance<b>_free<f>`` of the balanced KLs to compute.

    Returns:
        Name below ``out/`` to values, ``[B, T, ...]`` or scalar.
    """
    model, world = networks.model, params["model"]
    image = world_model.normalise_image(jnp.swapaxes(image, 0, 1))
    action, reward = jnp.swapaxes(action, 0, 1), jnp.swapaxes(reward, 0, 1)
    embed = world_model.encode(model, world, image)
    source_model = model._replace(encoder=networks.source_encoder)
    source_embed = world_model.encode(source_model, {"encoder": params["source_encoder"]}, image)
    seen = world_model.observe(model, world, embed, action, None)
    prior = Latent(seen.post.deter, world_model.draw(seen.prior, None), seen.prior)
    last = jax.tree.map(lambda leaf: leaf[-1], seen.post)
    imagined = world_model.replay_actions(model, world, last, action, None)
    heads = world_model.predict(model, world, seen)
    loc, scale = networks.actor.apply(params["actor"], seen.feat)
    found = {
        "embed": _channel_major(embed),
        "source_embed": _channel_major(source_embed),
        "feat": seen.feat,
        "image_mean": heads.image,
        "image_logprob": -losses.image_loss(heads.image, image),
        "reward_mean": heads.reward,
        "reward_logprob": -losses.reward_loss(heads.reward, reward),
        "value_mean": networks.critic.apply(params["critic"], seen.feat),
        "actor_loc": loc,
        "actor_scale": scale,
        "kl_value": losses.latent_kl(seen.post.stats, seen.prior),
    }
    for name, latent in {"post": seen.post, "prior": prior, "imagined": imagined}.items():
        found |= {f"{name}/{field}": value for field, value in _fields(model, latent).items()}
    found = {name: jnp.swapaxes(value, 0, 1) for name, value in found.items()}
    found["alignment_kl_sum"] = jnp.sum(losses.alignment_loss(embed, source_embed))
    return found | {name: _kl_loss(name, seen) for name in kl_losses}


def _fields(model: WorldModel, latent: Latent) -> dict[str, jax.Array]:
    """A latent under the authors' names; one-hot states keep their groups."""
    if model.rssm.latent == "gaussian":
        return {"stoch": latent.stoch, "deter": latent.deter} | latent.stats
    logits = latent.stats["logits"]
    return {"stoch": latent.stoch.reshape(logits.shape), "deter": latent.deter, "logit": logits}


def _kl_loss(name: str, seen: Observation) -> jax.Array:
    match = _KL_LOSS.fullmatch(name)
    assert match is not None
    return world_model.balanced_kl(seen, float(match[1]), float(match[2]))


def _row_by_row(kernel: np.ndarray) -> np.ndarray:
    """Rows ``[channel, 2, 2]``, flattened, to rows ``[2, 2, channel]``, flattened."""
    if kernel.shape[0] % 4:
        raise FixtureError(
            "w/dynamics/_obs_out_layers.0.weight: its columns are no recurrent state and embedding."
        )
    return kernel.reshape(-1, 2, 2, kernel.shape[1]).transpose(1, 2, 0, 3).reshape(kernel.shape)


def _channel_major(embed: jax.Array) -> jax.Array:
    """The inverse permutation, on the last axis of embeddings."""
    leading = embed.shape[:-1]
    blocks = embed.reshape(*leading, 4, -1)
    return jnp.swapaxes(blocks, -1, -2).reshape(embed.shape)


def _difference(
    name: str, ours: jax.Array | None, reference: np.ndarray | None
) -> Difference:
    if ours is None or reference is None or ours.shape != reference.shape:
        return Difference(name, None, None)
    gap = float(np.max(np.abs(np.asarray(ours, np.float64) - reference)))
    largest = float(np.max(np.abs(reference)))
    if not np.isfinite(gap + largest):
        return Difference(name, None, None)
    if largest == 0.0:
        return Difference(name, gap, 0.0 if gap == 0.0 else None)
    return Difference(name, gap, gap / largest)


def _checked_inputs(arrays: Mapping[str, np.ndarray]) -> tuple[int, int, int]:
    """Batch, time and action size of the inputs."""
    image, action, reward = (_required(arrays, name) for name in _INPUTS)
    if image.dtype != np.uint8 or image.ndim != 5 or image.shape[2:] != (64, 64, 3):
        raise FixtureError(
            f"in/image is {image.dtype} {image.shape}, but uint8 (B, T, 64, 64, 3) is needed."
        )
    batch, time = image.shape[:2]
    if batch * time == 0:
        raise FixtureError(f"in/image has shape {image.shape}: there is nothing to compare.")
    if action.ndim != 3 or action.shape[:2] != (batch, time) or action.shape[2] == 0:
        raise FixtureError(f"in/action has shape {action.shape}, not ({batch}, {time}, A).")
    if reward.shape != (batch, time):
        raise FixtureError(f"in/reward has shape {reward.shape}, not ({batch}, {time}).")
    return batch, time, action.shape[2]


def _required(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in arrays:
        raise FixtureError(f"{name} is missing.")
    return arrays[name]


def _module(arrays: Mapping[str, np.ndarray], module: str) -> Weights:
    prefix = f"w/{module}/"
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _array(weights: Weights, module: str, name: str, rank: int) -> np.ndarray:
    if name not in weights:
        raise FixtureError(f"w/{module}/{name} is missing.")
    if weights[name].ndim != rank:
        raise FixtureError(f"w/{module}/{name} has {weights[name].ndim} dimensions, not {rank}.")
    return weights[name]


def _encoder(arrays: Mapping[str, np.ndarray], module: str) -> Encoder:
    return Encoder(_array(_module(arrays, module), module, "layers.0.weight", 4).shape[0])


def _hidden_layers(
    arrays: Mapping[str, np.ndarray], module: str, name: str, outputs: int
) -> tuple[int, int]:
    """Count and units of a head's hidden layers; ``outputs`` of its numbered layers are none."""
    pattern = re.compile(rf"{name}\.(\d+)\.weight")
    weights = _module(arrays, module)
    count = sum(1 for key in weights if pattern.fullmatch(key)) - outputs
    if count < 0:
        raise FixtureError(f"w/{module}/{name}.0.weight is missing.")
    return count, _array(weights, module, f"{name}.0.weight", 2).shape[0] if count else 1


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

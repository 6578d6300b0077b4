"""Golden values of R3M: embeddings of a ResNet-18 whose weights follow a rule."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import augment
from coworld_jax.agents import r3m
from coworld_jax.networks import resnet_params
from experiments.parity.compare import Claim
from experiments.parity.fixture import Arrays, FixtureError, required

_INPUT = re.compile(r"in/(img\d+(?:x\d+)?)")


def recognise(arrays: Arrays) -> bool:
    """Weights that are named and not stored."""
    return "w/names" in arrays and "w/shapes" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or the weights are not those of a ResNet.
    """
    weights = _weights(arrays)
    try:
        network, params = resnet_params(weights)
    except ValueError as error:
        raise FixtureError(str(error)) from error
    found = _weight_claims(weights)

    @jax.jit
    def run(image: jax.Array) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        cropped = r3m.prepare(image)
        stages = network.apply(params, r3m.normalise(cropped), method="stages")
        return cropped, r3m.embed(network, params, image), stages

    for match in filter(None, map(_INPUT.fullmatch, sorted(arrays))):
        image, place = jnp.asarray(arrays[match[0]]), f"out/{match[1]}"
        cropped, embedding, stages = run(image)
        found[f"{place}/embedding"] = Claim(embedding)
        found[f"{place}/crop_sum"] = Claim(jnp.sum(cropped.astype(jnp.float32), axis=(1, 2)))
        if f"{place}/crop0_rows" in arrays:
            rows = jnp.moveaxis(cropped[0, 100:104], -1, 0)
            found[f"{place}/crop0_rows"] = Claim(rows)
        for name, value in stages.items():
            found[f"{place}/{name}_channel_mean"] = Claim(jnp.mean(value, axis=(1, 2)))
            found[f"{place}/{name}_std"] = Claim(jnp.std(value, axis=(1, 2, 3)))
        if f"{place}/embedding_internal_resize" in arrays:
            floats = r3m.normalise(_resized_in_floats(image))
            internal = jax.jit(network.apply)(params, floats)
            found[f"{place}/embedding_internal_resize"] = Claim(internal)
    return found


def _resized_in_floats(image: jax.Array) -> jax.Array:
    """R3M's own resize of tensors, which its evaluation does not take: no rounding to uint8."""
    size = (image.shape[0], *r3m.resized_shape(*image.shape[1:3]), image.shape[3])
    resized = jax.image.resize(image.astype(jnp.float32), size, "linear")
    return augment.centre_crop(resized, r3m.CROP)


def _weights(arrays: Arrays) -> dict[str, np.ndarray]:
    """Every tensor from its number and its entries' indices."""
    shapes = [
        tuple(int(size) for size in re.findall(r"\d+", str(shape)))
        for shape in required(arrays, "w/shapes")
    ]
    names = [str(name) for name in required(arrays, "w/names")]
    return {
        name: _tensor(name, number, shape)
        for number, (name, shape) in enumerate(zip(names, shapes, strict=True))
    }


def _tensor(name: str, number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Pseudo-random numbers in the range that fits the kind of tensor."""
    x = np.arange(np.prod(shape), dtype=np.uint32) * np.uint32(2654435761)
    x += np.uint32(number * 40503 + 12345)
    for _ in range(2):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x45D9F3B)
    x ^= x >> np.uint32(16)
    u = x.astype(np.float64) / 2.0**31 - 1.0
    if len(shape) == 4:
        value = np.sqrt(6.0 / np.prod(shape[1:])) * u
    elif name.endswith("running_mean"):
        value = 0.1 * u
    elif name.endswith("running_var"):
        value = 1.0 + 0.5 * u
    elif name.endswith("weight"):
        value = (1.0 + 0.2 * u) * (0.5 if re.search(r"layer\d.*\.bn2\.", name) else 1.0)
    else:
        value = 0.1 * u
    return value.astype(np.float32).reshape(shape)


def _weight_claims(weights: dict[str, np.ndarray]) -> dict[str, Claim]:
    """What the file states about the tensors that the rule gives."""
    exact = [value.astype(np.float64) for value in weights.values()]
    learnt = [value for name, value in weights.items() if "running" not in name]
    return {
        "w/sum": Claim(np.array([np.sum(x) for x in exact])),
        "w/sumsq": Claim(np.array([np.sum(np.square(x)) for x in exact])),
        "w/first4": Claim(np.array([x.reshape(-1)[:4] for x in exact]), 0.0),
        "w/param_count": Claim(np.array(sum(x.size for x in learnt)), 0.0),
    }

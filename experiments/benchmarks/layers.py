"""Each convolution of encoder and decoder, forward and backward, in each of its forms."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from coworld_jax.networks import direct
from coworld_jax.networks.convolution import FORMS, Form
from coworld_jax.networks.vision import DECODER, ENCODER
from experiments.benchmarks.timing import alternate


def measure(depth: int, images: int, dtype: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each layer: its sizes, and milliseconds of each form that it can have.

    Args:
        depth: channels of the first convolution.
        images: that pass through at once.
        dtype: ``float32`` or ``bfloat16``.
        repeats: measurements of each form.
    """
    rows = []
    for layer in ENCODER + DECODER[1:]:  # the decoder computes its first as a dense layer
        channels, features = layer.channels(depth)
        key_x, key_kernel, key_bias, key_output = jax.random.split(jax.random.key(0), 4)
        x = jax.random.normal(key_x, (images, layer.size, layer.size, channels)).astype(dtype)
        shape = (layer.kernel, layer.kernel, channels, features)
        kernel = (0.1 * jax.random.normal(key_kernel, shape)).astype(dtype)
        bias = jax.random.normal(key_bias, (features,))
        apply = {
            name: _layer(form, layer.transpose)
            for name, form in FORMS.items()
            if name != "direct" or direct.fits(x, [kernel])
        }
        output = jax.eval_shape(apply["stock"], x, kernel, bias).shape
        cotangent = jax.random.normal(key_output, output).astype(dtype)
        calls = {
            name: _both_ways(function, x, kernel, bias, cotangent)
            for name, function in apply.items()
        }
        times = alternate(list(calls.values()), repeats)
        kind = "transposed" if layer.transpose else "convolution"
        rows.append(
            {
                "layer": f"{kind} {layer.size}x{layer.size}x{channels} -> {features}, "
                f"k{layer.kernel}",
                **{
                    f"{name}_ms": 1000 * statistics.median(taken)
                    for name, taken in zip(calls, times, strict=True)
                },
            }
        )
    return rows


def _layer(form: Form, transpose: bool) -> Callable[..., jax.Array]:
    """One layer in one form, as a function of its input, kernel and bias."""
    apply = form.convolve_transpose if transpose else form.convolve
    return lambda x, kernel, bias: apply(x, [(kernel, bias)])


def _both_ways(apply: Callable[..., jax.Array], *arrays: jax.Array) -> Callable[[], Any]:
    """Value and gradients of a layer, compiled and run once; the last array is the cotangent."""

    @jax.jit
    def both(*arrays: jax.Array) -> Any:
        *inputs, cotangent = arrays
        value, gradients = jax.vjp(apply, *inputs)
        return jnp.sum(value), gradients(cotangent)

    jax.block_until_ready(both(*arrays))
    return lambda: both(*arrays)

"""Each convolution of encoder and decoder, forward and backward, in each of its forms."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from coworld_jax.networks.convolution import FORMS, Form
from coworld_jax.networks.vision import DECODER, ENCODER
from experiments.benchmarks.timing import alternate


def measure(depth: int, images: int, dtype: str, repeats: int) -> list[dict[str, Any]]:
    """A row for each layer: its sizes, and milliseconds of each form.

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
        bias = jax.random.normal(key_bias, (features,)).astype(dtype)
        calls = {
            name: _both_ways(form, layer.transpose, x, kernel, bias, key_output)
            for name, form in FORMS.items()
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


def _both_ways(
    form: Form,
    transpose: bool,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    key: jax.Array,
) -> Callable[[], Any]:
    """Values and gradients of one layer, compiled and run once."""
    apply = form.convolve_transpose if transpose else form.convolve
    shape = jax.eval_shape(lambda x: apply(x, [(kernel, bias)]), x).shape
    cotangent = jax.random.normal(key, shape).astype(x.dtype)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array, bias: jax.Array, cotangent: jax.Array) -> Any:
        value, gradients = jax.vjp(lambda x, k, b: apply(x, [(k, b)]), x, kernel, bias)
        return jnp.sum(value), gradients(cotangent)

    jax.block_until_ready(both(x, kernel, bias, cotangent))
    return lambda: both(x, kernel, bias, cotangent)

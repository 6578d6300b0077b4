"""Random numbers that belong to examples: however a batch is split, an example gets the same."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def example_noise(
    sampler: Callable[..., jax.Array],
    key: jax.Array,
    leading: tuple[int, ...],
    batch: int,
    trailing: tuple[int, ...],
    axis_name: str | None = None,
) -> jax.Array:
    """Noise ``[*leading, B, *trailing]`` in which example b depends on (key, b) alone.

    Under a mapped axis, b counts across the devices: any number of them draws the same noise.
    """
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * batch
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, first + jnp.arange(batch))
    shape = (*leading, *trailing)
    return jax.vmap(lambda k: sampler(k, shape), out_axes=len(leading))(keys)

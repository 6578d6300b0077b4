"""Gradients of a recurrent network's weights as one matrix product after the backward loop.

The transpose of `jax.lax.scan` adds a product ``xᵀ dy`` to the gradient of a weight at every step:
it has as many terms as the batch has rows, and reads and writes the whole gradient. Here a step
only leaves ``x`` and ``dy`` in its slot. After the loop the gradient is a single product over all
steps:

    dW = Σ_t x_tᵀ dy_t

Whether this pays depends on the platform and on the rows of a step, see `networks.recurrence`.
It takes memory, since the loop gives back every ``x`` and ``dy``.

A slot is an input of the loop that nobody reads. What the loop gives back as its gradient is the
pair ``(x, dy)`` of the step. `slots_of` makes the slots from the weights, and its gradient is the
product; `affine` is the layer that fills them.

A whole network can be deferred as well, if nothing flows back to its input: `slot_of_network` and
`apply`. After the loop it is applied again, to all steps at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

COLLECTION = "slots"  # of a network's variables, beside "params"

Layer = dict[str, jax.Array]  # "kernel" [in, out] and "bias" [out]


Network = Callable[[Any, jax.Array], Any]  # of parameters and rows [..., in]


class Slot(NamedTuple):
    """Of one layer or network; its values are never read."""

    x: jax.Array  # [..., in]
    dy: Any  # as the output, [..., out]


def slots_of(
    variables: Mapping[str, Any], layers: Iterable[str], leading: tuple[int, ...], dtype: jnp.dtype
) -> dict[str, dict[str, dict[str, Slot]]]:
    """Slots for a loop over the first axis of ``leading``, as further variables of the network.

    Args:
        variables: of a network, ``{"params": {layer: {"kernel", "bias"}}}``.
        layers: names of those `networks.layers.Linear` that the loop applies once a step; they have
            a bias.
        leading: ``(T, B)``.
        dtype: that the layers compute in.

    Returns:
        ``{"slots": {layer: {"slot": ...}}}`` with leading axes ``[T, B]``; a step of the loop
        applies the network to ``variables`` joined with its part of them. **Gradient:** to the
        weights of the layers, summed over both axes in float32.
    """
    params = variables["params"]
    return {COLLECTION: {name: {"slot": _slot(leading, dtype, params[name])} for name in layers}}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _slot(leading: tuple[int, ...], dtype: jnp.dtype, layer: Layer) -> Slot:
    # Made from the kernel: under `jax.vmap` over seeds each seed must have slots of its own.
    empty = 0.0 * layer["kernel"].astype(dtype)
    x, dy = (jnp.broadcast_to(row, (*leading, row.size)) for row in (empty[:, 0], empty[0]))
    return Slot(x, dy)


def _slot_fwd(leading: tuple[int, ...], dtype: jnp.dtype, layer: Layer) -> tuple[Slot, Layer]:
    return _slot(leading, dtype, layer), layer


def _slot_bwd(
    leading: tuple[int, ...], dtype: jnp.dtype, layer: Layer, filled: Slot
) -> tuple[Layer]:
    x, dy = (leaf.reshape(-1, leaf.shape[-1]) for leaf in filled)
    kernel = jnp.matmul(x.T, dy, preferred_element_type=jnp.float32)
    return ({"kernel": kernel, "bias": jnp.sum(dy, axis=0, dtype=jnp.float32)},)


_slot.defvjp(_slot_fwd, _slot_bwd)


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array, slot: Slot) -> jax.Array:
    """``x @ kernel + bias``: ``[..., in], [in, out], [..., out] -> [..., out]``, in bias's type.

    **Gradient:** to ``x``. That of the slot is the pair ``(x, dy)``, from which `slots_of` makes
    the gradient of the weights.
    """
    return jnp.matmul(x, kernel, preferred_element_type=bias.dtype) + bias


def _affine_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, slot: Slot
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return affine(x, kernel, bias, slot), (x, kernel)


def _affine_bwd(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, None, None, Slot]:
    x, kernel = residuals
    dy = dy.astype(x.dtype)
    return dy @ kernel.T, None, None, Slot(x, dy)


affine.defvjp(_affine_fwd, _affine_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def slot_of_network(network: Network, x: jax.ShapeDtypeStruct, params: Any) -> Slot:
    """The slot of a network that a loop applies once a step.

    Args:
        network: applied to ``params`` and rows.
        x: its inputs in all steps, ``[T, B, in]``.

    **Gradient:** to ``params``, that of all steps together.
    """
    # Made from a parameter, as in `_slot`.
    empty = 0.0 * jax.tree.leaves(params)[0].ravel()[0]
    like = x, jax.eval_shape(network, params, x)
    return Slot(*jax.tree.map(lambda leaf: jnp.full(leaf.shape, empty, leaf.dtype), like))


def _network_slot_fwd(network: Network, x: jax.ShapeDtypeStruct, params: Any) -> tuple[Slot, Any]:
    return slot_of_network(network, x, params), params


def _network_slot_bwd(
    network: Network, x: jax.ShapeDtypeStruct, params: Any, filled: Slot
) -> tuple[Any]:
    rows, dy = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), filled)
    _, pull = jax.vjp(lambda params: network(params, rows), params)
    return pull(dy)


slot_of_network.defvjp(_network_slot_fwd, _network_slot_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def apply(network: Network, params: Any, x: jax.Array, slot: Slot) -> Any:
    """``network(params, x)``. **Gradient:** to the slot, from which `slot_of_network` makes it."""
    return network(params, x)


def _apply_fwd(network: Network, params: Any, x: jax.Array, slot: Slot) -> tuple[Any, jax.Array]:
    return network(params, x), x


def _apply_bwd(network: Network, x: jax.Array, dy: Any) -> tuple[None, None, Slot]:
    return None, None, Slot(x, dy)


apply.defvjp(_apply_fwd, _apply_bwd)

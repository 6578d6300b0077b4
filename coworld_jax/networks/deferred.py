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

from coworld_jax.networks.products import kernel_gradient

COLLECTION = "slots"  # of a network's variables, beside "params"

Layer = dict[str, jax.Array]  # "kernel" [in, out] and "bias" [out]


Network = Callable[[Any, jax.Array], Any]  # of parameters and rows [..., in]


class Slot(NamedTuple):
    """Of one layer or network; its values are never read."""

    x: jax.Array  # [..., in]
    dy: Any  # as the output, [..., out]


def slots_of(
    variables: Mapping[str, Any], layers: Iterable[str], like: jax.Array
) -> dict[str, dict[str, dict[str, Slot]]]:
    """Slots for a loop over the first axis of ``like``, as further variables of the network.

    Args:
        variables: of a network, ``{"params": {layer: {"kernel", "bias"}}}``.
        layers: names of those `networks.layers.Linear` that the loop applies once a step; they have
            a bias.
        like: rows of data, ``[T, B, ...]``, of the type that the layers compute in. With it, each
            element of a `jax.vmap` has slots of its own.

    Returns:
        ``{"slots": {layer: {"slot": ...}}}`` with leading axes ``[T, B]``; a step of the loop
        applies the network to ``variables`` joined with its part of them. **Gradient:** to the
        weights of the layers, summed over both axes in float32.
    """
    params = variables["params"]
    return {COLLECTION: {name: {"slot": _slot(params[name], like)} for name in layers}}


def _empty(params: Any, like: jax.Array) -> jax.Array:
    """A zero made from both: under `jax.vmap` of either, each element has slots of its own."""
    return 0.0 * (jax.tree.leaves(params)[0].ravel()[0] + like.ravel()[0])


@jax.custom_vjp
def _slot(layer: Layer, like: jax.Array) -> Slot:
    empty, leading = _empty(layer, like).astype(like.dtype), like.shape[:2]
    return Slot(*(jnp.full((*leading, size), empty) for size in layer["kernel"].shape))


def _slot_fwd(layer: Layer, like: jax.Array) -> tuple[Slot, None]:
    return _slot(layer, like), None


def _slot_bwd(residuals: None, filled: Slot) -> tuple[Layer, None]:
    kernel = kernel_gradient(*filled, jnp.float32)
    return {"kernel": kernel, "bias": jnp.sum(filled.dy, axis=(0, 1), dtype=jnp.float32)}, None


_slot.defvjp(_slot_fwd, _slot_bwd)


@jax.custom_vjp
def affine(x: jax.Array, kernel: jax.Array, bias: jax.Array, slot: Slot) -> jax.Array:
    """``x @ kernel + bias``: ``[..., in], [in, out], [..., out] -> [..., out]``, in bias's type.

    What is kept of the kernel is its transpose, see `networks.layers.product`.

    **Gradient:** to ``x``. That of the slot is the pair ``(x, dy)``, from which `slots_of` makes
    the gradient of the weights.
    """
    return jnp.matmul(x, kernel, preferred_element_type=bias.dtype) + bias


def _affine_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, slot: Slot
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return affine(x, kernel, bias, slot), (x, kernel.T)


def _affine_bwd(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, None, None, Slot]:
    x, transposed = residuals
    dy = dy.astype(x.dtype)
    return dy @ transposed, None, None, Slot(x, dy)


affine.defvjp(_affine_fwd, _affine_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def slot_of_network(network: Network, steps: int, params: Any, rows: jax.Array) -> Slot:
    """The slot of a network that a loop applies once a step.

    Args:
        network: applied to ``params`` and rows.
        steps: T, of the loop.
        rows: its inputs in the first step, ``[B, in]``; those of the other steps are like them.

    **Gradient:** to ``params``, that of all steps together.
    """
    empty = _empty(params, rows)
    like = rows, jax.eval_shape(network, params, rows)
    return Slot(*jax.tree.map(lambda leaf: jnp.full((steps, *leaf.shape), empty, leaf.dtype), like))


def _network_slot_fwd(
    network: Network, steps: int, params: Any, rows: jax.Array
) -> tuple[Slot, Any]:
    return slot_of_network(network, steps, params, rows), params


def _network_slot_bwd(network: Network, steps: int, params: Any, filled: Slot) -> tuple[Any, None]:
    x, dy = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), filled)
    _, pull = jax.vjp(lambda params: network(params, x), params)
    return *pull(dy), None


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

"""Loops over time of recurrent networks, in the form that is fastest for the platform.

A GPU is bound by how many kernels it starts, about 2 µs each, and not by their arithmetic. Each
value that a step keeps for the gradient is written by a kernel of its own. So there a step keeps
the results of its linear layers alone and computes the rest again, and one turn of the loop makes
several steps, whose values are written together. A CPU gains nothing from either. The gradient of
the weights is made after the loop (`networks.deferred`), on a CPU only where a step has few rows:
with more, a product in each step is as fast and takes less memory. The figures of a CPU come from
``python -m experiments.benchmarks.recurrence``, a GPU's kernels from ``benchmarks.kernels``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from coworld_jax.networks import deferred

_KEPT = "linear"

Step = Callable[[Any, Any], tuple[Any, Any]]


class Form(NamedTuple):
    """How a loop runs on a platform."""

    steps: int  # of one turn, where the settings leave it at 1
    recompute: bool  # all but the results of linear layers, for the gradient
    deferred: float  # most rows of a step with which weights get their gradient after the loop


FORMS = {"gpu": Form(steps=8, recompute=True, deferred=math.inf)}
STOCK = Form(steps=1, recompute=False, deferred=64)


def form() -> Form:
    """That of jax's default platform."""
    platform = jax.default_backend()
    return FORMS[platform] if platform in FORMS else STOCK


def steps_per_turn(unroll: int) -> int:
    """Steps that one turn of a loop makes: ``unroll``, or the platform's where that is 1."""
    return form().steps if unroll == 1 else unroll


def kept(linear: jax.Array) -> jax.Array:
    """``linear``, the result of a linear layer, named as one that every form keeps."""
    return checkpoint_name(linear, _KEPT)


def slots_of(
    variables: Mapping[str, Any], layers: Iterable[str], leading: tuple[int, int], dtype: jnp.dtype
) -> dict[str, Any]:
    """`deferred.slots_of` for a loop over T steps of B rows, ``leading`` is ``(T, B)``.

    There are none where B is more than the platform's limit; the loop then adds the gradient up.
    """
    if leading[1] > form().deferred:
        return {}
    return deferred.slots_of(variables, layers, leading, dtype)


def defer(
    network: deferred.Network, params: Any, x: jax.ShapeDtypeStruct
) -> tuple[Callable[[jax.Array, Any], Any], Any]:
    """A network that each step of a loop applies to an input without gradient.

    Args:
        network: applied to ``params`` and ``[B, in]``.
        x: its inputs in all steps, ``[T, B, in]``.

    Returns:
        The network as a function of its input and a slot, and the slots ``[T, ...]``, which are
        inputs of the loop. **Gradient:** to ``params``; all steps together where loops recompute.
    """
    if not form().recompute:
        return lambda x, slot: network(params, x), None
    apply = partial(deferred.apply, network, jax.lax.stop_gradient(params))
    return apply, deferred.slot_of_network(network, x, params)


def scan(step: Step, start: Any, inputs: Any, unroll: int = 1) -> tuple[Any, Any]:
    """`jax.lax.scan` of ``step`` over the leading axis of ``inputs``; no form changes a value.

    Args:
        step: a function of carry and inputs that gives the next carry and outputs.
        start: the carry before the first step.
        unroll: steps of one turn; 1 leaves it to the platform.
    """
    if form().recompute:
        keep = jax.checkpoint_policies.save_only_these_names(_KEPT)
        # The backward loop cannot be merged with the forward one: no barrier is needed.
        step = jax.checkpoint(step, policy=keep, prevent_cse=False)
    return jax.lax.scan(step, start, inputs, unroll=steps_per_turn(unroll))

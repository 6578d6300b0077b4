"""Loops over time of recurrent networks, in the form that is fastest for the platform.

A GPU is bound by the number of GPU kernels that it starts, about 2 µs each, and not by their
arithmetic. Each value that a step keeps for the gradient is written by a GPU kernel of its own. So
there a step keeps only the results of its linear layers and of layer normalisation, and computes
the rest again (rematerialisation, `jax.checkpoint`); and the loop is unrolled by 8, so that the
values of 8 steps are written together. A CPU gains nothing from either.

The gradient of weights is made after the loop (`networks.deferred`), on a CPU only where a step has
few rows. With more, a product in each step is as fast and takes less memory. An actor is applied
again after the loop, which takes longer where it is large. The figures of a CPU come from ``python
-m experiments.benchmarks.recurrence``, the counts of GPU kernels from ``python -m
experiments.benchmarks.kernels``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.ad_checkpoint import checkpoint_name

from coworld_jax.networks import deferred

_KEPT = "kept"

Step = Callable[[Any, Any], tuple[Any, Any]]


class Form(NamedTuple):
    """How a loop runs on a platform."""

    unroll: int  # steps of one iteration, where the settings leave it at 1
    recompute: bool  # for the gradient, all but what is `kept`
    most_rows_deferred: (
        float  # weights get their gradient after the loop if a step has no more rows
    )


FORMS = {"gpu": Form(unroll=8, recompute=True, most_rows_deferred=math.inf)}
PLAIN = Form(unroll=1, recompute=False, most_rows_deferred=64)


def form() -> Form:
    """The form for jax's default platform, whatever the program is compiled for."""
    platform = jax.default_backend()
    return FORMS[platform] if platform in FORMS else PLAIN


def unrolled(unroll: int) -> int:
    """Steps of one iteration of a loop: ``unroll``, or the platform's where that is 1."""
    return form().unroll if unroll == 1 else unroll


def kept(x: jax.Array) -> jax.Array:
    """``x``, which every form keeps for the gradient: the result of a linear layer, for example."""
    return checkpoint_name(x, _KEPT)


def slots_of(
    variables: Mapping[str, Any], layers: Iterable[str], like: jax.Array
) -> dict[str, Any]:
    """`deferred.slots_of` for a loop over the data ``like``, ``[T, B, ...]``.

    There are none where B is more than the platform's limit; the loop then adds the gradient up.
    """
    if like.shape[1] > form().most_rows_deferred:
        return {}
    return deferred.slots_of(variables, layers, like)


def defer(
    network: deferred.Network, params: Any, rows: jax.Array, steps: int
) -> tuple[Callable[[jax.Array, Any], Any], Any]:
    """A network that each step of a loop applies to an input without gradient.

    Args:
        network: applied to ``params`` and ``[B, in]``.
        rows: its inputs in the first step, ``[B, in]``.
        steps: T, of the loop.

    Returns:
        The network as a function of its input and a slot, and the slots ``[T, ...]``, which are
        inputs of the loop. **Gradient:** to ``params``, after the loop if B is no more than the
        platform's limit.
    """
    if rows.shape[0] > form().most_rows_deferred:
        return lambda x, slot: network(params, x), None
    apply = partial(deferred.apply, network, jax.lax.stop_gradient(params))
    return apply, deferred.slot_of_network(network, steps, params, jax.lax.stop_gradient(rows))


def scan(step: Step, start: Any, inputs: Any, unroll: int = 1) -> tuple[Any, Any]:
    """`jax.lax.scan` of ``step`` over the leading axis of ``inputs``. Forms differ by rounding.

    Args:
        step: a function of carry and inputs that gives the next carry and outputs.
        start: the carry before the first step.
        unroll: steps of one iteration; 1 leaves it to the platform.
    """
    if form().recompute:
        keep = jax.checkpoint_policies.save_only_these_names(_KEPT)
        # XLA cannot merge the two loops, so no barrier is needed. It may merge the steps that are
        # left over when T is divided by `unroll`, which are outside a loop; that is harmless.
        step = jax.checkpoint(step, policy=keep, prevent_cse=False)
    return jax.lax.scan(step, start, inputs, unroll=unrolled(unroll))

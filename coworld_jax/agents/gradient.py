"""From unreduced loss terms to new parameters: means, weights, gradients and steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from coworld_jax.types import Metrics

Params = dict[str, Any]
Tree = TypeVar("Tree")  # parameters or a single array

# Elements. Larger arrays are averaged alone. On the cores of a CPU each array of an exchange costs
# 50 µs, more than to copy one of this size. On accelerators this is not measured.
_SMALL = 2**16


def term_means(terms: Mapping[str, jax.Array]) -> Metrics:
    """The mean of each term over time and batch."""
    return {name: jnp.mean(term) for name, term in terms.items()}


def joined(
    own: Mapping[str, jax.Array],
    replaced: Mapping[str, jax.Array],
    added: Mapping[str, jax.Array],
) -> Metrics:
    """Loss terms of one agent with those that another module puts in, by name.

    Args:
        replaced: stand in the place of own terms; each names one.
        added: further terms; none has the name of an own one.
    """
    assert not set(added) & set(own), f"{set(added) & set(own)} would replace a term silently"
    assert set(replaced) <= set(own), f"{set(replaced) - set(own)} replace no term"
    return {**own, **replaced, **added}


def weighted_sum(means: Mapping[str, jax.Array], weights: Mapping[str, float]) -> jax.Array:
    """``Σ weight * mean``: each term has a weight, each weight a term."""
    chex.assert_equal(set(means), set(weights))
    return jnp.stack([weight * means[name] for name, weight in weights.items()]).sum()


def clip_by_global_norm(most: float) -> optax.GradientTransformation:
    """Scales gradients whose global norm is above ``most`` to that norm.

    It is `optax.clip_by_global_norm` up to rounding. That one divides every gradient by the norm,
    which a CPU is slow at.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        scale = jnp.minimum(1.0, most / optax.tree.norm(updates))
        return jax.tree.map(lambda leaf: scale * leaf, updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def adam(
    learning_rate: float, *, eps: float, clip: float, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Adam after a clip of the global norm; ``weight_decay`` is a share removed per update."""
    return optax.chain(
        clip_by_global_norm(clip),
        optax.scale_by_adam(eps=eps),
        optax.scale(-learning_rate),
        optax.add_decayed_weights(-weight_decay),
    )


def differentiate(
    loss: Callable[[Tree], tuple[jax.Array, Any]], params: Tree, axis_name: str | None
) -> tuple[Any, Tree]:
    """What a loss saw, and the gradient of its mean, averaged over the mapped axis.

    Args:
        loss: of the parameters: unreduced values, and what else it returns.
    """

    def mean(params: Tree) -> tuple[jax.Array, Any]:
        values, seen = loss(params)
        return jnp.mean(values), seen

    grads, seen = jax.grad(mean, has_aux=True)(params)
    return seen, averaged(grads, axis_name)


def descend(
    optimizer: optax.GradientTransformation,
    grads: Tree,
    opt_state: optax.OptState,
    params: Tree,
) -> tuple[Tree, optax.OptState]:
    """One optimiser step; returns new parameters and new moments."""
    updates, opt_state = optimizer.update(grads, opt_state, params)
    # Without a barrier XLA computes the step again in each product that reads the new weights, and
    # does not compile some of them for a GPU: "Expected instruction to have shape equal to f32[]".
    return jax.lax.optimization_barrier(optax.apply_updates(params, updates)), opt_state


@jax.named_scope("optimizer")
def apply_gradient(
    optimizer: optax.GradientTransformation,
    grads: Params,
    opt_state: optax.OptState,
    params: Params,
) -> tuple[Params, optax.OptState, jax.Array]:
    """One optimiser step.

    Args:
        grads: averaged over the mapped axis. Metrics are best averaged in the same call of
            `averaged`, since the devices wait for each other in each call.

    Returns:
        New parameters, new moments, and the norm of the gradient before any clip.
    """
    norm = optax.tree.norm(grads)
    params, opt_state = descend(optimizer, grads, opt_state, params)
    return params, opt_state, norm


@jax.named_scope("exchange")
def averaged(tree: Any, axis_name: str | None) -> Any:
    """``tree`` averaged over the mapped axis; itself without one.

    The devices wait for each other. Small arrays are averaged as one vector, each other one alone.
    """
    if axis_name is None:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    small = {index: leaf for index, leaf in enumerate(leaves) if _is_small(leaf)}
    large = {index: leaf for index, leaf in enumerate(leaves) if index not in small}
    vector, split = ravel_pytree(small)
    vector, large = jax.lax.pmean((vector, large), axis_name)
    found = split(vector) | large
    return jax.tree.unflatten(structure, [found[index] for index in range(len(leaves))])


def _is_small(leaf: jax.Array | float) -> bool:
    return jnp.result_type(leaf) == jnp.float32 and jnp.size(leaf) <= _SMALL


def prefixed(prefix: str, metrics: Mapping[str, jax.Array]) -> Metrics:
    """``metrics`` with ``prefix/`` before each name."""
    return {f"{prefix}/{name}": value for name, value in metrics.items()}

"""Which arguments the gradients of the losses reach, and two of these gradients by hand.

What they reach through the networks is in test_gradients.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coworld_jax import losses

T, B = 3, 2
_ETA: dict[str, Any] = {"source_reward_weight": jnp.asarray(0.5), "reward_mix": 0.5}
_ACTOR: dict[str, Any] = {"dynamics_share": 0.5, "entropy_scale": 0.1}

# loss, names of its arrays, those that the gradient reaches, trailing shape, settings
LOSSES = [
    (losses.reward_loss, ("mean", "reward"), {"mean"}, (), {}),
    (losses.continue_loss, ("logits", "discount"), {"logits"}, (), {}),
    (losses.critic_loss, ("value", "target", "weight"), {"value"}, (), {}),
    (
        losses.actor_loss,
        ("target", "log_prob", "baseline", "entropy", "weight"),
        {"target", "log_prob", "entropy"},
        (),
        _ACTOR,
    ),
    (
        losses.actor_loss,
        ("target", "log_prob", "baseline", "entropy", "weight"),
        {"target", "entropy"},
        (),
        _ACTOR | {"dynamics_share": 1.0},
    ),
    (
        losses.actor_loss,
        ("target", "log_prob", "baseline", "entropy", "weight"),
        {"log_prob", "entropy"},
        (),
        _ACTOR | {"dynamics_share": 0.0},
    ),
    (losses.alignment_loss, ("target", "source"), {"target"}, (6,), {}),
    (losses.bridge_loss, ("bridge", "state"), {"bridge"}, (6,), {}),
    (losses.image_loss, ("mean", "image"), {"mean"}, (4, 4, 3), {}),
    (losses.state_loss, ("mean", "state"), {"mean"}, (6,), {"std": 0.25}),
    (losses.mixed_reward, ("prediction", "reward"), set(), (), {"reward_mix": 0.5}),
    (
        losses.reward_alignment_loss,
        ("source_prediction", "target_prediction", "source_reward", "target_reward"),
        {"source_prediction", "target_prediction"},
        (),
        _ETA,
    ),
    (losses.value_constraint_loss, ("target", "source", "weight"), {"target"}, (), {}),
    (
        losses.value_constraint_loss,
        ("target", "source", "weight"),
        {"target"},
        (),
        {"use_max": False},
    ),
]


@pytest.mark.parametrize(("loss", "names", "reached", "trailing", "settings"), LOSSES)
def test_losses_reach_their_arguments_and_no_other(
    loss: Callable[..., jax.Array],
    names: tuple[str, ...],
    reached: set[str],
    trailing: tuple[int, ...],
    settings: dict[str, Any],
) -> None:
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=(T, B, *trailing)), jnp.float32) for _ in names]
    grads = jax.grad(
        lambda *arrays: loss(*arrays, **settings).sum(), argnums=tuple(range(len(names)))
    )(*arrays)
    assert {name for name, grad in zip(names, grads, strict=True) if np.any(grad)} == reached


def test_value_constraint_pulls_only_where_the_target_is_above() -> None:
    target, source = jnp.asarray([[2.0, 1.0, -1.0]]), jnp.asarray([[1.0, 1.0, 1.0]])
    weight = jnp.asarray([[0.5, 0.25, 0.125]])
    grad = jax.grad(lambda v: losses.value_constraint_loss(v, source, weight).sum())(target)
    # Above: its weight. Equal or below: nothing, not half.
    np.testing.assert_array_equal(grad, [[0.5, 0.0, 0.0]])
    grad = jax.grad(
        lambda v: losses.value_constraint_loss(v, source, weight, use_max=False).sum()
    )(target)  # fmt: skip
    np.testing.assert_array_equal(grad, weight)


def test_mixed_actor_gradient_is_the_weighted_advantage() -> None:
    # d/dlog_prob = -w (1 - rho) (V - v) = -0.5 * 0.75 * (8 - 6) = -0.75; d/dV = -w rho = -0.125:
    # the advantage in front of log_prob must be stopped, else d/dV would also hold log_prob.
    arrays = [jnp.full((1, 1), x) for x in (8.0, -2.0, 6.0, 3.0, 0.5)]
    grads = jax.grad(
        lambda *a: losses.actor_loss(*a, dynamics_share=0.25, entropy_scale=0.1).sum(),
        argnums=(0, 1, 2, 3),
    )(*arrays)
    np.testing.assert_allclose(np.ravel(grads), [-0.125, -0.75, 0.0, -0.05], rtol=1e-6)

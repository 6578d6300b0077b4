"""Value bias: how much more the critic promises than the episode then pays.

An offline critic that overestimates is the fault that the value constraint (coupling C) is there to
cure, so that this difference is the figure to watch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

TAIL_WEIGHT = 0.1
"""Largest weight that the rewards beyond the end of an episode may have had in a state's return."""


class ValueBias(NamedTuple):
    """Critic against reality along one episode."""

    mean: float  # over the valid states; positive means overestimation
    per_state: np.ndarray  # float64 [T], value minus realised discounted return
    valid: np.ndarray  # bool [T], states whose realised return is nearly complete


def discounted_returns(rewards: np.ndarray, discount: float) -> np.ndarray:
    """Realised discounted returns ``G_t = r_t + discount * G_{t+1}``, with ``G_T = 0``.

    Args:
        rewards: ``[T]``; ``rewards[t]`` is the first reward that ``G_t`` counts.
        discount: in [0, 1].

    Returns:
        float64 ``[T]``.
    """
    rewards = np.asarray(rewards, np.float64)
    if rewards.ndim != 1:
        raise ValueError(f"Rewards of one episode are [T], but the shape is {rewards.shape}.")
    if not 0.0 <= discount <= 1.0:
        raise ValueError(f"A discount lies in [0, 1], but it is {discount}.")
    returns = np.zeros_like(rewards)
    after = 0.0
    for t in reversed(range(len(rewards))):
        after = rewards[t] + discount * after
        returns[t] = after
    return returns


def value_bias(
    values: np.ndarray, rewards: np.ndarray, discount: float, *, terminated: bool = False
) -> ValueBias:
    """``mean(values[t] - G_t)`` over the states whose realised return is nearly complete.

    The critic estimates an endless sum; an episode cut off by the time limit gives only its first
    ``T - t`` terms. The missing tail weighs ``discount ** (T - t)``, so a state counts only where
    that is at most `TAIL_WEIGHT`; in an episode too short for any such state, the first one alone
    counts. The tail that remains biases the mean upwards by at most a tenth of a value.

    Args:
        values: ``[T]``, the critic at the visited states.
        rewards: ``[T]``, aligned with ``values`` as the critic was trained: in the λ-returns of
            Dreamer, ``values[t]`` includes the reward that comes with state ``t`` (Eq. 8), so that
            row ``t`` of an episode gives both.
        discount: the factor per step that the critic was trained with.
        terminated: the episode ended by itself, not by the time limit: then nothing is missing,
            and all states count.

    Raises:
        ValueError: lengths that differ, or an empty episode.
    """
    values, returns = _beside(values, rewards, discount)
    steps_left = len(values) - np.arange(len(values))
    valid = np.full(len(values), terminated) | (discount**steps_left <= TAIL_WEIGHT)
    if not valid.any():
        valid[0] = True
    per_state = values - returns
    return ValueBias(float(per_state[valid].mean()), per_state, valid)


def cumulative_bias(values: np.ndarray, rewards: np.ndarray, discount: float) -> float:
    """``Σ_t values[t] - Σ_t discount ** t * rewards[t]``: overestimation as the paper measures it.

    It compares methods on one task. A critic that is right does not get 0: the sum of its values
    grows with the episode, and the discounted return does not. `value_bias` is the error itself.

    Args:
        values, rewards, discount: of one episode, as in `value_bias`.

    Returns:
        In units of the rewards.

    Raises:
        ValueError: lengths that differ, or an empty episode.

    Reference: CoWorld, Figure 5b: the "cumulative value predictions" of an episode of 500 steps,
    less the discounted sum of its rewards. The paper does not say how the predictions are
    accumulated; this is their plain sum. The figure's axis goes from -300 to 700.
    """
    values, returns = _beside(values, rewards, discount)
    return float(values.sum() - returns[0])


def _beside(
    values: np.ndarray, rewards: np.ndarray, discount: float
) -> tuple[np.ndarray, np.ndarray]:
    """Values and realised discounted returns, float64 ``[T]`` each."""
    values = np.asarray(values, np.float64)
    returns = discounted_returns(rewards, discount)
    if values.shape != returns.shape or not values.size:
        raise ValueError(
            "Value bias needs one value for each reward and at least one, but the shapes are "
            f"{values.shape} and {returns.shape}."
        )
    return values, returns

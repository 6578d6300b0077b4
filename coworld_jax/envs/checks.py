"""What a simulator answers, checked at once: a fault is named with its env_step, not hours later.

A user's own environment may be of any quality. What is wrong with it is found out in its worker, at
the step where it happens, before an episode of it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from coworld_jax.envs.interface import EnvironmentSpec, Timestep

_NUMBERS = "fiub"  # kinds of dtype
_ROUNDING = 1e-5  # by which a discount may exceed [0, 1]


def number(task: str, what: str, value: Any) -> float:
    """A single number, which may come as an array of one.

    Raises:
        ValueError: it is none, with ``task`` and ``what`` it should have been.
    """
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in _NUMBERS:
        form = "None" if value is None else f"{array.dtype} {list(array.shape)}"
        raise ValueError(f"{task} gave {form} as {what}, but one number is needed.")
    return float(array.reshape(()))


def check_rows(
    task: str, reward: np.ndarray, discount: np.ndarray, state: np.ndarray | None = None
) -> None:
    """Check the numbers of a whole episode; `Checker` checks one timestep after the other.

    Args:
        task: named in the sentence.
        reward, discount: ``[R]``.
        state: ``[R, N]``.

    Raises:
        ValueError: a reward or a state that is not finite, or a discount outside [0, 1].
    """
    faults = {
        "a reward that is not finite": ~np.isfinite(reward),
        "a discount outside [0, 1]": ~((discount >= -_ROUNDING) & (discount <= 1.0 + _ROUNDING)),
    }
    if state is not None:
        faults["a state that is not finite"] = ~np.isfinite(state).all(axis=1)
    for what, wrong in faults.items():
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"{task} gave {what} {f'at env_step {row}' if row else 'at the reset'}."
            )


class Checker:
    """Checks the timesteps of one environment, in the order in which it gives them.

    Args:
        spec: of the environment.
        image_size: height and width of the frames that were asked for.
    """

    def __init__(self, spec: EnvironmentSpec, image_size: int) -> None:
        self._spec, self._image_size = spec, image_size
        self._steps = 0  # of the running episode
        self._form: dict[str, tuple[int, ...]] | None = None  # shape of each extra

    def checked(self, timestep: Timestep, *, first: bool) -> Timestep:
        """The timestep, with plain numbers in it.

        Args:
            timestep: what ``reset`` (``first``) or ``step`` gave.

        Raises:
            ValueError: it is not of the form that `Timestep` describes.
        """
        self._steps = 0 if first else self._steps + 1
        task = self._spec.task
        if not isinstance(timestep, Timestep):
            raise ValueError(
                f"{task} gave a {type(timestep).__name__}, but reset and step return a Timestep."
            )
        self._check_frame(timestep.image)
        reward = number(task, f"the reward {self._where}", timestep.reward)
        if not math.isfinite(reward):
            raise ValueError(f"{task} gave the reward {reward} {self._where}; it must be finite.")
        discount = number(task, f"the discount {self._where}", timestep.discount)
        if not -_ROUNDING <= discount <= 1.0 + _ROUNDING:
            raise ValueError(f"{task} gave the discount {discount} {self._where}: not in [0, 1].")
        is_last = bool(number(task, f"is_last {self._where}", timestep.is_last))
        self._check_end(discount, is_last)
        self._check_extras(timestep)
        return timestep._replace(
            reward=reward, discount=min(max(discount, 0.0), 1.0), is_last=is_last
        )

    @property
    def _where(self) -> str:
        return f"at env_step {self._steps}" if self._steps else "at the reset"

    def _check_frame(self, image: np.ndarray) -> None:
        shape = (self._image_size, self._image_size, 3)
        found = np.asarray(image)
        if found.shape != shape or found.dtype != np.uint8:  # NumPy would stretch or round it
            raise ValueError(
                f"{self._spec.task} gave a frame {found.dtype} {list(found.shape)}, but uint8 "
                f"{list(shape)} was asked for."
            )

    def _check_end(self, discount: float, is_last: bool) -> None:
        task, limit = self._spec.task, self._spec.episode_steps
        if is_last and not self._steps:
            raise ValueError(f"{task} ended at the reset, before any step.")
        if discount <= 0.0 and not is_last:
            raise ValueError(
                f"{task} gave the discount 0 {self._where} and went on: where the task ended, the "
                "episode ends, so is_last must be set."
            )
        if self._steps >= limit and not is_last:
            raise ValueError(
                f"{task} went on after env_step {limit}, but its spec has episode_steps={limit}: "
                "is_last must be set there."
            )

    def _check_extras(self, timestep: Timestep) -> None:
        task, size = self._spec.task, self._spec.state_size
        if not isinstance(timestep.extras, Mapping):
            raise ValueError(f"{task} gave no mapping as extras {self._where}: give an empty one.")
        form = {key: np.shape(value) for key, value in timestep.extras.items()}
        for key, value in timestep.extras.items():
            if np.asarray(value).dtype.hasobject:
                raise ValueError(
                    f"{task} gave Python objects as {key!r} {self._where}: extras are arrays of "
                    "numbers or texts."
                )
        if size and ("state" not in form or form["state"] != (size,)):
            found = list(form["state"]) if "state" in form else "none"
            raise ValueError(
                f"{task} gave a state of shape {found} {self._where}, but the first one had [{size}"
                "]: an observation needs one length, so pad it, or leave the part out that varies."
            )
        if size and not _is_finite(timestep.extras["state"]):
            raise ValueError(
                f"{task} gave a state {self._where} with values that are not finite numbers: "
                "replace infinity and NaN in the environment, or leave that part out."
            )
        if self._form is None:
            self._form = form
        if form != self._form:
            raise ValueError(
                f"{task} gave the extras {_listed(form)} {self._where}, but {_listed(self._form)} "
                "before: they must be the same at every step."
            )


def _is_finite(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in _NUMBERS and bool(np.isfinite(array).all())


def _listed(form: dict[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{key} {list(shape)}" for key, shape in form.items()) or "none"

"""Names of tasks: ``suite/name``, or ``module:function`` for a user's own, and options after ``+``.

    metaworld/door-close
    metaworld/door-close+sparse
    robodesk/open_slide+corrected
    dmc/walker_walk+background=pictures/street+noise=0.1
    my_tasks:pendulum+noise=1

| option | tasks | meaning |
|---|---|---|
| ``noise=W`` | all | the simulator executes ``a + W * n`` where the agent chose ``a`` |
| ``sparse`` | those with ``success`` | 500 for each env_step with success, otherwise 0 |
| ``corrected`` | robodesk | without the package's fault, see ``robodesk.py`` |
| ``background`` or ``background=FOLDER`` | dmc | moving pictures behind the body |
| ``camera=30``, ``mirrored``, and many others | planar | see ``jittable/planar.py`` |

An option changes what the task is, so it is a part of the name: a configuration, a dataset's
record and a checkpoint all carry it without a field of their own, and an evaluation that compares
names compares options too. Options have one order and one spelling, whatever the user typed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

_LARGEST = 1e6  # value of an option: simulators compute in float32


class TaskName(NamedTuple):
    """A name taken apart; ``str()`` puts it together again."""

    suite: str  # empty for a user's own environment
    name: str
    options: tuple[tuple[str, str], ...]  # sorted by option; the value of a mere switch is empty

    def __str__(self) -> str:
        base = f"{self.suite}/{self.name}" if self.suite else self.name
        return "".join(
            [base, *(f"+{key}={value}" if value else f"+{key}" for key, value in self.options)]
        )

    def chosen(self, option: str) -> str | None:
        """The value of ``option``, empty for a switch, or None where it was not given."""
        return dict(self.options)[option] if option in dict(self.options) else None


def parse_task(text: str) -> TaskName:
    """Take a task's name apart; says nothing about whether such a task exists.

    Raises:
        ValueError: an option is unknown, is given twice, or its value is missing or odd.
    """
    base, *parts = text.split("+")
    options: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in _OPTIONS:
            raise ValueError(
                f"{text}: no option {key!r} of tasks; known: {', '.join(_OPTIONS)}. A folder's own "
                "name cannot hold a +."
            )
        if key in options:
            raise ValueError(f"{text}: the option {key} is given twice.")
        try:
            options[key] = _OPTIONS[key](value)
        except ValueError as error:
            raise ValueError(f"{text}: {key}={value} is {error}.") from error
    suite, name = "", base
    if ":" not in base:
        suite, _, name = base.rpartition("/")
    return TaskName(suite, name, tuple(sorted(options.items())))


def is_own(text: str) -> bool:
    """Whether a task is a user's own, ``module:function``."""
    return not parse_task(text).suite


def _switch(value: str) -> str:
    if value:
        raise ValueError("a switch, which takes no value")
    return value


def _text(value: str) -> str:
    return value


def _positive(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 1.0 / _LARGEST <= number <= _LARGEST:
        raise ValueError("no number from 1e-6 to 1e6, for example 0.1")
    return _shortest(number)


def _number(value: str) -> str:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError("no number from -1e6 to 1e6, for example -0.5")
    return _shortest(number)


def _shortest(number: float) -> str:
    """The shortest text that reads as ``number``; up to a million it holds no plus."""
    return repr(number).removesuffix(".0")


def _from(least: int) -> Callable[[str], str]:
    """Whole numbers that are not below ``least``."""

    def whole(value: str) -> str:
        if not value.isdecimal() or int(value) < least:
            raise ValueError(f"no whole number from {least} on")
        return f"{int(value)}"

    return whole


# Every option, and what its value must be. Which suite takes it: suites.py.
_OPTIONS: dict[str, Callable[[str], str]] = {
    "anywhere": _switch,
    "background": _text,
    "camera": _number,
    "corrected": _switch,
    "damping": _positive,
    "dead": _from(0),
    "delay": _from(1),
    "extra": _switch,
    "gain": _positive,
    "goal": _text,
    "gravity": _number,
    "mirrored": _switch,
    "noise": _positive,
    "palette": _text,
    "reward": _positive,
    "sparse": _switch,
    "texture": _text,
    "zoom": _positive,
}

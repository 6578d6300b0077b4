"""Fields of settings that state their own range, and the check that reads it.

A settings class is a frozen dataclass whose fields become flags. A number must be finite and not
negative unless its field says more. A class may have a method ``check``, which raises a ValueError
for values that do not fit together; `check` calls it. Its sentences begin with the name of the
section, as in ``learning.horizon is 1``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any


def share(default: float, *, shapes: bool = False) -> Any:
    """A number between 0 and 1.

    Args:
        shapes: it decides what an update consists of, and not only how much of it counts.
    """
    return field(default=default, metadata={"most": 1.0} | ({"shapes": True} if shapes else {}))


def positive(default: float) -> Any:
    """A number above 0."""
    return field(default=default, metadata={"above": 0.0})


def shaping(default: float) -> Any:
    """A number that decides what an update consists of: at 0 a part of it is left out."""
    return field(default=default, metadata={"shapes": True})


def count(default: int) -> Any:
    """A whole number of at least 1."""
    return field(default=default, metadata={"least": 1})


def period(default: int) -> Any:
    """A whole number of updates, at least 1, after which something happens again."""
    return field(default=default, metadata={"least": 1, "period": True})


def choice(default: str, *others: str) -> Any:
    """One of a few words."""
    return field(default=default, metadata={"choices": (default, *others)})


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Dotted path, value and field of every setting, those of sections included."""
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{entry.name}.")
        else:
            yield f"{prefix}{entry.name}", value, entry


def numbers(settings: Any) -> dict[str, float | int]:
    """The settings that may be arguments of a compiled update and not constants in it, by path.

    These are the numbers that say how much of something counts, how fast or how often; not those
    that decide what an update consists of (`shaping`), nor sizes and lengths.
    """
    return {
        path: value
        for path, value, entry in leaves(settings)
        if ("period" in entry.metadata or isinstance(value, float))
        and "shapes" not in entry.metadata
    }


def with_values(settings: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """A settings dataclass with other values, by dotted path, those of sections too.

    Args:
        values: of fields; inside a compiled function those of `numbers` may be arrays.
        prefix: put before the paths of ``settings``.
    """
    new = {}
    for entry in dataclasses.fields(settings):
        old, path = getattr(settings, entry.name), f"{prefix}{entry.name}"
        if dataclasses.is_dataclass(old):
            new[entry.name] = with_values(old, values, f"{path}.")
        elif path in values:
            new[entry.name] = values[path]
    return dataclasses.replace(settings, **new)


def check(settings: Any, prefix: str = "") -> None:
    """Make sure that every value of a settings dataclass is in its range.

    Args:
        prefix: put before the paths in the sentences.

    Raises:
        ValueError: the first value that is not, with the values that are allowed.
    """
    for path, value, entry in leaves(settings, prefix):
        _check_value(path, value, entry.metadata)
    _check_together(settings, "", "")


def _check_together(section: Any, above: str, name: str) -> None:
    """What each section says of values that do not fit together, the inner sections first.

    Args:
        above: path of the section that holds this one, put before its sentences.
        name: of this section; "" for the settings of a method.
    """
    path = f"{above}{name}." if name else ""
    for entry in dataclasses.fields(section):
        inner = getattr(section, entry.name)
        if dataclasses.is_dataclass(inner):
            _check_together(inner, path, entry.name)
    if hasattr(section, "check"):
        try:
            section.check()
        except ValueError as error:
            raise ValueError(f"{above}{error}") from error


def _check_value(path: str, value: Any, rules: Any) -> None:
    if "choices" in rules and value not in rules["choices"]:
        raise ValueError(f"{path} is {value!r}: use one of {', '.join(rules['choices'])}.")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if "most" in rules and not 0.0 <= value <= rules["most"]:
        raise ValueError(f"{path} is {value}: it must lie between 0 and 1.")
    if not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{path} is {value}: it must be finite and not negative.")
    if "above" in rules and not value > rules["above"]:
        raise ValueError(f"{path} is {value}: it must be above {rules['above']:g}.")
    if "least" in rules and value < rules["least"]:
        raise ValueError(f"{path} is {value}: it must be at least {rules['least']}.")

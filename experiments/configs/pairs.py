"""What the suites' configuration files share: the form of ``--config=FILE:STRING``, and the pairs.

STRING names a pair, a size and a method, in this order, separated by commas; each may be left out.

| STRING | what the configuration is |
|---|---|
| ``PAIR`` | one cell of the paper's tables, source and target included, at the size ``paper`` |
| ``PAIR,SIZE`` | the same pair at ``paper``, ``released``, ``small``, ``planar``, ``quickstart`` |
| ``SIZE`` | no pair: the source and the target are flags of their own |
| ``PAIR,SIZE,METHOD`` | the same for another method than the default one |

``--config.method=METHOD`` is the same as METHOD in the string. `experiments.configs.sizes` has the
sizes. The target's suite adds what the paper and the authors' code set for it. Every field remains
a flag, and ``--config.data`` is always needed. For other tasks, use ``SIZE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from ml_collections import ConfigDict

from coworld_jax.config import Config, closest, flatten, override
from coworld_jax.workdir import is_method, method_names
from experiments.configs.sizes import SIZES, Suite, sized_config


class Score(NamedTuple):
    """A published return over 3 seeds of 10 episodes."""

    mean: int
    std: int | None = None  # where it is printed


class Pair(NamedTuple):
    """One cell of the paper."""

    where: str  # table or figure
    source: tuple[str, ...]  # tasks; with several, the one that Figures 3 and 4 call best leads
    target: str
    coworld: Score | None = None  # published returns; Figure 4 has none in figures
    finetune: Score | None = None  # of DV2 Finetune, in tables that have only this other row
    offline: Score | None = None  # of Offline DV2, likewise
    options: tuple[str, ...] = ()  # further settings, ``path=value``, for methods that have them


def make_config(suite: Suite, pairs: Mapping[str, Pair], text: str, size: str = "") -> ConfigDict:
    """The configuration that ``text`` names, as flags override it.

    Args:
        suite: of the targets of ``pairs``.
        pairs: by name.
        text: see the module; an empty part is as good as none.
        size: where ``text`` names none; ``paper`` for a pair and ``small`` without one, if empty.

    Raises:
        ValueError: no such pair, size or method; the closest name is given.
    """
    parts = [part for part in text.split(",") if part]
    methods = method_names()
    method = parts.pop() if parts and is_method(parts[-1]) else methods[0]
    usual = size or ("paper" if parts else "small")
    size = parts.pop() if parts and parts[-1] in SIZES else usual
    if not parts:
        return as_config_dict(sized_config(method, size, suite))
    name, *rest = parts
    if name not in pairs:
        known = [*pairs, *SIZES, *methods]
        raise ValueError(f"Unknown pair, size or method {name}: {closest(name, known)}")
    if rest:
        known = [*SIZES, *methods]
        wrong = next((part for part in rest if part not in known), rest[0])
        raise ValueError(f"Unknown size or method {wrong}: {closest(wrong, known)}")
    pair = pairs[name]
    config = replace(sized_config(method, size, suite), source=pair.source, target=pair.target)
    settings = flatten(config)
    options = [option for option in pair.options if option.partition("=")[0] in settings]
    return as_config_dict(override(config, options))


def as_config_dict(config: Config) -> ConfigDict:
    """``config`` with its sections nested, as ml_collections makes flags of them."""
    tree: dict[str, object] = {}
    for path, value in flatten(config).items():
        *sections, name = path.split(".")
        place = tree
        for section in sections:
            inner = place.setdefault(section, {})
            assert isinstance(inner, dict)
            place = inner
        place[name] = value
    return ConfigDict(tree)

"""Write the page of the losses, ``coworld_jax/losses/README.md``, from their docstrings.

python -m experiments.losses_page
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from coworld_jax import losses

PAGE = Path(losses.__file__).with_name("README.md")

_HEAD = """\
# The losses

Every function here is pure: arrays and numbers in, arrays out. Results are unreduced unless the
entry says `[]`, so that your code takes the mean and chooses the weights. They need jax, numpy and
chex, and nothing else of this project: `from coworld_jax.losses import value_constraint_loss`.
[own_agent.py](../../experiments/examples/own_agent.py) uses three of them in an agent of its own.

Sizes: `T` time, `B` batch, `A` action, `E` embedding, `N` coordinates of a state, `S` stochastic
state, `D` deterministic state, `K` heads. `sg` is a stopped gradient. This page is written from the
docstrings by `python -m experiments.losses_page`; a test compares the two.
"""


class Entry(NamedTuple):
    """What a docstring says of one loss."""

    name: str
    summary: str  # with the formula
    arguments: dict[str, str]
    returns: str
    gradient: str
    reference: str


def read(function: Callable[..., Any]) -> Entry:
    """A loss by its docstring.

    Raises:
        ValueError: the docstring lacks a part, or an argument.
    """
    text = inspect.getdoc(function) or ""
    name = function.__name__
    head, *_ = re.split(r"^(?:Args|Returns):$", text, maxsplit=1, flags=re.MULTILINE)
    arguments = {
        argument: " ".join(said.split())
        for argument, said in re.findall(
            r"^    (\w+(?:, \w+)*): (.*?)(?=^    \w+(?:, \w+)*: |^\S|\Z)",
            _section(text, "Args"),
            re.MULTILINE | re.DOTALL,
        )
    }
    gradient = re.search(r"\*\*Gradient:\*\* (.*?)(?:\n\n|\Z)", text, re.DOTALL)
    reference = re.search(r"^Reference: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    named = {part for argument in arguments for part in argument.split(", ")}
    missing = set(inspect.signature(function).parameters) - named
    if missing or gradient is None or reference is None or "``" not in head:
        raise ValueError(
            f"The docstring of {name} needs a formula, every argument, **Gradient:** and Reference "
            f"(missing arguments: {sorted(missing)})."
        )
    returns = _section(text, "Returns").partition("**Gradient:**")[0]
    return Entry(
        name, _plain(head), arguments, _plain(returns), _plain(gradient[1]), _plain(reference[1])
    )


def _section(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name in losses.__all__:
        entry = read(getattr(losses, name))
        parts.append(
            "\n".join(
                [
                    f"## `{entry.name}`",
                    "",
                    entry.summary,
                    "",
                    *(
                        f"* `{argument}`: {_plain(said)}"
                        for argument, said in entry.arguments.items()
                    ),
                    f"* returns {entry.returns}",
                    f"* gradient: {entry.gradient}",
                    f"* source: {entry.reference}",
                    "",
                ]
            )
        )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)

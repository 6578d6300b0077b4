"""The loops over time of an update: their steps in the compiled program, what a step computes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import jax
from jax.extend import core

_OVER_TIME = re.compile("observe|imagine")  # names of scopes


def loops_over_time(program: str) -> Counter[tuple[str, int]]:
    """The loops of a compiled program: the scope that each comes from, and its steps.

    Random numbers have loops of their own on a CPU; they do not count.
    """
    loops: Counter[tuple[str, int]] = Counter()
    for line in re.findall(r"= .* while\(.*", program):
        path = re.search(r'op_name="([^"]*)"', line)[1]
        if not re.search("threefry|uniform", path):
            steps = re.search(r'"known_trip_count":{"n":"(\d+)"', line)
            scope = _OVER_TIME.search(path)
            loops[scope[0] if scope else path, int(steps[1]) if steps else -1] += 1
    return loops


def products_of_steps(program: core.Jaxpr) -> list[int]:
    """How many matrix products a step of each loop over time has."""
    return _of_steps(program, "dot_general")


def transposes_of_steps(program: core.Jaxpr) -> list[int]:
    """How many arrays a step of each loop over time transposes."""
    return _of_steps(program, "transpose")


def _of_steps(program: core.Jaxpr, primitive: str) -> list[int]:
    found = []
    for equation in program.eqns:
        over_time = _OVER_TIME.search(str(equation.source_info.name_stack))
        if equation.primitive.name == "scan" and over_time:
            found.append(sum(_count(one, primitive) for one in _inside(equation)))
        else:
            found += [count for one in _inside(equation) for count in _of_steps(one, primitive)]
    return found


def _count(program: core.Jaxpr, primitive: str) -> int:
    return sum(
        (equation.primitive.name == primitive)
        + sum(_count(one, primitive) for one in _inside(equation))
        for equation in program.eqns
    )


def _inside(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    """The programs within an operation: the body of a loop, what a call calls."""
    for value in jax.tree.leaves(list(equation.params.values())):
        if isinstance(value, core.ClosedJaxpr | core.Jaxpr):
            yield value.jaxpr if isinstance(value, core.ClosedJaxpr) else value

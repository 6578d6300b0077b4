"""Stretches of an agenda: what one compiled program can do before the host is needed again.

The events up to the next evaluation or checkpoint are one stretch. Most of them repeat: a
collection, some updates, the end of the collection. `fold` finds these blocks, so that a program
holds each block once, however often it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from coworld_jax.training.plan import Collect, Event, Join, Learn, RandomPlay

Step = Collect | Learn | Join


class Stretch(NamedTuple):
    """Play and updates of one phase, and what the host does after them."""

    work: tuple[Step, ...]
    then: tuple[Event, ...]


class Block(NamedTuple):
    """Steps that are carried out several times; the counts in them are left out."""

    steps: tuple[Step, ...]
    repeats: int


def stretches(events: Iterable[Event]) -> Iterator[Stretch]:
    """The events of an agenda in stretches. The host plays at random, between two of them."""
    work: list[Step] = []
    then: list[Event] = []
    for event in events:
        if not isinstance(event, Step | RandomPlay):
            then.append(event)
            continue
        if then or (work and isinstance(event, RandomPlay)):
            yield Stretch(tuple(work), tuple(then))
            work, then = [], []
        if isinstance(event, RandomPlay):
            then.append(event)
        else:
            work.append(event)
    if work or then:
        yield Stretch(tuple(work), tuple(then))


def fold(work: Sequence[Step]) -> tuple[Block, ...]:
    """The steps of a stretch as blocks, which depend on their kinds and lengths alone.

    At each place the block is taken that covers most steps by repetition, the shortest of equals.
    """
    steps = [step if isinstance(step, Join) else step._replace(done=0) for step in work]
    blocks: list[Block] = []
    place = 0
    while place < len(steps):
        rest = len(steps) - place
        found = (
            Block(tuple(steps[place : place + period]), _repeats(steps, place, period))
            for period in range(1, rest // 2 + 1)
        )
        repeated = [block for block in found if block.repeats > 1]
        single = Block((steps[place],), 1)
        block = max(repeated, key=lambda b: len(b.steps) * b.repeats, default=single)
        blocks.append(block)
        place += len(block.steps) * block.repeats
    return tuple(blocks)


def unfold(blocks: Sequence[Block]) -> Iterator[tuple[int, int, int, Step]]:
    """Every step in order, with the number of its block, its repetition and its place in there."""
    for number, block in enumerate(blocks):
        for repetition in range(block.repeats):
            for place, step in enumerate(block.steps):
                yield number, repetition, place, step


def _repeats(steps: Sequence[Step], start: int, period: int) -> int:
    """How often the ``period`` steps from ``start`` follow each other."""
    block = steps[start : start + period]
    count = 1
    while steps[start + count * period : start + (count + 1) * period] == block:
        count += 1
    return count

"""Episodes of a foreign dataset, written one by one, and what is noted of them meanwhile."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

from coworld_jax.data.episodes import acts_outside, save_episode
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats.foreign import FILTER, PIXELS, Cut, Found, resize, split_at_ends
from coworld_jax.data.formats.units import Units


@dataclasses.dataclass
class Writing:
    """What an import has written into ``directory`` so far."""

    directory: Path
    names: set[str] = dataclasses.field(default_factory=set)
    rows: int = 0
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)  # array: episodes
    units: Units | None = None  # of the source's actions
    cut_rows: int = 0  # of episodes that a file's edge cuts, and which were left out
    single: int = 0  # episodes of the source that have one row, and were left out
    split: int = 0  # episodes of the source that went on after an end of the task
    _action_size: int | None = None
    _outside: int = 0  # env_steps with an action outside [-1, 1]
    _sizes: Counter[int] = dataclasses.field(default_factory=Counter)  # pixels: episodes

    def add(self, file: Path, found: Found | Cut) -> None:
        """Write one episode of ``file``, or several where it goes on after an end of the task.

        A cut one is only counted.

        Raises:
            DataError: its actions have another size or other units than those before.
        """
        if isinstance(found, Cut):
            self.cut_rows += found.rows
            return
        self._check_actions(file, found)
        self.single += len(found.episode.reward) == 1
        self.split += bool((found.episode.discount[:-1] == 0.0).any())
        for piece in split_at_ends(found):
            self._write(piece)

    def _write(self, found: Found) -> None:
        episode = found.episode
        self._sizes[episode.image.shape[1]] += 1
        self.left_out.update(found.left_out)
        self.rows += len(episode.reward)
        self._outside += int(acts_outside(episode.action[1:]).sum())
        name = found.name
        if name is None or name in self.names or "/" in name or name.startswith("."):
            name = self._free_name(len(episode.reward))
        self.names.add(name)
        save_episode(self.directory, episode._replace(image=resize(episode.image)), name=name)

    @property
    def actions_outside(self) -> float:
        """Share of env_steps with an action outside [-1, 1]."""
        return self._outside / max(self.rows - len(self.names), 1)

    @property
    def resized(self) -> str:
        """How frames were resized, ``84 to 64 pixels, filter hamming``, or empty."""
        foreign = sorted(set(self._sizes) - {PIXELS})
        if not foreign:
            return ""
        return f"{', '.join(map(str, foreign))} to {PIXELS} pixels, filter {FILTER}"

    def _check_actions(self, file: Path, found: Found) -> None:
        size = found.episode.action.shape[1]
        if self._action_size is None:
            self._action_size, self.units = size, found.units
        if size != self._action_size:
            reason = f"has {size} coordinates, but episodes before have {self._action_size}"
            raise DataError.of(file, "action", reason)
        before, here = (units and units.record() for units in (self.units, found.units))
        if here != before:
            reason = f"has bounds {here}, but episodes before have {before}: import them apart"
            raise DataError.of(file, "action_space", reason)

    def _free_name(self, rows: int) -> str:
        """A name by number that no episode has yet."""
        numbered = (f"{number:06d}-{rows}" for number in itertools.count(len(self.names)))
        return next(name for name in numbered if name not in self.names)

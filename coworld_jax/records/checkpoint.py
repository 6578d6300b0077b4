"""Checkpoints of a whole run: a pytree of arrays, and a JSON record of what the host knows.

Orbax writes each step into a temporary directory and renames it when it is complete, so that a run
killed at any moment finds its last complete step. What this module adds is the set of promises that
a training loop needs: the caller may donate the state as soon as `Checkpointer.save` returns, typed
PRNG keys survive, a restore onto other devices gives the same numbers, and a checkpoint of another
configuration is refused with the first leaf that differs.

Orbax is imported at the top: it adds 0.4 s to the 0.7 s of jax itself, less than it would cost to
find a broken install only when the first checkpoint is due.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from coworld_jax import hosts
from coworld_jax.data import read_json, write_json
from coworld_jax.records import leaves

SCORES = "scores.json"


class DamagedCheckpointError(ValueError):
    """The files of a checkpoint are not those that were written; `step` is its number."""

    def __init__(self, step: int, sentence: str) -> None:
        super().__init__(sentence)
        self.step = step


class _Ranking(PreservationPolicy):
    """Scores of steps, in a file; as a policy of Orbax it keeps the best of the steps there are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._scores: dict[str, float] = read_json(path) if path.exists() else {}

    def rate(self, step: int, score: float) -> None:
        """Note a score, and replace the file in one step."""
        self._scores[str(step)] = float(score)
        write_json(self._path, self._scores)

    def best(self, steps: Iterable[int]) -> int | None:
        """The step with the highest score, the later of equals; None if none has a score."""
        scored = [step for step in sorted(steps, reverse=True) if str(step) in self._scores]
        return max(scored, key=lambda step: self._scores[str(step)], default=None)

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        """Whether each checkpoint stays."""
        best = self.best(checkpoint.step for checkpoint in checkpoints)
        return [checkpoint.step == best for checkpoint in checkpoints]


class Checkpointer(AbstractContextManager["Checkpointer"]):
    """The checkpoints of one run in one directory: the latest ``keep``, and the best by score.

    A score may come when its checkpoint has long been written: ``scores.json`` beside the
    checkpoints holds it.

    Args:
        directory: made when it is missing, unless ``read_only``.
        keep: how many of the latest steps stay.
        read_only: for a second process that looks at a run which may still be training. A writer
            clears away what a killed save has left behind; a reader must not, because it may be
            the save that the other process is in the middle of.
    """

    def __init__(self, directory: str | Path, keep: int = 3, *, read_only: bool = False) -> None:
        if keep < 1:
            raise ValueError(f"A run keeps at least one checkpoint, but keep is {keep}.")
        self.directory = Path(directory).absolute()
        self._read_only = read_only
        self._ranking = _Ranking(self.directory / SCORES)
        self._manager = _open_manager(self.directory, self._ranking, keep, read_only=read_only)

    def save(self, step: int, state: Any, host: Mapping[str, Any]) -> bool:
        """Begins to save ``state`` and ``host`` as ``step``; the disk is written in the background.

        The state has been copied to the host when this returns, so that its buffers may be donated
        at once. A save that is still being written is waited for first; its error, if it failed,
        is raised here or by `close`.

        Args:
            step: number of updates done, larger than that of every earlier checkpoint.
            state: any pytree of jax arrays (typed PRNG keys too), NumPy arrays and numbers.
            host: what JSON can hold: counters, replay manifest.

        Returns:
            False, with nothing written, where ``step`` is the latest checkpoint already (a run
            that is told to stop just after it has saved).

        Raises:
            ValueError: a reader, an earlier step than the latest, or a host record that JSON cannot
                hold.
        """
        if self._read_only:
            raise ValueError(f"{self.directory} was opened to read: only the run itself may save.")
        latest = self.latest_step()
        if latest is not None and step < latest:
            raise ValueError(
                f"Step {step} lies before the latest checkpoint, {latest}, in {self.directory}: "
                "resume from that one, or use another workdir."
            )
        if step == latest:
            return False
        flat, _ = jax.tree_util.tree_flatten_with_path(state)
        values = leaves.to_host([leaf for _, leaf in flat])
        record = _record(step, flat, values, host)
        # Leaves go by number, for paths hold characters that a file system may not like; the record
        # has the paths. Orbax refuses arrays without elements, and their shape says it all.
        arrays = {str(index): value for index, value in enumerate(values) if value.size}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record)
            ),
        )
        return True

    def rate(self, step: int, score: float) -> None:
        """Say how good a step is; call it before a later step is saved, or the step may be gone.

        Args:
            step: saved already, or about to be.
            score: evaluation return that decides which checkpoint is the best.

        Raises:
            ValueError: the score is not finite.
        """
        if not math.isfinite(score):
            raise ValueError(f"The score of step {step} is {score}: pass a finite one.")
        self._ranking.rate(step, score)

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict[str, Any]]:
        """The state and the host record of ``step``.

        Args:
            template: a state of the same structure, of arrays or of `jax.ShapeDtypeStruct`. Each
                leaf goes where the template's leaf lives, whatever devices it was saved from;
                NumPy leaves come back as NumPy arrays and Python numbers as such.
            step: the latest checkpoint if not given.

        Raises:
            FileNotFoundError: no such checkpoint.
            ValueError: the checkpoint holds a state of another structure, shape or dtype.
            DamagedCheckpointError: its files are not those that were written.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(
                f"No checkpoint in {self.directory}: train first, or name the "
                "workdir of a run that has saved one."
            )
        step = steps[-1] if step is None else step
        if step not in steps:
            raise FileNotFoundError(
                f"No checkpoint of step {step} in {self.directory}: it has "
                f"{', '.join(map(str, steps))}."
            )
        return _restore(self._manager, self.directory, step, template)

    def latest_host(self) -> dict[str, Any] | None:
        """The host record of the latest checkpoint that is not damaged, without the state."""
        steps = self.steps()
        for step in reversed(steps):
            try:
                with _reading(self.directory, step, steps):
                    host: dict[str, Any] = _read_record(self._manager, step)["host"]
                    return host
            except DamagedCheckpointError:
                continue
        return None

    def steps(self) -> list[int]:
        """Every complete checkpoint in order; waits for a save under way."""
        self.wait()
        return sorted(self._manager.all_steps())

    def put_aside(self, step: int) -> Path:
        """Rename the folder of a damaged checkpoint, so that it counts no longer; its new path."""
        aside = self.directory.with_name(f"{self.directory.name}_damaged") / str(step)
        aside.parent.mkdir(exist_ok=True)
        number = 1
        while aside.exists():
            aside = aside.with_name(f"{step}_{number}")
            number += 1
        os.replace(self.directory / str(step), aside)
        self._manager.reload()
        return aside

    def latest_step(self) -> int | None:
        """The latest complete checkpoint, or None; waits for a save under way."""
        self.wait()
        step: int | None = self._manager.latest_step()
        return step

    def best_step(self) -> int | None:
        """The checkpoint with the highest score, the later of equals; None if none has a score."""
        return self._ranking.best(self.steps())

    def wait(self) -> None:
        """Returns when the save under way, if any, is on disk; raises its error if it failed."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the save under way and ends the background threads."""
        self._manager.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_manager(
    directory: Path, ranking: PreservationPolicy, keep: int, *, read_only: bool
) -> ocp.CheckpointManager:
    """Orbax's part of a `Checkpointer`; of several hosts, this one alone has checkpoints."""
    processes, alone = ocp.options.MultiprocessingOptions(), hosts.count() == 1
    if not alone:
        own = hosts.index()
        processes = ocp.options.MultiprocessingOptions(
            primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"host_{own}"
        )
        if not read_only:  # which Orbax leaves to a caller that names processes
            directory.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        directory,
        options=ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(n=keep), ranking]),
            cleanup_tmp_directories=not read_only,
            create=not read_only and alone,
            multiprocessing_options=processes,
        ),
        item_handlers={
            "state": ocp.StandardCheckpointHandler(multiprocessing_options=processes),
            "record": ocp.JsonCheckpointHandler(multiprocessing_options=processes),
        },
    )


def _record(
    step: int,
    flat: Sequence[tuple[tuple[Any, ...], Any]],
    values: Sequence[np.ndarray],
    host: Mapping[str, Any],
) -> dict[str, Any]:
    """What JSON keeps of a checkpoint: form and checksum of every leaf, and the host's record.

    Raises:
        ValueError: JSON cannot hold the host's record.
    """
    entries = [leaves.describe(path, leaf) for path, leaf in flat]
    for entry, (_, leaf), value in zip(entries, flat, values, strict=True):
        entry["crc"] = zlib.crc32(value.tobytes())
        if leaves.is_key(leaf):
            entry["impl"] = str(jax.random.key_impl(leaf))
    try:
        # Written to text and read back: the caller may go on changing its own record while the
        # background thread writes this one.
        record: dict[str, Any] = json.loads(json.dumps({"leaves": entries, "host": dict(host)}))
    except TypeError as error:
        raise ValueError(f"The host record of step {step} does not fit JSON: {error}.") from error
    return record


def _read_record(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """What was saved beside the arrays of a step: their descriptions, and the host's record."""
    restored = manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))
    found: dict[str, Any] = restored["record"]
    return found


def _restore(
    manager: ocp.CheckpointManager, directory: Path, step: int, template: Any
) -> tuple[Any, dict[str, Any]]:
    """See `Checkpointer.restore`; the step exists."""
    with _reading(directory, step, sorted(manager.all_steps())):
        record = _read_record(manager, step)
        host = record["host"]
    flat, structure = jax.tree_util.tree_flatten_with_path(template)
    wanted = [leaves.describe(path, leaf) for path, leaf in flat]
    leaves.check(directory / str(step), record["leaves"], wanted)
    # By path, for a record whose fields have changed places still holds the same leaves.
    numbers = {entry["path"]: index for index, entry in enumerate(record["leaves"])}
    order = [numbers[jax.tree_util.keystr(path)] for path, _ in flat]
    blanks = {str(index): leaves.blank(leaf) for index, (_, leaf) in zip(order, flat, strict=True)}
    asked = {name: blank for name, blank in blanks.items() if blank.size}
    with _reading(directory, step, sorted(manager.all_steps())):
        arrays = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(asked))
        )["state"]
        for name, value in arrays.items():
            entry = record["leaves"][int(name)]
            if entry["crc"] != zlib.crc32(np.ascontiguousarray(value).tobytes()):
                raise ValueError(f"the checksum of {entry['path']} is another")
    values = blanks | arrays
    placed = [
        leaves.place(values[str(index)], leaf, record["leaves"][index])
        for index, (_, leaf) in zip(order, flat, strict=True)
    ]
    return jax.tree_util.tree_unflatten(structure, placed), host


@contextmanager
def _reading(directory: Path, step: int, steps: Sequence[int]) -> Iterator[None]:
    """Read the files of a step.

    Args:
        directory: of the checkpoints.
        step: that is read.
        steps: all that there are.

    Raises:
        DamagedCheckpointError: names the step, and the one before.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # its kind depends on which of Orbax's files is damaged, and how
        earlier = [other for other in steps if other < step]
        way_out = (
            f"delete that folder to go on from step {earlier[-1]}"
            if earlier
            else "there is no earlier one, so choose another --workdir"
        )
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedCheckpointError(
            step, f"Checkpoint {directory / str(step)} is damaged ({reason}): {way_out}."
        ) from error

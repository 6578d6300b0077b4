"""The offline data of the target as training reads them: resident or streamed."""

from __future__ import annotations

import jax

from coworld_jax import hosts, parallel
from coworld_jax.config import Config
from coworld_jax.data import (
    Dataset,
    StreamedFeed,
    fingerprint,
    format_bytes,
    load_directory,
    total_bytes,
)
from coworld_jax.envs import EnvironmentSpec
from coworld_jax.method import Method
from coworld_jax.store import EpisodeStore
from coworld_jax.training.embeddings import embeds_once
from coworld_jax.training.remarks import imagines_beyond_ends
from coworld_jax.types import Batch

_STREAMED_BYTES = 256 * 2**20  # of batches prepared for one scan


class TargetFeed:
    """Batches of the offline dataset, the same ones from either feed.

    A dataset of at most ``run.resident_share`` of the device's memory lives on the device, where
    the scan samples from it. A larger one stays on the host, and batches are streamed.

    Args:
        config: names the directory, and what to do with bad files.
        spec: the environment that will evaluate the target; the dataset must agree with it.
        method: gives the sizes of a batch.
        action_size: of the batches.
        mesh: devices that hold the data, or None for a single one.

    Attributes:
        store: the resident dataset, or None when it is streamed.
        largest_chunk: updates of which the batches may be prepared together.
        announcement: a line that says which feed it is, and why, and lines of remarks.
        fingerprint: of the dataset, which a run records.
        left_out: bad files that were left out, by name, and why.

    Raises:
        ValueError: bad data, data of another task, profile or size than ``spec``, other data than
            another host has, or streamed data that are to be embedded once per phase.
    """

    store: EpisodeStore | None

    def __init__(
        self,
        config: Config,
        spec: EnvironmentSpec,
        method: Method,
        action_size: int,
        mesh: parallel.Mesh | None,
    ) -> None:
        dataset = load_directory(
            config.data,
            minimum_rows=method.length,
            action_size=spec.action_size,
            skip_bad=config.run.skip_bad_files,
            cache=config.run.cache or None,
        )
        self.fingerprint = fingerprint(dataset)
        hosts.agree(f"{config.data} has", self.fingerprint)
        self.left_out = {fault.file.name: str(fault) for fault in dataset.skipped}
        remarks = [
            *(f"left out: {fault}" for fault in dataset.skipped),
            *_agreement(dataset, spec),
            _actions(dataset),
            *_endings(dataset, config, method),
        ]
        # Of all memory, not of what is free just now: a resumed run must choose the same feed.
        share = max(hosts.gather(dataset.nbytes / total_bytes()))
        resident = share <= config.run.resident_share
        if not resident and embeds_once(method.plan, config.run):
            raise ValueError(
                f"run.embeddings is phase, but {config.data} takes {share:.0%} of the memory and "
                "is streamed: use --config.run.embeddings=update, or a larger "
                "--config.run.resident_share."
            )
        self.announcement = (
            f"{config.data}: {len(dataset.lengths):,} episodes, {format_bytes(dataset.nbytes)}, "
            f"{share:.0%} of the memory: "
            f"{'resident on the device' if resident else 'streamed from the host'}"
            f"{'' if dataset.cache is None else f', mapped from {dataset.cache}'}."
        )
        self.announcement = "\n".join([self.announcement, *remarks])
        self._mesh = mesh
        self.store, self._streamed = None, None
        self.largest_chunk = config.run.chunk
        if resident:
            self.store = parallel.lend(dataset.store(action_size), mesh)
        else:
            self._streamed = StreamedFeed(
                dataset, method.length, method.batch, action_size, method.before, mesh
            )
            batch_bytes = method.batch * method.length * spec.image_size**2 * 3
            self.largest_chunk = max(1, _STREAMED_BYTES // batch_bytes)

    def batches(self, keys: jax.Array) -> Batch:
        """Batches of a streamed dataset for sampling keys ``[K]``: ``[K, T, B, ...]``."""
        assert self._streamed is not None
        return self._streamed.batches(keys)

    def prefetch(self, keys: jax.Array) -> None:
        """Begin to gather what `batches` will probably be asked for next."""
        assert self._streamed is not None
        self._streamed.prefetch(keys)

    def close(self) -> None:
        """End the background thread of a streamed dataset."""
        if self._streamed is not None:
            self._streamed.close()


def _agreement(dataset: Dataset, spec: EnvironmentSpec) -> list[str]:
    """What the user should know about a dataset that cannot say whether it fits ``spec``.

    Raises:
        ValueError: it says that it does not.
    """
    metadata = dataset.metadata
    if metadata is None:
        return [
            f"{dataset.directory} has no dataset.json: it is taken on trust that its frames look "
            f"like those of {spec.task} with profile {spec.profile}."
        ]
    ways_out = {
        "task": "--config.target",
        "profile": "--config.run.profile",
        "action_repeat": "a dataset of the same action repeat",
        "image_size": "a dataset of that size",
    }
    for key, way_out in ways_out.items():
        here = getattr(spec, key)
        if metadata[key] != here:
            raise ValueError(
                f"{dataset.directory}/dataset.json says {key} {metadata[key]!r}, but the target's "
                f"environment has {here!r}: an evaluation would mislead. Change {way_out}."
            )
    return []


def _actions(dataset: Dataset) -> str:
    """How many actions an agent could not have chosen."""
    share = dataset.actions_outside
    if share == 0.0:
        return "All actions lie in [-1, 1]."
    return (
        f"{max(share, 1e-4):.2%} of the actions lie outside [-1, 1], which no agent chooses: if "
        "they are in other units, scale them in the files."
    )


def _endings(dataset: Dataset, config: Config, method: Method) -> list[str]:
    ends = dataset.starts + dataset.lengths - 1
    count = int((dataset.discount[ends] == 0.0).sum())
    episodes = f"{count:,} episodes of {config.data}"
    return imagines_beyond_ends(config, method, episodes) if count else []

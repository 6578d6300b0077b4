"""The updates of a phase, carried out: what they read, and the programs compiled for them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel
from coworld_jax.config import RunConfig
from coworld_jax.method import TARGET, Clock, Method, Phase, TrainState
from coworld_jax.records.stopwatch import Stopwatch
from coworld_jax.store import EpisodeStore
from coworld_jax.training import runtime
from coworld_jax.training.embeddings import PhaseEmbeddings
from coworld_jax.training.feeds import TargetFeed
from coworld_jax.training.plan import Learn
from coworld_jax.training.scan import Shape, run_updates, update_keys
from coworld_jax.types import Batch


class Learner:
    """Runs updates in chunks; each update is compiled once for a length.

    Args:
        method: what is learnt.
        run: how.
        mesh: devices, or None for a single one.
        feed: the target's data, or None in a plan that reads none.
        stopwatch: takes the times of ``sampling`` (of a streamed feed; a resident one is sampled
            inside the update), ``embedding``, ``compile`` and ``update``.
        say: shows a line to the user.
    """

    def __init__(
        self,
        method: Method,
        run: RunConfig,
        mesh: parallel.Mesh | None,
        feed: TargetFeed | None,
        stopwatch: Stopwatch,
        say: Callable[[str], None],
    ) -> None:
        self._method = method
        self._run = run
        self._mesh = mesh
        self._feed = feed
        self._embeddings = PhaseEmbeddings(method, mesh, say)
        self._stopwatch = stopwatch
        self._say = say
        self._programs: dict[tuple[Any, ...], parallel.Compiled] = {}
        self.largest_chunk = run.chunk if feed is None else min(run.chunk, feed.largest_chunk)

    def learn(
        self, state: TrainState, event: Learn, replays: Mapping[str, EpisodeStore]
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """The updates of an event, in one call.

        Args:
            state: overwritten.
            event: of the agenda.
            replays: episodes of the domains that are played.

        Returns:
            The new state, and each metric for every update, ``[updates]``.
        """
        phase, count = event.phase, event.updates
        with self._stopwatch.measure("sampling"):
            clock = parallel.on_host(state.clock)
            resident, streamed = self._feeds(clock, phase, count, replays)
        if self._run.embeddings == "phase" and TARGET in resident:
            with self._stopwatch.measure("embedding"):
                dataset = self._embeddings.joined(resident[TARGET], state.learnt, event)
                resident[TARGET] = dataset
        arguments = (state, resident, streamed, np.int32(event.done))
        signature = (phase.update, phase.reads, phase.embeds, count)
        if signature not in self._programs:
            self._say(f"Compiling {phase.name}, {count} updates in a call.")
            with self._stopwatch.measure("compile"):
                self._programs[signature] = self._compile(phase, count, arguments)
                runtime.return_free_memory()
        with self._stopwatch.measure("update"):
            state, metrics = self._programs[signature](*arguments)
            parallel.check_equal(state.learnt)
            return state, {name: np.asarray(value) for name, value in metrics.items()}

    def _feeds(
        self, clock: Clock, phase: Phase, count: int, replays: Mapping[str, EpisodeStore]
    ) -> tuple[dict[str, EpisodeStore], dict[str, Batch]]:
        """What a scan reads: resident episodes, and batches of ``count`` updates."""
        resident = {domain: replays[domain] for domain in phase.reads if domain in replays}
        streamed: dict[str, Batch] = {}
        if TARGET not in phase.reads:
            return resident, streamed
        assert self._feed is not None
        if self._feed.store is not None:
            return resident | {TARGET: self._feed.store}, streamed

        def keys(updates: jax.Array) -> jax.Array:
            return update_keys(clock._replace(updates=updates), phase.reads)[0][TARGET]

        numbers = clock.updates + jnp.arange(count)
        streamed[TARGET] = self._feed.batches(jax.vmap(keys)(numbers))
        self._feed.prefetch(jax.vmap(keys)(numbers + count))
        return resident, streamed

    def _compile(self, phase: Phase, count: int, arguments: Any) -> parallel.Compiled:
        method = self._method
        program = functools.partial(
            run_updates,
            method.updates[phase.update],
            shape=Shape(count, method.length, method.batch, method.before),
        )
        return parallel.compile_program(program, arguments, self._mesh, self._run.mapping)

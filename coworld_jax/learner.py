"""The updates of a phase, carried out: what they read, and the programs compiled for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import parallel, runtime
from coworld_jax.config import Config
from coworld_jax.coworld import SOURCE, TARGET, CoWorld, CoWorldState, source_name
from coworld_jax.feeds import TargetFeed
from coworld_jax.phases import make_update, update_keys
from coworld_jax.schedule import Phase
from coworld_jax.stopwatch import Stopwatch
from coworld_jax.store import EpisodeStore
from coworld_jax.types import Batch


class Learner:
    """Runs updates in chunks; each phase is compiled once for a source and a length.

    Args:
        method: what is learnt.
        config: of the run.
        mesh: devices, or None for a single one.
        action_sizes: coordinates of an action in each domain.
        feed: the target's data, or None in a plan without a target.
        stopwatch: takes the times of ``sampling`` (of a streamed feed; a resident one is sampled
            inside the update), ``compile`` and ``update``.
        say: shows a line to the user.
    """

    def __init__(
        self,
        method: CoWorld,
        config: Config,
        action_sizes: Mapping[str, int],
        mesh: parallel.Mesh | None,
        feed: TargetFeed | None,
        stopwatch: Stopwatch,
        say: Callable[[str], None],
    ) -> None:
        self._method = method
        self._config = config
        self._action_sizes = action_sizes
        self._mesh = mesh
        self._feed = feed
        self._stopwatch = stopwatch
        self._say = say
        self._programs: dict[tuple[Any, ...], parallel.RunPhase] = {}
        self.largest_chunk = config.run.chunk
        if feed is not None:
            self.largest_chunk = min(config.run.chunk, feed.largest_chunk)

    def learn(
        self, state: CoWorldState, phase: Phase, count: int, updates: int, replay: EpisodeStore
    ) -> tuple[CoWorldState, dict[str, np.ndarray]]:
        """``count`` updates in one call.

        Args:
            state: overwritten.
            updates: made before, over the whole run.
            replay: episodes of the phase's source; read by source phases only.

        Returns:
            The new state, and each metric for every update, ``[count]``.
        """
        with self._stopwatch.measure("sampling"):
            resident, streamed = self._feeds(state, phase, count, updates, replay)
        signature = (phase.kind, phase.source, phase.aligned, count)
        if signature not in self._programs:
            self._say(f"Compiling {phase.name}, {count} updates in a call.")
            with self._stopwatch.measure("compile"):
                self._programs[signature] = self._compile(phase, count, state, resident, streamed)
                runtime.return_free_memory()
        with self._stopwatch.measure("update"):
            state, metrics = self._programs[signature](state, resident, streamed)
            return state, {name: np.asarray(value) for name, value in metrics.items()}

    def _feeds(
        self, state: CoWorldState, phase: Phase, count: int, updates: int, replay: EpisodeStore
    ) -> tuple[dict[str, EpisodeStore], dict[str, Batch]]:
        """What `phases.run_phase` reads: resident episodes, and batches of ``count`` updates."""
        resident, streamed = {}, {}
        if phase.kind == "source":
            resident[SOURCE] = replay
        if phase.learns == TARGET or phase.aligned:
            assert self._feed is not None
            if self._feed.store is not None:
                resident[TARGET] = self._feed.store
            else:
                sampling = jax.vmap(lambda update: update_keys(state.key, update)[0][TARGET])
                numbers = updates + jnp.arange(count)
                streamed[TARGET] = self._feed.batches(sampling(numbers))
                self._feed.prefetch(sampling(numbers + count))
        return resident, streamed

    def _compile(
        self,
        phase: Phase,
        count: int,
        state: CoWorldState,
        resident: Mapping[str, EpisodeStore],
        streamed: Mapping[str, Batch],
    ) -> parallel.RunPhase:
        domain = TARGET if phase.learns == TARGET else source_name(phase.source, state.sources)
        run_phase = parallel.compile_phase(
            make_update(
                self._method, phase.kind, phase.source, phase.aligned, self._action_sizes[domain]
            ),
            updates=count,
            length=self._config.learning.length,
            batch=self._config.learning.batch,
            mesh=self._mesh,
        )
        return run_phase.lower(state, resident, streamed).compile()

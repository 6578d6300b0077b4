"""R3M+BC: behaviour cloning on a frozen visual representation that was learnt elsewhere.

A baseline of CoWorld (arXiv 2305.15260, section 4.1 and Appendix B.6). The representation is that
of Nair et al., "R3M: A Universal Visual Representation for Robot Manipulation" (CoRL 2022): a
ResNet that was trained on videos of people. Its weights are the user's own file::

    --config.weights=FILE    # of torch.save, as R3M's authors publish it; PyTorch is not needed

The depth, 18, 34 or 50, is read from the file. `experiments.check_parity` holds the encoder and its
treatment of images to values of the official code.

* **Observation**: one frame. Its short side is resized to 256 pixels as Pillow does, the middle
  224x224 are cut out and normalised with ImageNet's moments. Frames of 64 pixels are enlarged by
  this, and 12% of their edges are lost.
* **Policy**: batch normalisation of the embedding, then two hidden tanh layers of 256 units. The
  last layer begins at a hundredth of PyTorch's size. There is no noise, also where a player
  explores.
* **Loss**: ``mean (π(e) - a)²``. The embedding is data: nothing reaches the encoder.

What the paper leaves open, and what was chosen:

* Behaviour cloning or reinforcement learning. The paper says that R3M initialises the
  representation and then "performs policy optimization", and speaks of imitation in Appendix B.6.
  Cloning on frozen features is what R3M's own evaluation does.
* Which ResNet: any. R3M's evaluation code loads its first model, others use the ResNet-50.
* Whether the policy sees joint positions too, as in R3M's evaluation: it does not, since no other
  method here does.
* Lengths: 20,000 updates, batch 32, Adam with 1e-3, as in R3M's evaluation. ``updates`` may grow in
  the same workdir.
* Scores: R3M reports its best evaluation by success. Here the returns of every evaluation are
  recorded, like those of all methods.

What differs from the official code:

* Data: the target's dataset, not 25 demonstrations. The data's actions are clipped to [-1, 1], as
  the player's are.
* Embeddings are computed in every update. ``run.embeddings = "phase"`` computes them once before,
  as the official code does: it takes memory, saves most of the time, and changes nothing.

The last row of an episode has no action after it and is not trained on, as in the official code.

The encoder is a part of what a checkpoint holds. The file of weights must still be there when a run
goes on or its policy is loaded, since it says which network it is. There is no critic, so the
player has no values, and rewards are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents import r3m
from coworld_jax.agents.cloning import HeadState, clone, init_head, update_head
from coworld_jax.agents.gradient import Params, prefixed
from coworld_jax.agents.model_free.acting import make_player
from coworld_jax.agents.model_free.data import chunk_length, transitions
from coworld_jax.agents.model_free.settings import FramesConfig, OptimisationConfig
from coworld_jax.fields import count as whole
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.offline import offline_method
from coworld_jax.networks import CloningHead, ResNet
from coworld_jax.torch_file import read_tensors
from coworld_jax.types import Batch, Metrics

FRAMES = FramesConfig(stack=1)


@dataclass(frozen=True)
class R3mBcSettings:
    """Everything that the method depends on besides its domain."""

    weights: str = ""  # file of torch.save with R3M's weights
    updates: int = whole(20_000)
    hidden: int = whole(256)  # units of the policy's layers
    learning: OptimisationConfig = field(
        default_factory=lambda: OptimisationConfig(batch=32, learning_rate=1e-3)
    )

    def check(self) -> None:
        """A batch has a variance.

        Raises:
            ValueError: it has one example.
        """
        if self.learning.batch < 2:
            raise ValueError("learning.batch is 1: batch normalisation needs at least 2.")


class R3mBcState(NamedTuple):
    """The encoder, which stays as it is, and the policy."""

    encoder: Params
    head: HeadState


def r3m_bc_domains(settings: R3mBcSettings) -> tuple[str, ...]:
    """The target."""
    return (TARGET,)


def make_r3m_bc(settings: R3mBcSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`.

    Raises:
        ValueError: no file of weights is named, or it holds no R3M.
    """
    network, weights = _encoder(settings.weights)
    head = CloningHead(settings.hidden, domains[TARGET].action_size)
    optimizer = optax.adam(settings.learning.learning_rate)

    def init(key: jax.Array) -> R3mBcState:
        encoder = jax.tree.map(jnp.asarray, weights)
        return R3mBcState(encoder, init_head(head, optimizer, key, network.features))

    def step(
        state: R3mBcState,
        batch: Batch,
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None,
    ) -> tuple[R3mBcState, Metrics]:
        steps = transitions(batch, FRAMES)
        # A chunk begins with the frame that its policy sees.
        embed = batch.embed[0] if batch.embed is not None else see(state, steps.obs)
        policy, metrics = update_head(head, optimizer, state.head, embed, steps.action, axis_name)
        return state._replace(head=policy), prefixed("actor", metrics)

    def see(state: R3mBcState, image: jax.Array) -> jax.Array:
        return r3m.embed(network, state.encoder, image)

    def choose(params: R3mBcState, stack: jax.Array, key: jax.Array, *, explore: bool) -> jax.Array:
        return clone(head, params.head, see(params, stack))

    return offline_method(
        init,
        step,
        make_player(FRAMES, lambda state: state, choose),
        updates=settings.updates,
        length=chunk_length(FRAMES),
        batch=settings.learning.batch,
        before=FRAMES.stack - 1,
        embed=see,
    )


def _encoder(weights: str) -> tuple[ResNet, dict[str, Any]]:
    if not weights:
        raise ValueError(
            "weights is empty: name a file with R3M's weights, --config.weights=FILE. Its authors "
            "publish some at github.com/facebookresearch/r3m."
        )
    try:
        return r3m.load_params(read_tensors(weights))
    except ValueError as error:
        raise ValueError(f"--config.weights={weights}: {error}") from error

"""Golden values of V-D4RL's DrQ+BC: three updates, one of behaviour cloning, and its replay."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import augment
from coworld_jax.agents.model_free import (
    CloningState,
    Draws,
    PixelState,
    Trace,
    Transitions,
    exploration_std,
    update_bc,
    update_drq_bc,
)
from experiments.parity import pixels
from experiments.parity.compare import FIRST_CONVOLUTION, VALUE, Claim
from experiments.parity.fixture import Arrays, required, setting
from experiments.parity.steps import norm


def recognise(arrays: Arrays) -> bool:
    """Pixel agents with a weight of the cloning term."""
    return "cfg/bc_weight" in arrays and "in/obs" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    official = pixels.read(arrays)
    run = jax.jit(update_drq_bc, static_argnums=(0, 5))
    scales = {}

    def update(
        state: PixelState, batch: Transitions, draws: Draws, std: jax.Array, index: int
    ) -> tuple[PixelState, Trace]:
        state, trace = run(official.agent, state, batch, draws, std, setting(arrays, "bc_weight"))
        scales[f"out/u{index}/bc_loss"] = jnp.mean(trace.values["cloning_loss"])
        if index == 0:
            scales["out/u0/lam"] = trace.values["value_scale"]
        return state, trace

    found = pixels.claims(arrays, official, update)
    found |= {
        name: Claim(value, found[f"{name.rsplit('/', 1)[0]}/actor_loss"].tolerance)
        for name, value in scales.items()
    }
    return found | _cloning(arrays, official) | _replay(arrays)


def _cloning(arrays: Arrays, official: pixels.Official) -> dict[str, Claim]:
    """One update of behaviour cloning from the same weights and draws."""
    agent, start = official.agent, official.state
    both = {"encoder": start.encoder, "actor": start.actor}
    before = CloningState(**both, opt=agent.optimizer.init(both))
    names = (f"stddev_{name}" for name in ("init", "final", "steps"))
    step = jnp.float32(required(arrays, "cfg/step")[0])
    std = exploration_std(step, *(setting(arrays, name) for name in names))
    after, trace = jax.jit(update_bc, static_argnums=0)(
        agent, before, official.batch, pixels.draws(arrays, 0), std
    )
    found = pixels.step_claims(arrays, official, "bc/out", trace.grads, before, after)
    return found | {
        "bc/out/actor_loss": Claim(jnp.mean(trace.values["cloning_loss"])),
        "bc/out/action": Claim(trace.values["actor_action"]),
        "bc/out/grad_norm/encoder": Claim(
            norm(jax.tree.leaves(trace.grads["encoder"])), FIRST_CONVOLUTION
        ),
        "bc/out/grad_norm/actor": Claim(norm(jax.tree.leaves(trace.grads["actor"])), VALUE),
    }


def _replay(arrays: Arrays) -> dict[str, Claim]:
    """Every transition of two short episodes, in the buffer's order."""
    frame_id, reward, action, discount, kind = (
        required(arrays, f"replay/in/{name}")
        for name in ("frame_id", "reward", "action", "discount", "step_type")
    )
    starts = np.flatnonzero(kind == 0)
    ends = np.append(starts[1:], len(kind))
    frames = int(required(arrays, "replay/in/frame_stack"))
    gamma = float(required(arrays, "replay/in/gamma"))
    found: dict[str, Claim] = {}
    counts = {name.split("/")[2] for name in arrays if name.startswith("replay/out/n")}
    for steps in (int(count[1:]) for count in counts | {"n1", "n3"}):
        row = np.concatenate([np.arange(s, e - steps) for s, e in zip(starts, ends)])
        start = starts[np.searchsorted(starts, row, side="right") - 1]
        rows = row[:, None] + 1 + np.arange(steps)
        total, last = augment.n_step(
            jnp.asarray(reward[rows]), jnp.asarray(discount[rows]), gamma, steps
        )
        stacks = {
            "obs_ids": augment.stack_rows(jnp.asarray(start), jnp.asarray(row), frames),
            "next_ids": augment.stack_rows(jnp.asarray(start), jnp.asarray(row + steps), frames),
        }
        found |= {f"replay/out/n{steps}/{k}": Claim(frame_id[v]) for k, v in stacks.items()}
        found[f"replay/out/n{steps}/action"] = Claim(action[row + 1])
        found[f"replay/out/n{steps}/reward"] = Claim(total[:, None])
        found[f"replay/out/n{steps}/discount"] = Claim(last[:, None])
    return found

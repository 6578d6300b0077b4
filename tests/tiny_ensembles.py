"""What the tests of Offline DV2 and of LOMPO share: methods, heads of an update, devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from coworld_jax import parallel
from coworld_jax.agents import ensemble
from coworld_jax.method import TARGET, Method, TrainState, init_train_state
from coworld_jax.methods import METHODS


@functools.cache
def method_of(name: str) -> Method:
    """The tiny method, made once."""
    return METHODS[name].make(tiny.OTHERS[name], tiny.domains())


def fresh(method: Method) -> TrainState:
    """What a run begins with."""
    return jax.jit(lambda key: init_train_state(method, key))(jax.random.key(5))


def key_that_leaves_out_a_head(rssm: Any) -> tuple[jax.Array, set[int]]:
    """A key of an update, and the heads that it draws."""
    for seed in range(50):
        heads = ensemble.draw_heads(rssm, jax.random.split(jax.random.key(seed))[0], tiny.TIME)
        if len(set(heads.tolist())) < rssm.heads:
            return jax.random.key(seed), set(heads.tolist())
    raise AssertionError("every key draws all heads")


def drawn_and_trained(
    agent: Any, state: Any, update: Callable[..., Any]
) -> tuple[list[bool], dict[str, list[bool]]]:
    """For every head: whether an update draws it, and for every layer, whether it changes it."""
    rssm = agent.model.rssm
    key, drawn = key_that_leaves_out_a_head(rssm)
    after, _ = jax.jit(functools.partial(update, agent))(state, tiny.batch(0), key)
    old, new = (s.model["rssm"]["params"]["prior_heads"] for s in (state, after))
    trained = {
        layer: [bool(jnp.any(leaf[k] != new[layer][k])) for k in range(rssm.heads)]
        for layer, leaf in old.items()
    }
    return [k in drawn for k in range(rssm.heads)], trained


def assert_two_devices_learn_as_one_does(name: str, update: str) -> None:
    """Two updates of the tiny method, on one device and on two."""
    method = method_of(name)
    found = []
    for devices in (1, 2):
        mesh = parallel.make_mesh(devices, method.batch)
        state, resident = fresh(method), {TARGET: tiny.store(0)}
        state, resident = parallel.replicate((state, resident), mesh)
        state, metrics = tiny.scan(method, update, 2, state, resident, {}, mesh)
        found.append(tiny.copied((state.learnt, metrics)))
    for one, two in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(two, one, rtol=2e-3, atol=2e-5)

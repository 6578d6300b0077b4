"""A stranger's method in one module: found by its name, trained, resumed, evaluated, loaded."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import record_digests
import tiny

from coworld_jax.config import flatten
from coworld_jax.training.loop import train
from coworld_jax.workdir import config_from_flat, default_config, load_policy
from experiments.config_flags import normalise

MODULE = '''
"""Behaviour cloning on frames of 8x8 pixels."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from coworld_jax.fields import count
from coworld_jax.method import Entry, Method, Phase, Player


@dataclass(frozen=True)
class Settings:
    updates: int = count(6)
    learning_rate: float = 1e-2


def make(settings, domains):
    size = domains["target"].action_size
    optimizer = optax.adam(settings.learning_rate)

    def act(params, memory, image, key, *, explore):
        small = image[:, ::8, ::8].reshape(image.shape[0], -1) / 255.0 - 0.5
        return memory, jnp.tanh(small @ params)

    def init(key):
        params = 0.01 * jax.random.normal(jax.random.split(key)[1], (192, size))
        return params, optimizer.init(params)

    def update(state, batches, key, count, axis_name=None):
        params, moments = state
        image, wanted = batches["target"].image, batches["target"].action

        def loss(params):
            _, action = act(params, (), image.reshape(-1, 64, 64, 3), key, explore=False)
            return jnp.mean(jnp.square(action - wanted.reshape(-1, size)))

        value, grads = jax.value_and_grad(loss)(params)
        if axis_name is not None:
            grads = jax.lax.pmean(grads, axis_name)
        changes, moments = optimizer.update(grads, moments)
        return (optax.apply_updates(params, changes), moments), {"target/actor/loss": value}

    player = Player("image", lambda state: state[0], lambda batch: (), act, discount=0.99)
    plan = (Phase("clone", "clone", settings.updates, reads=("target",), scores=("target",)),)
    return Method(init, {"clone": update}, plan, {"target": player}, length=4, batch=2)


cloning = Entry(Settings, make, lambda settings: ("target",))
'''


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    """The stranger's module, in a folder that Python finds."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "strangers.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "data"
    record_digests.save_data(data)
    own = default_config("strangers:cloning")
    return replace(own, target="toy_tasks:windy", data=str(data), run=tiny.CONFIG.run)


def test_it_is_trained_resumed_evaluated_and_loaded(config, tmp_path):
    asked = []
    stop = lambda returns: len(asked) > 1 or asked.append(returns)  # noqa: E731
    assert train(config, tmp_path / "stopped", stop) is None
    resumed, whole = train(config, tmp_path / "stopped"), train(config, tmp_path / "whole")
    assert resumed["state_digest"] == whole["state_digest"] and whole["updates"] == 6
    assert np.isfinite(whole["evaluations"]["target"]["return_mean"])
    assert "value_bias" not in whole["evaluations"]["target"], "it has no critic"
    pictures = {Path(path).name for path in whole["pictures"]}
    assert "target_rollout.gif" in pictures and "target_open_loop.gif" not in pictures
    action = load_policy(tmp_path / "whole").episode(0)(np.zeros((64, 64, 3), np.uint8))
    assert action.shape == (2,) and (np.abs(action) < 1).all()


def test_its_settings_are_flags_and_its_configuration_is_read_back(config):
    arguments = normalise(
        ["train", "--config.method=strangers:cloning", "--config.learning_rate=1e-3"]
    )
    assert "--config=experiments/configs/dmc.py:small,strangers:cloning" in arguments
    assert config_from_flat(flatten(config)) == config
    with pytest.raises(ValueError, match=r"belongs to coworld, .*dreamer, .*finetune"):
        normalise(["train", "--config.method=strangers:cloning", "--config.learning.clip=1"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("finetun", "Unknown method finetun: did you mean finetune?"),
        ("nowhere_at_all:x", "No module named 'nowhere_at_all'. Its folder must be"),
        ("strangers:none", "has no attribute 'none'"),
        ("strangers:Settings", "but a coworld_jax.method.Entry is needed"),
    ],
)
def test_a_wrong_method_gets_one_sentence(name, sentence):
    with pytest.raises(ValueError, match=sentence.replace("?", "\\?")):
        default_config(name)

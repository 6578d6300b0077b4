"""Configuration: presets, flags, and one clear sentence for every bad value."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from coworld_jax import config as configuration
from coworld_jax.config import PRESETS, Config
from experiments.config_flags import normalise, resolve
from experiments.configs import dmc


def test_a_configuration_survives_json():
    config = replace(PRESETS["paper"](), source=("dmc/a", "dmc/b"))
    text = json.dumps(configuration.flatten(config))
    assert configuration.from_flat(json.loads(text)) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_the_config_file_gives_the_preset(preset):
    """The defaults are this suite's, but for the schedule of the sizes that reproduce numbers."""
    given, plain = resolve(dmc.get_config(preset)), PRESETS[preset]()
    changed = {line.partition(":")[0] for line in configuration.differences(plain, given)}
    if preset in ("small", "quickstart"):
        assert not changed
    assert all(path.startswith("schedule.") for path in changed)


def test_an_unknown_preset_names_the_closest():
    with pytest.raises(ValueError, match="smal: did you mean small"):
        dmc.get_config("smal")


def test_paper_preset_is_table_8():
    config = PRESETS["paper"]()
    network, learning = config.network, config.learning
    assert (network.latent, network.groups, network.classes) == ("categorical", 32, 32)
    assert (network.deter, network.hidden, network.depth) == (600, 600, 48)
    assert (learning.model_lr, learning.actor_lr, learning.critic_lr) == (2e-4, 4e-5, 1e-4)
    assert (learning.batch, learning.length, learning.discount) == (50, 50, 0.995)
    assert network.discount_head


def test_flags_are_normalised():
    assert normalise(
        [
            "train",
            "--config=experiments/configs/dmc.py:small",
            "--config.schedule.pretrain_updates=1e6",
            "--config.source",
            "dmc/a,dmc/b",
            "--config.learning.model_lr=3e-4",
            "--config.run.tensorboard",
            "--noconfig.run.tensorboard",
            "--workdir=1e6",
        ]
    ) == [
        "train",
        "--config=experiments/configs/dmc.py:small",
        "--config.schedule.pretrain_updates=1000000",
        "--config.source=('dmc/a', 'dmc/b')",
        "--config.learning.model_lr=3e-4",
        "--config.run.tensorboard",
        "--noconfig.run.tensorboard",
        "--workdir=1e6",
    ]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--config.learning.bach=3", "did you mean --config.learning.batch"),
        ("--config.learning.batch=2.5", "--config.learning.batch is '2.5'.*integer"),
        ("--config.learning.batch=many", "'many'.*integer"),
        ("--config.data", "--config.data needs a value"),
    ],
)
def test_bad_flags_get_one_sentence(argument, sentence):
    with pytest.raises(ValueError, match=sentence):
        normalise(["train", argument])


VALID = replace(PRESETS["small"](), source=("dmc/walker_walk",))


def test_check_returns_a_good_configuration():
    assert configuration.check(VALID) is VALID


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("network.latent", "gausian", "network.latent is 'gausian': use one of gaussian"),
        ("source_observation", "pixels", "source_observation is 'pixels': use one of image, state"),
        ("learning.discount", 1.5, "learning.discount is 1.5.*between 0 and 1"),
        ("learning.model_lr", -1.0, "learning.model_lr is -1.0"),
        ("learning.model_lr", float("nan"), "learning.model_lr is nan"),
        ("learning.batch", 0, "learning.batch is 0: it must be at least 1"),
        ("learning.horizon", 1, "learning.horizon is 1"),
        ("source", (), "source is empty"),
        ("network.latent", "categorical", "network.classes is 1: categorical latents need"),
        ("network.classes", 4, "network.classes is 4.*Gaussian ones 1"),
        ("schedule.prefill_episodes", 0, "prefill_episodes is 0"),
        ("schedule.train_every", 0, "train_every"),
    ],
)
def test_values_out_of_range_are_refused(path, value, sentence):
    flat = configuration.flatten(VALID) | {path: value}
    with pytest.raises(ValueError, match=sentence):
        configuration.check(configuration.from_flat(flat))


def test_types_are_those_of_the_fields():
    flat = configuration.flatten(VALID)
    config = configuration.from_flat(flat | {"seed": 3.0, "learning.clip": 5})
    assert type(config.seed) is int and type(config.learning.clip) is float
    with pytest.raises(ValueError, match="run.tensorboard is 1"):
        configuration.from_flat(flat | {"run.tensorboard": 1})
    with pytest.raises(ValueError, match="Unknown configuration key learning.bach"):
        configuration.from_flat(flat | {"learning.bach": 1})
    flat.pop("seed")
    with pytest.raises(ValueError, match="has no seed"):
        configuration.from_flat(flat)


def test_differences_name_both_values():
    changed = replace(VALID, seed=5, learning=replace(VALID.learning, batch=3))
    assert configuration.differences(VALID, changed) == [
        "seed: 0 -> 5",
        "learning.batch: 16 -> 3",
    ]
    assert configuration.differences(VALID, replace(VALID)) == []


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1

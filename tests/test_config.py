"""Configuration: presets, flags, and one clear sentence for every bad value."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from coworld_jax import config as configuration
from coworld_jax import fields
from coworld_jax.methods import DEFAULT, METHODS
from coworld_jax.records.files import write_config
from coworld_jax.workdir import config_from_flat, default_config, read_config
from experiments.config_flags import normalise, resolve
from experiments.configs import dmc
from experiments.configs.sizes import SIZES, sized_config


@pytest.mark.parametrize("method", METHODS)
def test_a_configuration_survives_json(method):
    config = replace(sized_config(method, "paper"), source=("dmc/a", "dmc/b"))
    text = json.dumps(configuration.flatten(config))
    assert config_from_flat(json.loads(text)) == config


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_the_config_file_gives_the_settings_of_a_size(size, method):
    given, wanted = resolve(dmc.get_config(f"{size},{method}")), sized_config(method, size)
    assert configuration.differences(wanted, given) == [] and given == wanted


def test_the_default_method_is_coworld():
    assert DEFAULT == "coworld"
    assert resolve(dmc.get_config("small")).method == default_config().method == DEFAULT
    with pytest.raises(ValueError, match="Unknown method finetun: did you mean finetune"):
        default_config("finetun")
    flat = configuration.flatten(VALID)
    with pytest.raises(ValueError, match="Unknown method cowrld: did you mean coworld"):
        config_from_flat(flat | {"method": "cowrld"})
    del flat["method"]
    with pytest.raises(ValueError, match="has no method: add it, for example 'coworld'"):
        config_from_flat(flat)


def test_sections_of_a_common_name_share_it():
    """``schedule`` has fields of every run and fields of the method; no two have one name."""
    for method in METHODS:
        config = default_config(method)
        paths = [path for path, _, _ in fields.leaves(config.settings)]
        paths += [f"schedule.{path}" for path, _, _ in fields.leaves(config.schedule)]
        paths += [f"run.{path}" for path, _, _ in fields.leaves(config.run)]
        assert len(paths) == len(set(paths)) == len(configuration.flatten(config)) - 5
        assert configuration.check(config) is config


def test_an_unknown_preset_names_the_closest():
    with pytest.raises(ValueError, match="smal: did you mean small"):
        dmc.get_config("smal")


def test_paper_preset_is_table_8():
    settings = sized_config("coworld", "paper").settings
    network, learning = settings.network, settings.learning
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


VALID = replace(sized_config("coworld", "small"), source=("dmc/walker_walk",))


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
        ("learning.clip", 0.0, "learning.clip is 0.0: it must be above 0"),
        ("learning.adam_eps", 0.0, "learning.adam_eps is 0.0: it must be above 0"),
        ("learning.weight_decay", 5.0, "learning.weight_decay is 5.0.*between 0 and 1"),
        ("learning.batch", 0, "learning.batch is 0: it must be at least 1"),
        ("learning.horizon", 1, "learning.horizon is 1"),
        ("run.mapping", "vmap", "run.mapping is 'vmap': use one of jit, pmap"),
        ("run.resident_share", -0.1, "run.resident_share is -0.1.*between 0 and 1"),
        ("seed", -1, "seed is -1"),
        ("coupling.selection", "epoch", "coupling.selection is 'epoch': use one of update, phase"),
        ("network.latent", "categorical", "network.classes is 1: categorical latents need"),
        ("network.classes", 4, "network.classes is 4.*Gaussian ones 1"),
        ("schedule.prefill_episodes", 0, "prefill_episodes is 0"),
        ("schedule.train_every", 0, "train_every"),
    ],
)
def test_values_out_of_range_are_refused(path, value, sentence):
    flat = configuration.flatten(VALID) | {path: value}
    with pytest.raises(ValueError, match=sentence):
        configuration.check(config_from_flat(flat))


def test_types_are_those_of_the_fields():
    flat = configuration.flatten(VALID)
    config = config_from_flat(flat | {"seed": 3.0, "learning.clip": 5})
    assert type(config.seed) is int and type(config.settings.learning.clip) is float
    with pytest.raises(ValueError, match="run.tensorboard is 1"):
        config_from_flat(flat | {"run.tensorboard": 1})
    with pytest.raises(ValueError, match="Unknown configuration key learning.bach"):
        config_from_flat(flat | {"learning.bach": 1})
    flat.pop("seed")
    with pytest.raises(ValueError, match="has no seed"):
        config_from_flat(flat)


def test_differences_name_both_values():
    learning = replace(VALID.settings.learning, batch=3)
    changed = replace(VALID, seed=5, settings=replace(VALID.settings, learning=learning))
    assert configuration.differences(VALID, changed) == [
        "seed: 0 -> 5",
        "learning.batch: 16 -> 3",
    ]
    assert configuration.differences(VALID, replace(VALID)) == []


def test_the_differences_between_two_methods_name_what_only_one_has():
    found = configuration.differences(VALID, replace(default_config("dreamer"), run=VALID.run))
    assert "method: 'coworld' -> 'dreamer'" in found
    assert "domain: absent -> 'source'" in found
    assert "coupling.reward_mix: 0.9 -> absent" in found


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VALID.seed = 1


@pytest.mark.parametrize(
    ("change", "domains", "sentence"),
    [
        ({"source": ()}, ("source",), "source is empty: name a task"),
        ({"target": ""}, ("source", "target"), "target is empty.*set --config.target"),
        ({"data": ""}, ("target",), "data is empty.*set --config.data"),
    ],
)
def test_domains_that_a_method_needs_are_named(change, domains, sentence):
    whole = replace(VALID, target="dmc/walker_downhill", data="somewhere")
    configuration.require_domains(whole, domains)
    with pytest.raises(ValueError, match=sentence):
        configuration.require_domains(replace(whole, **change), domains)


def test_overrides_are_typed_and_reach_every_section():
    changed = configuration.override(
        VALID, ["learning.batch=3", "run.keep=7", "schedule.rounds=1", "seed=2", "target=dmc/x"]
    )
    assert configuration.differences(VALID, changed) == [
        "seed: 0 -> 2", "target: '' -> 'dmc/x'", "run.keep: 2 -> 7",
        "learning.batch: 16 -> 3", "schedule.rounds: 4 -> 1",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Unknown configuration key learning.bach: did you mean"):
        configuration.override(VALID, ["learning.bach=3"])
    with pytest.raises(ValueError, match="target has no value: write target=VALUE"):
        configuration.override(VALID, ["target"])
    assert configuration.override(VALID, ["data=2024"]).data == "2024"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.method=finetun"], "finetun.*did you mean finetune"),
        (
            ["--config.ewc_scale=1"],
            "ewc_scale of method coworld; it belongs to finetune: use --config.method=finetune",
        ),
        (
            ["--config.method=multitask", "--config.coupling.reward_mix=1"],
            "coupling.reward_mix of method multitask; it belongs to coworld",
        ),
        (
            ["--config=experiments/configs/dmc.py:small,dreamer", "--config.method=finetune"],
            "names the method dreamer, but finetune is wanted",
        ),
    ],
)
def test_a_flag_of_another_method_gets_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        normalise(["train", *arguments])


def test_a_method_can_be_named_by_flag_or_in_the_string():
    by_flag = normalise(
        ["train", "--config=experiments/configs/dmc.py:small", "--config.method=finetune",
         "--config.ewc_scale=2"]
    )  # fmt: skip
    in_string = normalise(
        ["train", "--config=experiments/configs/dmc.py:small,finetune", "--config.ewc_scale=2"]
    )
    assert by_flag == in_string
    assert by_flag[1] == "--config=experiments/configs/dmc.py:small,finetune"


@pytest.mark.parametrize("path", ["run.grace", "run.chunk", "data"])
def test_a_run_of_an_earlier_version_has_the_default_of_what_nothing_depends_on(tmp_path, path):
    write_config(tmp_path, VALID)
    _leave_out(tmp_path, path)
    usual = configuration.flatten(default_config())
    assert configuration.flatten(read_config(tmp_path))[path] == usual[path]


def test_a_run_without_a_setting_that_matters_is_not_read(tmp_path):
    write_config(tmp_path, VALID)
    _leave_out(tmp_path, "learning.batch")
    with pytest.raises(ValueError, match="of another version or damaged.*no learning.batch"):
        read_config(tmp_path)


def _leave_out(workdir, path):
    file = workdir / "config.json"
    flat = json.loads(file.read_text())
    del flat[path]
    file.write_text(json.dumps(flat))

"""The paper's pairs: what their names resolve to, and what is published of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from coworld_jax import config as configuration
from coworld_jax.agents.dreamer.settings import NETWORKS, NetworkConfig
from coworld_jax.config import Config
from coworld_jax.envs.interface import Request
from coworld_jax.envs.suites import check_request
from coworld_jax.method import TARGET, Domain, Phase, source_names
from coworld_jax.methods import DEFAULT, METHODS
from coworld_jax.training.plan import check_plan, due
from coworld_jax.workdir import needed_domains
from experiments.collecting.references import reference_return
from experiments.config_flags import resolve
from experiments.configs import dmc, metaworld, robodesk
from experiments.configs.pairs import Score
from experiments.configs.sizes import SIZES, sized_config

ROOT = Path(__file__).resolve().parent.parent
FILES = {"dmc": dmc, "metaworld": metaworld, "robodesk": robodesk}
NAMES = [(file, pair) for file, module in FILES.items() for pair in module.PAIRS]
MODEL_FREE = ("bc", "cql", "curl", "drq_bc", "r3m_bc")
SECONDS = 600
EPISODE = 500  # env_steps of an episode, in all suites


def config(file: str, text: str) -> Config:
    """What ``FILE:STRING`` resolves to, with a directory of data."""
    values = FILES[file].get_config(text)
    values.data = "somewhere"
    return resolve(values)


def plan(made: Config, episode_steps: int = EPISODE) -> tuple[Phase, ...]:
    """The plan of a configuration on tasks with episodes of this length."""
    names = [*source_names(len(made.source)), TARGET] if made.source else ["source", TARGET]
    domains = {name: Domain(4, 24, episode_steps) for name in names}
    phases = METHODS[made.method].make(tiny.with_weights(made.settings), domains).plan
    check_plan(phases, dict.fromkeys(names, episode_steps))
    return phases


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "pair"), NAMES)
def test_a_pair_is_complete_at_every_size(file, pair):
    """Tasks exist and are spelled as they will be recorded; data are all that is missing."""
    line = FILES[file].PAIRS[pair]
    assert line.target.startswith(f"{file}/")
    for task in (*line.source, line.target):
        assert check_request(Request(task, "full", 64, None, None)).task == task
    for size in SIZES:
        made = configuration.check(config(file, f"{pair},{size}"))
        assert needed_domains(made) == (*source_names(len(line.source)), TARGET)
        assert (made.source, made.target) == (line.source, line.target)
        assert made.settings.network.depth == NETWORKS[size].depth
        plan(made)
    assert config(file, pair) == config(file, f"{pair},paper")


@pytest.mark.parametrize("method", [name for name in METHODS if name != DEFAULT])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("file", FILES)
def test_every_method_has_its_settings_in_every_suite(file, size, method):
    """Of a pair with one source; a method has the pair's domains that it asks for."""
    pair = next(name for name, line in FILES[file].PAIRS.items() if len(line.source) == 1)
    made = configuration.check(config(file, f"{pair},{size},{method}"))
    assert made.method == method and type(made.settings) is METHODS[method].settings
    if hasattr(made.settings, "network") and isinstance(made.settings.network, NetworkConfig):
        assert made.settings.network == config(file, f"{pair},{size}").settings.network
        assert made.settings.learning == config(file, f"{pair},{size}").settings.learning
    assert set(needed_domains(made)) <= {"source", TARGET}
    assert plan(made)[-1].scores


# Updates, batch, learning rate, frame, rewards before the bootstrap: the official ones.
@pytest.mark.parametrize("size", ["paper", "released"])
@pytest.mark.parametrize("file", FILES)
def test_methods_without_a_world_model_have_their_official_sizes(file, size):
    found = {}
    for method in MODEL_FREE:
        settings = config(file, f"{size},{method}").settings
        found[method] = [settings.updates, settings.learning.batch, settings.learning.learning_rate]
        if method != "r3m_bc":
            assert (settings.network.channels, settings.network.trunk) == (32, 50)
            assert settings.network.hidden == 1024 and settings.frames.stack == 3
            found[method].append(settings.frames.image_size)
        if hasattr(settings, "noise"):
            assert settings.noise.updates == 125_000
        if hasattr(settings, "critic"):
            found[method].append(settings.critic.n_step)
    assert found == {
        "bc": [150_000, 256, 3e-4, 84],
        "cql": [150_000, 256, 3e-4, 84, 1],
        "curl": [300_000, 128, 1e-3, 100, 1],
        "drq_bc": [150_000, 256, 3e-4, 84, 3],
        "r3m_bc": [20_000, 32, 1e-3],
    }
    assert config(file, f"{size},curl").settings.crop == 84


# Table 8: beta_2, k, alpha.
@pytest.mark.parametrize(
    ("file", "weights"),
    [("dmc", (1.5, 0.9, 1.0)), ("metaworld", (1.0, 0.3, 2.0)), ("robodesk", (1.0, 0.3, 2.0))],
)
@pytest.mark.parametrize("size", SIZES)
def test_coupling_weights_are_the_suites(file, weights, size):
    for text in (size, *(f"{pair},{size}" for pair in FILES[file].PAIRS)):
        coupling = config(file, text).settings.coupling
        assert weights == (
            coupling.alignment_scale,
            coupling.reward_mix,
            coupling.value_constraint_scale,
        )


# Source updates, their env_steps, random env_steps, target's world model alone, target jointly.
TOTALS = {
    # 99 + 5 * (6000, 2 * 2000, 5 * 4000) env_steps; 2 * 10,000; 99 + 6 * 10,000
    "metaworld": (30_099, 150_000, 5_000, 20_000, 60_099),
    "robodesk": (30_099, 150_000, 5_000, 20_000, 60_099),
    # 99 + 5 * (3000, 2 * 1000, 5 * 2000) env_steps; 2 * 5000; 99 + 6 * 2000
    "dmc": (15_099, 75_000, 2_500, 10_000, 12_099),
}


@pytest.mark.parametrize(("file", "pair"), NAMES)
@pytest.mark.parametrize("size", ["paper", "released"])
def test_totals_are_those_of_the_authors_loop(file, pair, size):
    made = config(file, f"{pair},{size}")
    phases = plan(made)
    for name in source_names(len(made.source)):
        mine = [p for p in phases if p.plays == name]
        totals = (
            sum(p.updates for p in mine),
            sum(p.env_steps for p in mine if p.update),
            sum(p.env_steps for p in mine if not p.update),
            sum(p.updates for p in phases if p.update == "target model"),
            sum(p.updates for p in phases if p.update == "target"),
        )
        assert totals == TOTALS[file]


@pytest.mark.parametrize(("file", "count"), [("metaworld", 31), ("robodesk", 31), ("dmc", 13)])
def test_the_target_is_scored_as_often_as_the_authors(file, count):
    """They score it once more, before its first joint update."""
    made = config(file, "released")
    scored = 0
    for phase in plan(made):
        if phase.scores == (TARGET,):
            scored += sum(
                due(phase, made.run.eval_every, done) for done in range(1, phase.updates + 1)
            )
    assert scored == count - 1


@pytest.mark.parametrize(
    ("file", "cell", "scale"),
    [("dmc", "layer_norm", 2.0), ("metaworld", "plain", 1.0), ("robodesk", "plain", 1.0)],
)
def test_released_is_the_authors_block_of_the_suite(file, cell, scale):
    made = config(file, "released").settings
    assert (made.network.cell, made.learning.reward_scale) == (cell, scale)
    assert config(file, "paper").settings.network.cell == "layer_norm"
    small = sized_config(DEFAULT, "small").settings
    assert config(file, "small").settings.schedule == small.schedule


def test_several_sources_each_have_their_turn():
    made = config("metaworld", "door-close-multi,small")
    assert made.source == (
        "metaworld/button-press", "metaworld/handle-press", "metaworld/drawer-close"
    )  # fmt: skip
    phases = plan(made)
    names = ["source0", "source1", "source2"]
    assert [p.plays for p in phases if p.name == "pretrain"] == names
    # Each trains as long as a single one, which is called otherwise.
    single = plan(config("metaworld", "door-close,small"))

    def lengths(phases, name):
        mine = [p for p in phases if p.plays in ("", name)]
        return [(p.name, p.updates, p.env_steps, p.first_updates) for p in mine]

    for name in names:
        assert lengths(phases, name) == lengths(single, "source")


@pytest.mark.parametrize(("file", "pair"), NAMES)
def test_the_sources_of_table_4_and_no_others_read_states(file, pair):
    reads = config(file, pair).settings.source_observation
    assert reads == ("state" if FILES[file].PAIRS[pair].where == "Table 4" else "image")


@pytest.mark.parametrize("pair", [pair for pair in dmc.PAIRS if pair.endswith("-expert")])
def test_table_9_is_table_3_with_other_data(pair):
    assert config("dmc", pair) == config("dmc", pair.removesuffix("-expert"))


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("dmc", "smal", "Unknown pair, size or method smal: did you mean small?"),
        (
            "metaworld",
            "dor-close",
            "Unknown pair, size or method dor-close: did you mean door-close?",
        ),
        ("robodesk", "small,small", "Unknown pair, size or method small: did you mean"),
        ("robodesk", "push_green,papr", "Unknown size or method papr: did you mean paper?"),
        (
            "robodesk",
            "push_green,small,finetun",
            "Unknown size or method finetun: did you mean finetune?",
        ),
        ("dmc", "finetun", "Unknown pair, size or method finetun: did you mean finetune?"),
    ],
)
def test_an_unknown_name_gets_the_closest(file, text, sentence):
    with pytest.raises(ValueError) as raised:
        FILES[file].get_config(text)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "robodesk.py:push_gren",
            "Unknown pair, size or method push_gren: did you mean push_green?",
        ),
        ("robodsk.py:push_green", "'experiments/configs/robodsk.py'; experiments/configs/ has a"),
    ],
)
def test_the_command_says_no_more_than_that(text, said):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.train", "--workdir=unused",
         f"--config=experiments/configs/{text}"],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert result.returncode == 1
    assert said in result.stderr and "Traceback" not in result.stderr


# --- what is published ----------------------------------------------------------------------------


def rows(file: str) -> dict[str, dict[str, str]]:
    """Lines of the tables in a file's docstring: pair to the cells that stand behind it."""
    found, header = {}, []
    for line in (FILES[file].__doc__ or "").splitlines():
        if not line.startswith("|") or line.startswith("|--"):
            continue
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if name.startswith("pair"):
            header = cells
        else:
            assert name not in found, f"{name} has two lines"
            found[name] = dict(zip(header, cells, strict=True))
    return found


def spelled(score: Score) -> str:
    return f"{score.mean}" if score.std is None else f"{score.mean} ± {score.std}"


@pytest.mark.parametrize(("file", "pair"), NAMES)
def test_the_docstring_says_what_the_data_say(file, pair):
    line, table = FILES[file].PAIRS[pair], rows(file)
    scores = {"CoWorld": line.coworld, "DV2 Finetune": line.finetune, "Offline DV2": line.offline}
    published = {name: spelled(score) for name, score in scores.items() if score is not None}
    if pair not in table:
        assert f"``{pair}``" in FILES[file].__doc__ and not published
        return
    quoted = table[pair]
    assert {name: quoted[name] for name in quoted if name in scores} == published
    if "source" in quoted:
        assert quoted["source"] == ", ".join(task.partition("/")[2] for task in line.source)
    if "target" in quoted:
        assert quoted["target"] == line.target.partition("/")[2]


@pytest.mark.parametrize("file", FILES)
def test_the_docstring_lists_nothing_else_and_its_commands_exist(file):
    text = FILES[file].__doc__
    assert set(rows(file)) <= set(FILES[file].PAIRS)
    commanded = re.findall(rf"--config=experiments/configs/{file}\.py:(\S+)", text)
    assert commanded
    for name in commanded:
        assert name in FILES[file].PAIRS or name in SIZES or name.startswith("STRING")
    collected = re.findall(r"experiments\.collect --task=(\S+)(.*?)\n    python", text, re.DOTALL)
    assert collected
    for task, flags in collected:
        assert task in {line.target for line in FILES[file].PAIRS.values()}
        if "--reference" not in flags:
            assert reference_return(task) > 0
    for where in {line.where for line in FILES[file].PAIRS.values()}:
        assert where in text


@pytest.mark.parametrize(
    ("file", "where", "ending", "mean"),
    [
        # The means of the paper's own cells, which differ from the averages that it prints.
        ("metaworld", "Table 2", "", 4235.8),
        ("metaworld", "Table 2", "-multi", 4118.0),
        ("dmc", "Table 3", "", 487.5),
        ("dmc", "Table 9", "-expert", 788.5),
    ],
)
def test_a_row_of_the_paper_is_whole(file, where, ending, mean):
    scores = [
        line.coworld.mean
        for name, line in FILES[file].PAIRS.items()
        if line.where == where and name == line.target.partition("/")[2] + ending
    ]
    assert len(scores) == 6
    assert np.mean(scores) == pytest.approx(mean, abs=0.05)

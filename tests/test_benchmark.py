"""The benchmark's figures agree with each other, and name what they are of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from executables import executable

from experiments.benchmarks import (
    gpu,
    gpu_table,
    layers,
    limits,
    loop,
    playing,
    profile,
    timing,
    update,
    whole_run,
)
from experiments.benchmarks.flops import update_flops

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.benchmark", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow
def test_figures_of_an_update_agree():
    config = replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, chunk=2))
    (figures,) = update.measure([config], "world_model", repeats=3)
    sizes = config.settings.network, config.settings.learning, update.ACTION_SIZE
    flops = update_flops("world_model", *sizes)
    assert figures["flops"] == flops
    assert figures["seconds_min"] <= figures["seconds"] <= figures["seconds_max"]
    rate = figures["utilisation"] * figures["seconds"] * figures["matmul_flops_per_second"]
    assert rate == pytest.approx(flops)
    transitions = tiny.TIME * tiny.BATCH / figures["seconds"]
    assert figures["transitions_per_second"] == pytest.approx(transitions)
    assert figures["compile_seconds"] > figures["seconds"]
    assert figures["peak_bytes"] > 2**20


def test_the_last_line_is_json_that_names_its_setting():
    result = command("flops", "--preset=paper", "--batch=3", "--phase=source")
    assert result.returncode == 0, result.stderr
    line = json.loads(result.stdout.splitlines()[-1])
    assert (line["preset"], line["batch"], line["phase"]) == ("paper", 3, "source")
    assert line["flops"] == sum(line["parts"].values())
    assert {"device", "devices", "cpu_count", "versions"} <= set(line)


def test_bad_commands_get_one_sentence():
    result = command("updates")
    assert result.returncode == 1 and "one of: update, suite" in result.stdout + result.stderr
    result = command("flops", "--batch=0")
    assert result.stderr.strip().startswith("learning.batch is 0: it must be at least")


@pytest.mark.slow
def test_bad_comparisons_get_one_sentence():
    result = command("update", "--preset=small", "--against=network.unrol=5")
    assert result.returncode == 1 and "did you mean network.unroll?" in result.stderr
    assert "Traceback" not in result.stderr
    result = command("flops", "--against=learning.batch=2")
    assert result.stderr.strip().startswith("--against means nothing to flops")


def test_figures_by_hand():
    """Two chunks of 4 updates, 3 single ones a call, a product at 2 n^3 FLOP per 0.5 s."""
    config = replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, chunk=4))
    program = update.Program(None, None, 3, 7.0, "")
    found = update._figures(config, "target", program, [8.0, 12.0, 10.0], [6.0], [0.5])
    assert (found["seconds"], found["seconds_min"], found["seconds_max"]) == (2.5, 2.0, 3.0)
    assert (found["bare_seconds"], found["chunk_over_bare"]) == (2.0, 1.25)
    assert found["transitions_per_second"] == tiny.BATCH * tiny.TIME / 2.5
    rate = 4 * timing.MATRIX**3
    assert found["matmul_flops_per_second"] == pytest.approx(rate)
    assert found["utilisation"] == pytest.approx(found["flops"] / 2.5 / rate)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("jit(run)/while/body/closed_call/transpose(jvp(observe))/while/body/RSSM.recur/mul",
         "observe/RSSM.recur, backward"),
        ("jit(run)/while/body/closed_call/jvp(Decoder)/cond/branch_0_fun/while", "Decoder"),
        ("jit(run)/while/body/closed_call/sample/gather", "sample"),
        ("jit(run)/while/body/eval_jaxpr/jvp(observe)/while/body/eval_jaxpr/RSSM.prior/dot",
         "observe/RSSM.prior"),
        ("jit(run)/while/body/add", ""),
    ],
)  # fmt: skip
def test_parts_are_named_by_their_scopes(path, name):
    assert profile.part(path) == name


@pytest.mark.slow
def test_a_profile_finds_the_networks():
    costs = profile.measure(replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, chunk=2)), "target")
    assert sum(cost.share for cost in costs) == pytest.approx(1.0)
    assert {"Encoder", "Decoder, backward"} <= {cost.name for cost in costs}


@pytest.mark.slow
def test_two_settings_are_measured_in_turns():
    result = command(
        "update", "--preset=small", "--phase=world_model", "--length=2", "--chunk=1", "--repeats=1",
        "--against=network.deter=8",
    )  # fmt: skip
    line = json.loads(result.stdout.splitlines()[-1])
    assert line["against"]["changed"] == ["network.deter=8"]
    assert line["against"]["flops"] < line["flops"]
    ratio = line["against"]["seconds"] / line["seconds"]
    assert line["against_over_given"] == pytest.approx(ratio)


@pytest.mark.slow
def test_every_layer_has_a_time_in_each_form():
    rows = layers.measure(depth=1, images=2, dtype="float32", repeats=1)
    assert len(rows) == 7
    assert all(row["stock_ms"] > 0.0 and row["blocks_ms"] > 0.0 for row in rows)


@pytest.mark.slow
def test_shares_of_the_loop_add_up():
    figures = loop.measure(tiny.CONFIG, updates=4)
    assert figures["updates"] == 4 * 4 and figures["env_steps"] == 20 + 2 * 20
    names = ("update_share", "collection_share", "logging_share", "checkpoint_share")
    assert 0.5 < sum(figures[name] for name in names) <= 1.0


@pytest.mark.slow
def test_a_whole_run_is_compared_with_another_setting():
    without = replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, eval_episodes=0))
    figures = whole_run.measure(tiny.CONFIG, without, updates=4, turns=1)
    assert figures["updates"] == 4 * 4 and figures["eval_episodes"] > 0
    ratio = figures["seconds_against"] / figures["seconds"]
    assert figures["against_over_given"] == pytest.approx(ratio)
    # The updates are a part of the given run, and the evaluations another.
    updates_alone = figures["seconds"] / figures["wall_over_updates"]
    assert updates_alone + figures["evaluation_seconds"] < figures["seconds"]


def test_a_comparison_of_runs_asks_for_a_second_setting():
    result = command("run", "--preset=planar")
    assert result.returncode == 1
    assert "give the second one with --against" in result.stderr


def test_one_table_holds_what_a_gpu_must_reach(tmp_path):
    machine = {"device": "a GPU", "versions": {"jax": "0.11"}}
    bounds = {"arithmetic_ms": 1.2, "memory_ms": 0.3, "steps_ms": 2.44, "reached": 0.4}
    rows = [
        {"name": "`released` 50x50, bfloat16", "ms": 9.0, "must_ms": 10.0, "aim_ms": 5.0},
        {"name": "`released` 50x50, bfloat16", "ms": 6.1, "must_ms": 10.0, "aim_ms": 5.0},
        {"name": "`planar` 8x12, bfloat16", "ms": 0.5, "must_ms": None, "aim_ms": None},
        {"name": "`planar` 8x12, bfloat16, 16 seeds", "ms": 4.0, "must_ms": None, "aim_ms": None},
        {"name": "`planar` 8x12, bfloat16, 16 seeds, convolutions in blocks", "ms": 1.0}
        | {"must_ms": None, "aim_ms": None},
    ]
    lines = [json.dumps(row | bounds | machine) for row in rows]
    lines.append(json.dumps({"name": "`paper` 50x50, bfloat16", "error": "too little"} | machine))
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    costs = [{"name": name, "share": 0.25} for name in ("Decoder", "Encoder", "observe", "sample")]
    (tmp_path / "profile.json").write_text(json.dumps({"costs": costs}))
    rates = {"16": 59_000.4, "1024": 1.2e6}
    played = {"task": "planar/reach", "env_steps_per_second": rates}
    (tmp_path / "playing.json").write_text(json.dumps(played))
    (tmp_path / "loop.json").write_text("")  # its time was over
    found = gpu_table.table(tmp_path).splitlines()
    assert found[0] == "a GPU, {'jax': '0.11'}"
    table = {line.split(" | ")[0].removeprefix("| "): line for line in found[4:]}
    assert table["`released` 50x50, bfloat16"].endswith(  # the later of two
        "| 6.10 ms | 10.00 ms | 5.00 ms | 1.20 ms | 0.30 ms | 2.44 ms | 40% |"
    )
    assert "| too little |" in table["`paper` 50x50, bfloat16"]
    assert "| not reached |" in table["`small` 16x16, bfloat16"]
    assert "| 8.0 | 6 |" in table["16 seeds over one, `planar` 8x12, bfloat16"]
    assert "| not reached |" in table["64 seeds over one, `planar` 8x12, bfloat16"]
    assert "| 1,200,000 |  | 1,000,000 |" in table["`planar/reach` env_steps/s, 1024 at once"]
    assert "| not reached | 10 % |" in table["loop over its updates"]
    assert [name for name in table if name.startswith("cost")] == [
        "cost 1: Decoder", "cost 2: Encoder", "cost 3: observe"
    ]  # fmt: skip


FAKE = """#!/usr/bin/env bash
case "$2 $3" in
experiments.benchmarks.gpu_table*) exec {python} "$@" ;;
experiments.benchmarks.gpu*) echo '{row}' >>"$3"; echo -n '{{"name": "cut o' >>"$3"; exit 1 ;;
*playing*) echo a line; echo '{playing}' ;;
*profile) echo a table; echo '{profile}' ;;
*loop) echo a table; [ -z "${{BROKEN:-}}" ] && echo '{loop}' ;;
esac
"""


def test_the_gpu_script_keeps_what_it_has_measured(tmp_path):
    """Its parts fail, are cut off, or print no figures: the table holds all the others."""
    row = {"name": "`small` 16x16, bfloat16", "error": "no memory", "device": "x", "versions": {}}
    costs = {"costs": [{"name": "Decoder", "share": 0.5}]}
    fake = executable(
        tmp_path / "python",
        FAKE.format(
            python=sys.executable,
            row=json.dumps(row),
            profile=json.dumps(costs),
            playing=json.dumps({"task": "planar/reach", "env_steps_per_second": {"16": 7.0}}),
            loop=json.dumps({"wall_over_updates_alone": 1.05}),
        ),
    )
    out = tmp_path / "out"

    def table(**variables):
        result = subprocess.run(
            ["bash", "launch/benchmark_gpu.sh", str(out)], cwd=ROOT, capture_output=True, text=True,
            env=os.environ | {"INTERPRETER": str(fake)} | variables, timeout=120,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    first = table(BROKEN="1")
    assert "loop over its updates | not reached" in first and "cost 1: Decoder | 50%" in first
    assert "`planar/reach` env_steps/s, 16 at once | 7 |" in first
    assert "no memory" in first and "`planar` 8x12, float32 | not reached" in first
    assert "loop over its updates | 5.0%" in table()  # what is missing
    last = table(MINUTES="0")
    assert "loop over its updates | 5.0%" in last and "cost 1: Decoder | 50%" in last


STARTS = """
import jax
from absl import app
from experiments.benchmarks import gpu

def main(arguments):
    gpu.main(arguments)
    print(jax.devices())

app.run(main)
"""


@pytest.mark.parametrize("flags", gpu.FLAGS)
def test_xla_takes_each_set_of_flags_of_the_gpu_table(flags, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    options = [str(tmp_path / "rows.jsonl"), f"--flags={flags}", "--rows=none of them"]
    result = subprocess.run(
        [sys.executable, "-c", STARTS, *options], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0 and "Device" in result.stdout, result.stderr


def test_each_row_of_the_gpu_table_has_a_name_and_a_setting_of_its_own():
    assert len({row.name for row in gpu.ROWS}) == len(gpu.ROWS)
    assert {row.flags for row in gpu.ROWS} == set(gpu.FLAGS)
    for row in gpu.ROWS:
        settings = gpu.config_of(row).settings
        learning, network = settings.learning, settings.network
        assert (learning.batch, learning.length) == (row.batch, row.length)
        assert (network.dtype, network.unroll) == (row.dtype, row.unroll)


@pytest.mark.slow
def test_rows_of_the_gpu_table_are_measured_beside_their_bounds():
    rows = [gpu.Row("planar", 2, 2, "float32", 1, seeds=seeds) for seeds in (1, 2)]
    one, two = gpu.measure([rows[0], rows[1]._replace(convolutions="blocks")])
    assert two["arithmetic_ms"] == pytest.approx(2 * one["arithmetic_ms"])
    assert two["steps_ms"] == one["steps_ms"]
    for row in (one, two):
        bound = max(row["arithmetic_ms"], row["memory_ms"], row["steps_ms"])
        assert row["reached"] == pytest.approx(bound / row["ms"])


def test_env_steps_of_one_program_are_those_of_whole_episodes(monkeypatch):
    monkeypatch.setattr(playing, "seconds", lambda call: float(call().reward.size > 0) / 4.0)
    assert playing.measure("planar/reach", 3) == 3 * 100 * 4.0
    with pytest.raises(ValueError, match="dmc/walker_walk is not jittable: use"):
        playing.measure("dmc/walker_walk", 3)


def test_bounds_by_hand():
    """Two updates of one chunk each: T = 4, B = 2, H = 3, F = 3 + 8."""
    rates = limits.Rates({"float32": 1e9}, 1e6, 0.5)
    found = limits.limits(tiny.CONFIG, "target", update.ACTION_SIZE, 1000, rates, seeds=2)
    sizes = tiny.NETWORK, tiny.LEARNING, update.ACTION_SIZE
    assert found.arithmetic == pytest.approx(2 * update_flops("target", *sizes) / 1e9)
    features = 4 * 2 * 2 * 11 * 4
    moved = 2 * 1000 + 4 * 2 * 64 * 64 * 3 + 5 * features
    assert found.memory == pytest.approx(2 * moved / 1e6)
    assert found.steps == 2 * (4 + 2) * 0.5
    assert found.largest == max(found)
    assert limits.sequential_steps(tiny.CONFIG, "world_model") == 2 * 4
    unrolled = tiny.with_settings(network={"unroll": 3})
    assert limits.sequential_steps(unrolled, "target") == 2 * (2 + 1)

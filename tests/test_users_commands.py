"""What a command says of a wrong file, a wrong flag, or a place where it cannot write."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from coworld_jax.config import closest
from experiments import scoring
from experiments.command import as_path
from experiments.config_flags import normalise

HOME = "/home/somebody"
CONFIG = "--config=experiments/configs/dmc.py:small"


@pytest.mark.parametrize("more", [[], ["--config.seed=1"], ["--config.method=dreamer"]])
@pytest.mark.parametrize("file", ["missing.py:small", "experiments/configs", "", "~/none.py"])
def test_a_missing_configuration_file_gets_one_sentence(file, more):
    with pytest.raises(ValueError, match="--config: there is no file .*experiments/configs/ has"):
        normalise(["train", f"--config={file}", *more])


@pytest.mark.parametrize("path", ["data", "run.cache"])
@pytest.mark.parametrize("apart", [True, False])
def test_the_home_directory_may_be_spelt_with_a_tilde(monkeypatch, path, apart):
    monkeypatch.setenv("HOME", HOME)
    flag = [f"--config.{path}", "~/x y"] if apart else [f"--config.{path}=~/x y"]
    assert normalise(["train", CONFIG, *flag])[2:] == [f"--config.{path}={HOME}/x y"]
    assert as_path("~/x") == Path(HOME, "x") and as_path("x~") == Path("x~")


def test_a_configuration_file_may_lie_in_the_home_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.py").write_text("")
    assert normalise(["train", "--config=~/own.py:a,b"])[1] == f"--config={tmp_path}/own.py:a,b"


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("lr", ["model_lr", "actor_lr", "critic_lr"]),
        ("learning.lr", ["model_lr", "actor_lr", "critic_lr"]),
        ("batch", ["learning.batch"]),
        ("batch_size", ["learning.batch"]),
        ("learning.bach", ["learning.batch"]),
        ("eval_every", ["run.eval_every"]),
        ("run.chunks", ["run.chunk"]),
        ("discount_head", ["network.discount_head"]),
    ],
)
def test_an_unknown_key_gets_those_that_end_like_it(flag, meant):
    with pytest.raises(ValueError, match=f"Unknown flag --config.{flag}: did you mean") as caught:
        normalise(["train", CONFIG, f"--config.{flag}=1"])
    assert any(f"{name}" in str(caught.value) for name in meant), caught.value


def test_several_keys_are_listed_where_all_are_as_near():
    names = ["learning.actor_lr", "learning.clip", "learning.critic_lr", "schedule.updates"]
    assert closest("lr", names, "--") == (
        "did you mean --learning.actor_lr or --learning.critic_lr?"
    )
    assert closest("clp", names) == "did you mean learning.clip?"
    assert closest("x", []) == "there are none."


def test_evaluate_refuses_a_read_only_place_before_it_plays(monkeypatch, tmp_path):
    """As root may write anywhere, a file stands in the place of the folder."""
    run = SimpleNamespace(
        specs={"target": None}, host={"evaluations": {"target": {}}, "position": {}}
    )
    monkeypatch.setattr(scoring, "restore_run", lambda workdir, best: run)
    monkeypatch.setattr(scoring, "EnvironmentPool", None)  # nobody may call it
    (tmp_path / "evaluation").touch()
    with pytest.raises(ValueError, match=r"cannot be written to .*evaluation .*another.*--out"):
        scoring.score(tmp_path, tmp_path / "evaluation", episodes=1, domain="", best=False, seed=0)
    scoring.check_writable(tmp_path / "other" / "place")
    assert list((tmp_path / "other" / "place").iterdir()) == []

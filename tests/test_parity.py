"""Our networks against an independent NumPy reference of the authors', in their file format."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from authors import Arrays, Sizes, fixture, save

from experiments.parity import FixtureError, check_parity

ROOT = Path(__file__).resolve().parent.parent

GAUSSIAN = Sizes()
CATEGORICAL = Sizes(classes=4, layer_norm=True)
COMBINATIONS = {
    "gaussian-plain": GAUSSIAN,
    "gaussian-norm": Sizes(
        groups=2, layer_norm=True, deter=6, hidden=4, action=4, units=9, reward_layers=1,
        value_layers=0, actor_layers=2, batch=1, time=4,
    ),
    # As many classes as groups, as many stochastic values as actions: sizes must not be confused.
    "categorical-plain": Sizes(
        groups=2, classes=2, action=4, deter=4, hidden=4, units=4, reward_layers=3,
        value_layers=1, actor_layers=0, batch=3, time=1,
    ),
    "categorical-norm": CATEGORICAL,
}  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> dict[str, Arrays]:
    """One fixture per kind, made once."""
    return {"gaussian": fixture(GAUSSIAN), "categorical": fixture(CATEGORICAL)}


@pytest.mark.parametrize("sizes", COMBINATIONS.values(), ids=COMBINATIONS)
def test_every_quantity_of_every_combination_agrees(sizes: Sizes, tmp_path: Path) -> None:
    arrays = fixture(sizes)
    differences = check_parity(save(tmp_path / "fixture.npz", arrays))
    named = {f"out/{difference.quantity}" for difference in differences}
    assert named == {name for name in arrays if name.startswith("out/")}
    worst = max(differences, key=lambda difference: np.inf if difference.max_rel is None else
                difference.max_rel)  # fmt: skip
    # Two implementations in two precisions: far below the tolerance of the command.
    assert worst.max_rel is not None and worst.max_rel < 2e-5, worst


def test_depth_and_batch_are_read_off_the_file(tmp_path: Path) -> None:
    arrays = fixture(Sizes(depth=2, batch=1, time=2))
    assert all(d.passed for d in check_parity(save(tmp_path / "deep.npz", arrays)))


@pytest.mark.parametrize(
    ("quantity", "scale"), [("embed", 1.001), ("imagined/deter", 0.999), ("kl_value", 1.0003)]
)
def test_a_small_error_in_one_quantity_fails_that_one_alone(
    golden: dict[str, Arrays], tmp_path: Path, quantity: str, scale: float
) -> None:
    arrays = golden["gaussian"] | {f"out/{quantity}": golden["gaussian"][f"out/{quantity}"] * scale}
    differences = check_parity(save(tmp_path / "wrong.npz", arrays))
    assert [d.quantity for d in differences if not d.passed] == [quantity]
    (wrong,) = (d for d in differences if d.quantity == quantity)
    assert wrong.max_rel == pytest.approx(abs(scale - 1.0) / scale, rel=0.05)


def _rolled(arrays: Arrays, name: str, axis: int, shift: int) -> Arrays:
    return arrays | {name: np.roll(arrays[name], shift, axis)}


@pytest.mark.parametrize(
    ("kind", "name", "axis", "shift", "first"),
    [
        # A gate in another's place: what a wrong order of the GRU's parts would compute.
        ("gaussian", "w/dynamics/_cell._layer.weight", 0, 5, "post/deter"),
        ("categorical", "w/dynamics/_cell._norm.bias", 0, 5, "post/deter"),
        # Columns of the embedding shifted by one pixel: a wrong flattening of the encoder.
        ("gaussian", "w/dynamics/_obs_out_layers.0.weight", 1, 1, "post/mean"),
        ("categorical", "w/dynamics/_inp_layers.0.weight", 1, 2, "post/deter"),
        ("gaussian", "w/decoder/_cnnt_layers.2.weight", 3, 1, "image_mean"),
        ("gaussian", "w/encoder/layers.2.weight", 2, 1, "embed"),
        ("gaussian", "w/actor/_dist_layer.weight", 0, 2, "actor_loc"),
    ],
)
def test_weights_in_another_order_fail(
    golden: dict[str, Arrays],
    tmp_path: Path,
    kind: str,
    name: str,
    axis: int,
    shift: int,
    first: str,
) -> None:
    arrays = _rolled(golden[kind], name, axis, shift)
    differences = check_parity(save(tmp_path / "rolled.npz", arrays))
    assert first in {d.quantity for d in differences if not d.passed}


def test_missing_unknown_and_infinite_quantities_do_not_pass(
    golden: dict[str, Arrays], tmp_path: Path
) -> None:
    arrays = dict(golden["gaussian"])
    del arrays["out/value_mean"]
    arrays["out/post/entropy"] = np.zeros((2, 3), np.float32)
    arrays["out/reward_mean"] = np.full((2, 3), np.nan, np.float32)
    arrays["out/kl_value"] = arrays["out/kl_value"][..., None]
    failed = {
        d.quantity: d.max_rel
        for d in check_parity(save(tmp_path / "odd.npz", arrays))
        if not d.passed
    }
    assert failed == dict.fromkeys(["value_mean", "post/entropy", "reward_mean", "kl_value"])


def test_other_balances_and_free_nats_are_understood(
    golden: dict[str, Arrays], tmp_path: Path
) -> None:
    arrays = dict(golden["gaussian"])
    arrays["out/kl_loss_balance0.5_free0.25"] = np.float32(max(arrays["out/kl_value"].mean(), 0.25))
    assert all(d.passed for d in check_parity(save(tmp_path / "more.npz", arrays)))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("in/action", None, "in/action is missing"),
        ("w/reward/_mean_layers.2.weight", None, "w/reward/_mean_layers.2.weight is missing"),
        ("w/dynamics/_cell._layer.weight", np.zeros((15, 11)), "dynamics|rssm/gates"),
        ("w/dynamics/_cell._layer.bias", np.zeros((15, 1)), "has 2 dimensions, not 1"),
        ("w/dynamics/_inp_layers.2.weight", np.zeros((7, 7)), "belongs to no layer"),
        ("w/dynamics/_ims_stat_layer.weight", np.zeros((7, 7)), "7 statistics for 3"),
        ("w/encoder/layers.0.weight", np.full((1, 3, 4, 4), np.inf), "not finite"),
        ("w/decoder/_linear_layer.weight", np.zeros((33, 8)), "33 rows"),
        ("w/value/_mean_layers.0.bias", np.zeros(0), "is empty"),
        ("w/actor/_dist_layer.bias", np.array(["a"]), "no array of numbers"),
        ("in/image", np.zeros((2, 3, 32, 32, 3), np.uint8), "32, 32, 3"),
        ("in/image", np.zeros((2, 3, 64, 64, 3), np.float32), "float32"),
        ("in/action", np.zeros((3, 2, 2)), r"not \(2, 3, A\)"),
        ("in/reward", np.zeros((2, 3, 1)), r"not \(2, 3\)"),
    ],
)
def test_broken_content_is_named(
    golden: dict[str, Arrays], tmp_path: Path, name: str, array: np.ndarray | None, message: str
) -> None:
    arrays = {key: value for key, value in golden["gaussian"].items() if key != name}
    arrays |= {} if array is None else {name: array}
    with pytest.raises(FixtureError, match=message) as raised:
        check_parity(save(tmp_path / "broken.npz", arrays))
    assert "broken.npz" in str(raised.value) and "\n" not in str(raised.value)


def test_categorical_groups_need_their_logits(golden: dict[str, Arrays], tmp_path: Path) -> None:
    arrays = {k: v for k, v in golden["categorical"].items() if k != "out/post/logit"}
    with pytest.raises(FixtureError, match="out/post/logit is missing"):
        check_parity(save(tmp_path / "no_logit.npz", arrays))


def test_damaged_files_are_named(golden: dict[str, Arrays], tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", golden["gaussian"]).read_bytes()
    cut, text = tmp_path / "cut.npz", tmp_path / "text.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    text.write_text("no archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for path in (cut, text, tmp_path / "single.npy", tmp_path / "absent.npz", tmp_path):
        with pytest.raises(FixtureError, match=path.name):
            check_parity(path)
    rng = np.random.default_rng(0)
    flipped = tmp_path / "flipped.npz"
    damaged = 0
    for _ in range(40):
        content = bytearray(whole)
        # The directory at the end, where every byte matters.
        for place in rng.integers(len(whole) - 4000, len(whole), 3):
            content[place] ^= int(rng.integers(1, 256))
        flipped.write_bytes(content)
        try:
            check_parity(flipped)
        except FixtureError:
            damaged += 1
    assert damaged > 20


def test_the_command_prints_json_lines_and_its_verdict(
    golden: dict[str, Arrays], tmp_path: Path
) -> None:
    good = save(tmp_path / "good.npz", golden["categorical"])
    bad = save(
        tmp_path / "bad.npz", _rolled(golden["categorical"], "w/value/_mean_layers.0.bias", 0, 1)
    )
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"")
    code = (
        "import sys; from pathlib import Path; from experiments.check_parity import check; "
        "print([check(Path(p)) for p in sys.argv[1:]])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(good), str(bad), str(broken)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *lines, verdicts = result.stdout.splitlines()
    records = [json.loads(line) for line in lines]
    ends = [index for index, record in enumerate(records) if "passed" in record]
    assert [records[index] for index in ends] == [
        {"passed": True}, {"passed": False}, {"passed": False}
    ]  # fmt: skip
    assert verdicts == "[True, False, False]"
    assert all(set(r) == {"quantity", "max_abs", "max_rel"} for r in records[: ends[0]])
    assert ends[1] - ends[0] == ends[0] + 1 and ends[2] == ends[1] + 1
    assert f"FixtureError: {broken}" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_command_exits_with_one_when_it_fails(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "experiments.check_parity", f"--fixture={tmp_path}/none.npz"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert json.loads(result.stdout) == {"passed": False}
    assert "none.npz does not exist" in result.stderr

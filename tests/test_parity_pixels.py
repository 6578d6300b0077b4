"""The check of pixel agents' golden values: other sizes pass, and each known mistake is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import official_pixels
import pytest

from coworld_jax.agents.model_free import actor_critic, cql
from experiments.parity import FixtureError, check_parity

pytestmark = pytest.mark.slow  # the official updates in NumPy take long
Arrays = dict[str, Any]


@pytest.fixture(scope="module", params=["drqbc", "cql"])
def golden(request: pytest.FixtureRequest) -> Arrays:
    return official_pixels.fixture(request.param)


def failed(tmp_path: Path, arrays: Arrays) -> set[str]:
    path = tmp_path / "fixture.npz"
    np.savez(path, **arrays)
    return {d.quantity for d in check_parity(path) if not d.passed}


def test_files_of_other_sizes_pass(golden: Arrays, tmp_path: Path) -> None:
    assert failed(tmp_path, golden) == set()


def test_wrong_values_and_missing_ones_fail_alone(golden: Arrays, tmp_path: Path) -> None:
    wrong = dict(golden)
    wrong["out/u0/critic_loss"] = golden["out/u0/critic_loss"] * 1.0002
    wrong["out/u1/actor_loss"] = golden["out/u1/actor_loss"] * 1.0041
    wrong["out/u0/after/critic/Q1.0.bias"] = golden["out/u0/after/critic/Q1.0.bias"] + 4e-6
    wrong["out/u0/unheard_of"] = np.zeros(3)
    del wrong["out/u0/target_action"]
    assert failed(tmp_path, wrong) == {
        "u0/critic_loss", "u1/actor_loss", "u0/after/critic/Q1.0.bias", "u0/unheard_of",
        "u0/target_action",
    }  # fmt: skip


def test_shifts_are_columns_first(golden: Arrays, tmp_path: Path) -> None:
    swapped = golden | {"noise/shift_obs": golden["noise/shift_obs"][..., ::-1]}
    assert {"u0/aug_obs_b0c0", "u0/critic_loss"} <= failed(tmp_path, swapped)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("in/obs", np.zeros((3, 20, 23, 9)), "uint8"),
        ("w/actor/policy.2.bias", None, "w/actor/policy.2.bias is missing"),
        ("w/encoder/convnet.8.bias", np.zeros(2), "belongs to no layer"),
        ("w/critic/trunk.0.weight", np.zeros((5, 41)), "do not divide"),
        ("cfg/lr", None, "cfg/lr is missing"),
        ("in/reward", np.full((3, 1), np.nan), "not finite"),
    ],
)
def test_broken_content_is_named(
    golden: Arrays, tmp_path: Path, name: str, array: np.ndarray | None, message: str
) -> None:
    arrays = {key: value for key, value in golden.items() if key != name}
    arrays |= {} if array is None else {name: array}
    with pytest.raises(FixtureError, match=message) as raised:
        failed(tmp_path, arrays)
    assert "fixture.npz" in str(raised.value)


Step = Callable[..., Any]


def test_an_actor_judged_by_the_critic_before_its_step_is_noticed(
    golden: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = actor_critic.step_critic

    def wrong(agent: Any, state: Any, loss: Step, axis_name: Any) -> Any:
        stepped, seen, grads = real(agent, state, loss, axis_name)
        return stepped._replace(critic=state.critic), seen, grads

    for module in ("drq_bc", "cql"):
        monkeypatch.setattr(f"coworld_jax.agents.model_free.{module}.step_critic", wrong)
    jax.clear_caches()
    assert {"u0/actor_policy_loss", "u0/actor_q1"} <= failed(tmp_path, golden)


def test_a_wrong_candidate_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = cql._values_at_one_state

    def without_last(agent: Any, critic: Any, feat: jax.Array, actions: jax.Array) -> jax.Array:
        return real(agent, critic, feat, actions.at[:, -1].set(0.0))

    monkeypatch.setattr(cql, "_values_at_one_state", without_last)
    jax.clear_caches()
    assert "u0/cql_term1" in failed(tmp_path, official_pixels.fixture("cql"))

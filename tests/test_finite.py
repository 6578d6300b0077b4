"""The first bad quantity of a chunk is the one that is named."""

from __future__ import annotations

import numpy as np
import pytest

from coworld_jax.records.finite import NonFiniteError, check_finite

NAN, INF = float("nan"), float("inf")


def chunk(**bad):
    names = ("actor/loss", "critic/loss", "model/image", "model/kl", "model/loss")
    values = {f"target/{name}": np.ones(4, np.float32) for name in names}
    for name, (index, value) in bad.items():
        values["target/" + name.replace("_", "/", 1)][index:] = value
    return values


def test_finite_chunks_pass():
    check_finite(chunk(), 10)


def test_the_earliest_update_counts_first():
    with pytest.raises(NonFiniteError, match="target/critic/loss is not finite at update 12"):
        check_finite(chunk(model_image=(2, NAN), critic_loss=(1, INF)), 10)


def test_causes_come_before_effects():
    values = chunk(model_loss=(3, NAN), model_kl=(3, -INF), actor_loss=(3, NAN))
    with pytest.raises(NonFiniteError, match="target/model/kl is not finite at update 14"):
        check_finite(values, 10)


def test_a_part_that_is_not_known_comes_after_those_that_are():
    """Methods name parts of their own; an unknown one hides no cause and raises no other error."""
    values = chunk(actor_loss=(3, NAN)) | {"target/twins/bad": np.full(4, NAN, np.float32)}
    values["target/twins/bad"][:3] = 1.0
    with pytest.raises(NonFiniteError, match="target/actor/loss is not finite at update 14"):
        check_finite(values, 10)
    del values["target/actor/loss"]
    with pytest.raises(NonFiniteError, match="target/twins/bad is not finite at update 14"):
        check_finite(values, 10)
    with pytest.raises(NonFiniteError, match="^speed is not finite at update 11"):
        check_finite({"speed": np.full(2, INF)}, 10)

"""Counted arithmetic against counts by hand, and against the reference's published totals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coworld_jax.agents.dreamer.settings import LEARNING, NETWORKS, LearningConfig, NetworkConfig
from experiments.benchmarks import flops

TINY = NetworkConfig(
    groups=3,
    deter=5,
    hidden=7,
    depth=1,
    units=11,
    reward_layers=2,
    critic_layers=1,
    actor_layers=1,
)


def test_parts_by_hand():
    # 31²·4²·3·1 + 14²·4²·1·2 + 6²·4²·2·4 + 2²·4²·4·8 = 46128 + 6272 + 4608 + 2048
    assert flops.encoder(TINY) == 59056
    # 8·32 + 1²·5²·32·4 + 5²·5²·4·2 + 13²·6²·2·1 + 30²·6²·1·3 = 256 + 3200 + 5000 + 12168 + 97200
    assert flops.decoder(TINY) == 117824
    # (3 + 2)·7 + (7 + 5)·15 + 5·7 + 7·6 = 35 + 180 + 35 + 42
    assert flops.prior(TINY, action_size=2) == 292
    # (5 + 32)·7 + 7·6
    assert flops.posterior(TINY) == 301
    # 8·11 + 11·11 + 11
    assert flops.head(TINY, 2) == 220
    # 8·11 + 11·4
    assert flops.head(TINY, 1, outputs=4) == 132


def test_parts_add_up_and_name_each_coupling():
    learning = LearningConfig(batch=2, length=3, horizon=4)
    parts = {kind: flops.update_parts(kind, TINY, learning, 2) for kind in ("source", "pretrain")}
    # The source's update is that of pretraining and, three times, the target batch through
    # encoder, RSSM (292 + 301) and two reward heads: 2·3·6·(59056 + 593 + 2·220).
    assert sum(parts["source"].values()) - sum(parts["pretrain"].values()) == 36 * 60089
    assert parts["pretrain"].items() < parts["source"].items()


def test_a_discount_head_is_counted_where_it_is_trained_and_where_it_is_imagined():
    learning = LearningConfig(batch=2, length=3, horizon=4)
    network = replace(TINY, discount_head=True, continue_layers=1)
    # One layer, 8·11 + 11; 6 observed states in the world model, 6·4 imagined in behaviour.
    more = flops.update_flops("target", network, learning, 2)
    assert more - flops.update_flops("target", TINY, learning, 2) == 2 * 3 * (6 + 24) * 99


def test_a_source_that_reads_states_by_hand():
    learning, network = LearningConfig(batch=2, length=3, horizon=4), replace(TINY, state_layers=1)
    # 4·11 + 11·32 and 8·11 + 11·4
    assert flops.state_encoder(network, 4) == 396 and flops.state_decoder(network, 4) == 132
    seen = flops.update_flops("source", network, learning, 2)
    read = flops.update_flops("source", network, learning, 2, state_size=4)
    # On its own batch a bridge as large as the encoder joins, and the image decoder goes.
    assert read - seen == 2 * 3 * 6 * (396 + 132 - 117824)
    for kind in ("target", "world_model"):
        assert flops.update_parts(kind, network, learning, 2, 4) == flops.update_parts(
            kind, network, learning, 2
        )


def test_published_total_of_the_paper_sizes():
    # 3.41 and 3.77 TFLOP were counted with the head depths of released and no continue head.
    network = NETWORKS["paper"]
    counted = replace(network, discount_head=False, reward_layers=2, critic_layers=3)
    learning = LEARNING["paper"]
    for kind, tera in (("target", 3.41), ("source", 3.77)):
        assert flops.update_flops(kind, counted, learning, 6) / 1e12 == pytest.approx(
            tera, abs=0.006
        )


def test_a_target_update_by_hand():
    learning = LearningConfig(batch=2, length=3, horizon=4)
    # N = 6, I = 24; reward 220, critic 8·11 + 11 = 99, actor 132, RSSM 292 + 301 = 593.
    world_model = 3 * 6 * (59056 + 117824 + 593 + 220) + 6 * 59056
    behaviour = 3 * 24 * (292 + 132 + 220 + 99) + 3 * 24 * 99 + 24 * 99 + 24 * 99
    assert flops.update_flops("world_model", TINY, learning, 2) == 2 * world_model
    assert flops.update_flops("target", TINY, learning, 2) == 2 * (world_model + behaviour)


@pytest.mark.parametrize(
    ("kind", "tera"), [("target", 1.18), ("source", 1.31), ("world_model", 0.67)]
)
def test_totals_of_the_released_preset(kind, tera):
    learning = replace(LEARNING["released"], batch=50)
    counted = flops.update_flops(kind, NETWORKS["released"], learning, action_size=6)
    assert counted / 1e12 == pytest.approx(tera, abs=0.006)

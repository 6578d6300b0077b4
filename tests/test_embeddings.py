"""Embedding the dataset once per phase: equal to doing so in each update, and never out of date."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from record_digests import save_data

from coworld_jax.method import TARGET, Domain, Phase
from coworld_jax.methods.coworld import make_coworld
from coworld_jax.training import embeddings
from coworld_jax.training.loop import train
from coworld_jax.training.plan import Learn
from coworld_jax.workdir import restore_run

COUNT = jnp.int32(0)


def test_images_are_embedded_block_by_block(monkeypatch):
    """Seven images in blocks of three: the last block overlaps the one before."""
    monkeypatch.setattr(embeddings, "BLOCK", 3)
    monkeypatch.setattr(embeddings, "_SAY_EVERY", -1.0)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8))
    sizes, said = [], []

    @jax.jit
    def embed(scale, image):
        sizes.append(len(image))  # once for each shape
        return scale * jnp.sum(image.astype(jnp.float32), axis=(1, 2))

    found = embeddings.embed_images(embed, jnp.float32(2.0), image, said.append)
    assert set(sizes) == {3}
    np.testing.assert_array_equal(found, embed(jnp.float32(2.0), image))
    assert said[0] == "Embedded 3 of 7 images." and said[-1] == "Embedded 7 of 7 images."


def test_a_phase_is_embedded_as_it_begins_and_as_a_run_goes_on():
    said, store = [], tiny.store(0)
    learn = Phase("target", "target", 4, reads=(TARGET,), embeds="means")
    plain = learn._replace(embeds="")
    method = tiny.start()[0]._replace(
        embeddings={"means": lambda learnt, image: learnt + jnp.mean(image, axis=(1, 2, 3))}
    )
    ours = embeddings.PhaseEmbeddings(method, None, said.append)

    def offset(learnt, phase, done):
        joined = ours.joined(store, jnp.float32(learnt), Learn(phase, done, 2))
        if joined.embed is None:
            return None
        return float(joined.embed[0] - jnp.mean(store.image[0].astype(jnp.float32)))

    assert offset(1.0, learn, 2) == pytest.approx(1.0, abs=1e-4)  # resumed within a phase
    assert offset(9.0, learn, 4) == pytest.approx(1.0, abs=1e-4) and len(said) == 1
    assert offset(2.0, learn, 0) == pytest.approx(2.0, abs=1e-4)  # the next of the same phase
    assert offset(9.0, plain, 0) is None
    assert offset(3.0, learn, 2) == pytest.approx(3.0, abs=1e-4) and len(said) == 3
    assert said[0] == "Embedding 18 images of the data for target: 72 bytes."


SELECTIONS = {"one source": ("update", 1), "each batch": ("update", 3), "each phase": ("phase", 3)}


@pytest.mark.slow  # test_contract.py has the first
@pytest.mark.parametrize("case", SELECTIONS)
def test_coworld_reads_embeddings_that_it_would_compute(case):
    selection, sources = SELECTIONS[case]
    settings = tiny.with_settings(coupling={"selection": selection}).settings
    names = ["source"] if sources == 1 else [f"source{index}" for index in range(sources)]
    method = make_coworld(settings, {name: Domain(3, 0, 10) for name in (*names, TARGET)})
    state, batch = jax.jit(method.init)(jax.random.key(1)), tiny.batch(2)
    if selection == "phase":
        state = replace(state, distances=jnp.asarray([2.0, 1.0, 3.0]))
    phase = next(phase for phase in method.plan if phase.update == "target model")
    embed = method.embeddings[phase.embeds](state, batch.image.reshape(-1, 64, 64, 3))
    assert embed.shape[1] == (3 if case == "each batch" else 1)
    given = batch._replace(embed=embed.reshape(*batch.reward.shape, *embed.shape[1:]))
    results = [
        jax.jit(method.updates["target model"])(state, {TARGET: b}, jax.random.key(2), COUNT)
        for b in (batch, given)
    ]
    (after, metrics), (other, others) = results
    tiny.close(metrics, others)
    tiny.close(after.target, other.target)
    # They are read at all.
    wrong = {TARGET: given._replace(embed=jnp.flip(given.embed, -1))}
    _, others = jax.jit(method.updates["target model"])(state, wrong, jax.random.key(2), COUNT)
    assert others["target/model/alignment"] != metrics["target/model/alignment"]


@pytest.mark.parametrize("aligned", [True, False])  # it is measured in both
@pytest.mark.parametrize(("selection", "sources"), [("update", 1), ("update", 2), ("phase", 2)])
def test_a_plan_asks_for_the_embeddings_that_its_target_compares(aligned, selection, sources):
    coupling = {"state_alignment": aligned, "selection": selection}
    names = ["source"] if sources == 1 else ["source0", "source1"]
    plan = make_coworld(
        tiny.with_settings(coupling=coupling).settings,
        {name: Domain(3, 0, 10) for name in (*names, TARGET)},
    ).plan
    assert {phase.name for phase in plan if phase.embeds} == {"warm-up", "target"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("embedded") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests", prepend=":")
        save_data(directory)
        yield directory


def config_of(data, method, **run):
    config = replace(tiny.of_method(method), target="toy_tasks:windy", data=str(data))
    source = ("toy_tasks:calm",) if method == "coworld" else ()
    return replace(config, source=source, run=replace(config.run, devices=1, **run))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["r3m_bc", "coworld"])
def test_a_run_that_embeds_once_learns_the_same_and_resumes(method, data, tmp_path):
    """Up to rounding; and it ends bit-exactly where the uninterrupted one ends."""
    config, asked = config_of(data, method, embeddings="phase"), []

    def later(returns):
        asked.append(returns)
        return len(asked) > 3

    assert train(config_of(data, method), tmp_path / "update") is not None
    whole = train(config, tmp_path / "whole")
    assert whole is not None and whole["seconds"]["embedding"] > 0.0
    tiny.close(restore_run(tmp_path / "whole").state, restore_run(tmp_path / "update").state, 1e-3)
    assert train(config, tmp_path / "parts", later) is None
    parts = train(config, tmp_path / "parts")
    assert parts is not None and parts["state_digest"] == whole["state_digest"]


@pytest.mark.slow
@pytest.mark.parametrize("mapping", ["jit", "pmap"])
def test_two_devices_embed_what_one_does(mapping, data, tmp_path):
    one = config_of(data, "r3m_bc", embeddings="phase")
    two = replace(one, run=replace(one.run, devices=2, mapping=mapping))
    assert train(one, tmp_path / "one") is not None
    assert train(two, tmp_path / "two") is not None
    tiny.close(restore_run(tmp_path / "two").state, restore_run(tmp_path / "one").state, 1e-3)


def test_a_dataset_that_is_streamed_cannot_be_embedded_once(data, tmp_path):
    config = config_of(data, "r3m_bc", embeddings="phase", resident_share=0.0)
    with pytest.raises(ValueError, match=r"^run\.embeddings is phase, but .* is streamed: use"):
        train(config, tmp_path / "x")

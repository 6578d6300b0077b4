"""One contract for all methods: what `coworld_jax.method` promises, for every phase of every plan.

A new method needs one line in `CASES`. What is special about a method is tested elsewhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import fields
from coworld_jax.method import TARGET, Domain, Method, Phase, sources_of
from coworld_jax.methods import METHODS
from coworld_jax.policy import AgentPolicy
from coworld_jax.records.leaves import state_digest
from coworld_jax.training.plan import check_plan
from coworld_jax.types import Batch

STATE_SIZE = 5
# No two domains have one action size; the target's is the largest, as batches have it.
SIZES = {"source": 2, "source0": 1, "source1": 2, TARGET: tiny.ACTION}


def nothing(state: Any) -> dict[str, Any]:
    """Of a method whose domains share everything."""
    return {}


class Case(NamedTuple):
    """A method at a tiny size."""

    method: str
    settings: Any
    # State -> what belongs to one domain alone, by domain. It stays as it is, bit by bit, in
    # phases that do not read the domain.
    own: Callable[[Any], dict[str, Any]] = nothing
    sources: int = 1


def coupled(state: Any) -> dict[str, Any]:
    return {"source": state.sources, TARGET: state.target}


def coupled_apart(state: Any) -> dict[str, Any]:
    return {"source0": state.sources[0], "source1": state.sources[1], TARGET: state.target}


def with_settings(**sections: Any) -> Any:
    return tiny.with_settings(**sections).settings


CASES = {
    "coworld": Case("coworld", tiny.SETTINGS, coupled),
    "coworld, state source": Case("coworld", with_settings(source_observation="state"), coupled),
    "coworld, two sources": Case(
        "coworld", with_settings(coupling={"selection": "phase"}), coupled_apart, sources=2
    ),
    "bc": Case("bc", tiny.OTHERS["bc"]),
    "cql": Case("cql", tiny.OTHERS["cql"]),
    "curl": Case("curl", tiny.OTHERS["curl"]),
    "dreamer": Case("dreamer", tiny.OTHERS["dreamer"]),
    "drq_bc": Case("drq_bc", tiny.OTHERS["drq_bc"]),
    "finetune": Case("finetune", tiny.OTHERS["finetune"]),
    "lompo": Case("lompo", tiny.OTHERS["lompo"]),
    "lompo_finetune": Case("lompo_finetune", tiny.OTHERS["lompo_finetune"]),
    "multitask": Case("multitask", tiny.OTHERS["multitask"]),
    "offline_dv2": Case("offline_dv2", tiny.OTHERS["offline_dv2"]),
    "r3m_bc": Case("r3m_bc", tiny.OTHERS["r3m_bc"]),
}
# By default, each other case applies only its plan's last update, which has every part. These have
# the updates of another case for several sources or with other inputs, or take longest.
SLOW = ("coworld, state source", "coworld, two sources", "curl", "lompo_finetune", "r3m_bc")


class Made(NamedTuple):
    """A method of a case, and two states of it."""

    method: Method
    domains: dict[str, Domain]
    states: tuple[Any, Any]


def domains_of(case: Case) -> dict[str, Domain]:
    """The domains that the method asks for, of different action sizes."""
    names = METHODS[case.method].domains(case.settings)
    wanted = [*tiny.domains(case.sources)]
    kept = [name for name in wanted if (TARGET if name == TARGET else "source") in names]
    return {name: Domain(SIZES[name], STATE_SIZE, 10) for name in kept}


@functools.cache
def build(name: str) -> tuple[Method, dict[str, Domain]]:
    case = CASES[name]
    domains = domains_of(case)
    return METHODS[case.method].make(case.settings, domains), domains


@functools.cache
def made(name: str) -> Made:
    method, domains = build(name)
    init = jax.jit(method.init)
    return Made(method, domains, (init(jax.random.key(7)), init(jax.random.key(8))))


def phases(name: str) -> list[Phase]:
    """One phase for each update and what it reads."""
    method, _ = build(name)
    return [*{(p.update, p.reads): p for p in method.plan if p.update}.values()]


def applications(quick: tuple[str, ...] = ()) -> list[Any]:
    """Case and phase of every update, as parameters of a test.

    Args:
        quick: updates that are not slow; the last of each case but those of `SLOW` if empty.
    """
    found = []
    for name in CASES:
        last = phases(name)[-1]
        for phase in phases(name):
            update = f"{name}: {phase.update}"
            slow = update not in quick if quick else name in SLOW or phase != last
            marks = [pytest.mark.slow] if slow else []
            found.append(pytest.param(name, phase, id=update, marks=marks))
    return found


class Applied(NamedTuple):
    """An update, compiled once, with its input and its output."""

    run: Callable[..., Any]
    traces: list[int]
    state: Any
    before: Any  # the state, copied before the update saw it
    batches: dict[str, Batch]
    after: Any
    metrics: dict[str, jax.Array]


def batches_of(name: str, phase: Phase) -> dict[str, Batch]:
    """As training hands them out: all have the largest action size, surplus ones are zero."""
    method, domains = build(name)
    widest = max(one.action_size for one in domains.values())
    batches = {}
    for index, domain in enumerate(phase.reads):
        chunk = jax.tree.map(lambda rows: rows[: method.length], tiny.batch(index, STATE_SIZE))
        size = domains[domain].action_size
        batches[domain] = chunk._replace(action=chunk.action[..., :widest].at[..., size:].set(0.0))
    return batches


@functools.cache
def applied(name: str, phase: Phase) -> Applied:
    method, _, (state, _) = made(name)
    batches = batches_of(name, phase)
    run, traces = tiny.counted(method.updates[phase.update])
    before = tiny.copied(state)
    after, metrics = run(state, batches, jax.random.key(3), jnp.int32(0))
    return Applied(run, traces, state, before, batches, after, metrics)


def test_every_method_has_a_case() -> None:
    missing = sorted(set(METHODS) - {case.method for case in CASES.values()})
    assert not missing, f"give {', '.join(missing)} tiny settings, a line of tests/test_contract.py"
    assert set(CASES) >= set(METHODS), "the first case of a method has its name"


@pytest.mark.parametrize(("name", "phase"), applications())
def test_an_update_is_a_pure_function_that_is_traced_once(name: str, phase: Phase) -> None:
    run, traces, state, before, batches, after, _ = applied(name, phase)
    chunks = jax.tree.map(np.array, batches)
    again, _ = run(state, batches, jax.random.key(3), jnp.int32(0))
    assert state_digest(again) == state_digest(after)
    # The count is a traced value: another one compiles nothing.
    run(state, batches, jax.random.key(4), jnp.int32(3))
    assert len(traces) == 1
    # The input is left as it was.
    assert state_digest(state) == state_digest(before)
    jax.tree.map(np.testing.assert_array_equal, batches, chunks)


@pytest.mark.parametrize(
    ("name", "phase"), [case for case in applications() if case.values[1].embeds]
)
def test_what_a_phase_embeds_stays_and_may_be_given(name: str, phase: Phase) -> None:
    """The update leaves it as it is, and learns the same from a batch that brings it along."""
    method, (_, _, state, _, batches, after, metrics) = made(name).method, applied(name, phase)
    batch = batches[TARGET]
    embed = jax.jit(method.embeddings[phase.embeds])
    before, later = (embed(s, batch.image.reshape(-1, 64, 64, 3)) for s in (state, after))
    np.testing.assert_array_equal(before, later)
    given = batch._replace(embed=before.reshape(*batch.reward.shape, *before.shape[1:]))
    update = jax.jit(method.updates[phase.update])
    _, found = update(state, batches | {TARGET: given}, jax.random.key(3), jnp.int32(0))
    tiny.close(found, metrics, 1e-4)
    wrong = given._replace(embed=np.flip(given.embed, -1))
    _, others = update(state, batches | {TARGET: wrong}, jax.random.key(3), jnp.int32(0))
    assert any(others[name] != value for name, value in found.items()), "it is not read"


@pytest.mark.parametrize(("name", "phase"), applications())
def test_an_update_keeps_the_form_of_its_state(name: str, phase: Phase) -> None:
    _, _, state, before, _, after, metrics = applied(name, phase)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (new.shape, new.dtype, new.weak_type) == (old.shape, old.dtype, old.weak_type)
        assert tiny.is_key(new) or np.isfinite(new).all()
    assert phase.updates == 1 or state_digest(after) != state_digest(before)
    for metric, value in metrics.items():
        assert value.shape == () and value.dtype == jnp.float32 and np.isfinite(value), metric
        assert metric.count("/") == 2, f"{metric} is no domain/part/quantity"


@pytest.mark.parametrize(("name", "phase"), applications())
def test_an_update_leaves_domains_alone_that_it_does_not_read(name: str, phase: Phase) -> None:
    _, _, _, before, _, after, metrics = applied(name, phase)
    old, new = CASES[name].own(before), CASES[name].own(after)
    for domain in set(old) - set(phase.reads):
        assert state_digest(new[domain]) == state_digest(old[domain]), domain
    assert {metric.partition("/")[0] for metric in metrics} <= set(phase.reads)


@pytest.mark.parametrize(("name", "phase"), applications())
def test_numbers_among_the_settings_may_be_arguments_of_an_update(name: str, phase: Phase) -> None:
    """So that a sweep over them compiles once. The update is traced here, but not compiled."""
    case, domains, known = CASES[name], made(name).domains, applied(name, phase)
    numbers = fields.numbers(case.settings)
    assert numbers and not {"ewc_scale", "learning.dynamics_share"} & set(numbers)

    def update(numbers: dict[str, jax.Array], state: Any) -> Any:
        settings = fields.with_values(case.settings, numbers)
        update = METHODS[case.method].make(settings, domains).updates[phase.update]
        return update(state, batches_of(name, phase), jax.random.key(3), jnp.int32(0))

    traced = jax.tree.map(jnp.asarray, numbers)
    found = jax.eval_shape(update, traced, known.state)
    assert found == jax.eval_shape(lambda given: given, (known.after, known.metrics))
    assert fields.with_values(case.settings, numbers) == case.settings


# Each compiles the update once more.
@pytest.mark.parametrize(("name", "phase"), applications(("coworld: target", "bc: agent")))
def test_one_of_several_seeds_learns_as_it_does_alone(name: str, phase: Phase) -> None:
    """Seeds are stacked; they share the batches and the count."""
    method, _, states = made(name)
    alone = applied(name, phase)
    keys = jax.random.split(jax.random.key(3), 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.jit(jax.vmap(method.updates[phase.update], in_axes=(0, None, 0, None)))
    found, found_metrics = together(stacked, alone.batches, keys, jnp.int32(0))
    for seed, (state, key) in enumerate(zip(states, keys, strict=True)):
        wanted, metrics = alone.run(state, alone.batches, key, jnp.int32(0))
        for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(got[seed], want, rtol=1e-3, atol=1e-5)
        for metric, value in metrics.items():
            np.testing.assert_allclose(
                found_metrics[metric][seed], value, rtol=1e-3, atol=1e-4, err_msg=metric
            )
    assert len(alone.traces) == 1


@pytest.mark.parametrize("name", CASES)
def test_plan_players_and_domains_agree(name: str) -> None:
    method, domains = build(name)
    entry, case = METHODS[CASES[name].method], CASES[name]
    assert isinstance(case.settings, entry.settings)
    check_plan(method.plan, dict.fromkeys(domains, 10))
    assert any(phase.scores for phase in method.plan)
    for phase in method.plan:
        assert bool(phase.update) == bool(phase.updates), phase
        assert not phase.update or phase.update in method.updates, phase
        assert {*phase.reads, *phase.scores} <= set(domains), phase
        assert {*phase.scores, *filter(None, [phase.plays])} <= set(method.players), phase
        assert phase.plays != TARGET, "the target is a fixed dataset"
        assert 0 <= phase.first_updates <= phase.updates and bool(phase.plays) >= bool(
            phase.env_steps
        )
    # What is read has been filled before: the target is a dataset, the others are played first.
    filled = {TARGET}
    for phase in method.plan:
        assert set(phase.reads) <= filled, f"{phase} reads an empty replay"
        filled |= {phase.plays}
    assert set(method.players) <= set(domains)
    assert 1 < method.length <= tiny.TIME and method.batch == tiny.BATCH
    assert sources_of(domains) == tuple(name for name in domains if name != TARGET)
    unknown = set(entry.may_grow) - set(vars(case.settings))
    assert not unknown, f"may_grow names no setting: {unknown}"


def players() -> list[Any]:
    """Case and domain of every player."""
    return [
        pytest.param(name, domain, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in CASES
        for domain in build(name)[0].players
    ]


@pytest.mark.parametrize(("name", "domain"), players())
def test_a_player_takes_the_actions_of_its_domain(name: str, domain: str) -> None:
    method, domains, (state, _) = made(name)
    player, size = method.players[domain], domains[domain].action_size
    seen = np.zeros((64, 64, 3), np.uint8)
    if player.reads == "state":
        seen = np.linspace(-1.0, 1.0, STATE_SIZE, dtype=np.float32)
    before = state_digest(state)
    for explore in (False, True):
        policy = AgentPolicy(player, state, 64, STATE_SIZE, explore=explore)
        act, again = policy.episode(seed=1), policy.episode(seed=1)
        first, second = act(seen), act(seen)
        for action in (first, second):
            assert action.shape == (size,) and action.dtype == np.float32
            assert np.isfinite(action).all() and (np.abs(action) <= 1.0).all()
        np.testing.assert_array_equal(again(seen), first)
    assert state_digest(state) == before
    assert 0.0 <= player.discount <= 1.0


@pytest.mark.parametrize(("name", "domain"), players())
def test_a_player_judges_and_foresees_in_the_form_of_its_episodes(name: str, domain: str) -> None:
    """Shapes alone: nothing is compiled."""
    method, domains, (state, _) = made(name)
    player, size = method.players[domain], domains[domain].action_size
    time, episodes, context = 6, 3, 2
    shape, dtype = ((64, 64, 3), jnp.uint8)
    if player.reads == "state":
        shape, dtype = (STATE_SIZE,), jnp.float32
    observation = jax.ShapeDtypeStruct((time, episodes, *shape), dtype)
    action = jax.ShapeDtypeStruct((time, episodes, size), jnp.float32)
    key = jax.random.key(0)
    # A step can be the body of a scan: the memory keeps its form.
    memory = player.start(episodes)
    after, chosen = jax.eval_shape(
        functools.partial(player.act, explore=True),
        player.params(state),
        memory,
        jax.ShapeDtypeStruct((episodes, *shape), dtype),
        key,
    )
    assert jax.tree.structure(after) == jax.tree.structure(memory)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(memory), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
    assert chosen.shape[0] == episodes and chosen.shape[1] >= size
    assert player.action_size in (None, size)
    if player.values is not None:
        values = jax.eval_shape(player.values, state, observation, action, key)
        assert {value.shape for value in values.values()} == {(time, episodes)}
    if player.predict is not None:
        expected = jax.eval_shape(
            lambda *arrays: player.predict(*arrays, context), state, observation, action
        )
        assert expected.shape == observation.shape

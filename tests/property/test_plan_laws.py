"""What holds for every pair of a topology and a live state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leanmq_topology.plan.changes import Orphan, Pruning, gather_backlog
from leanmq_topology.plan.diff import diff
from leanmq_topology.plan.hazards import Surroundings, find_hazards
from leanmq_topology.plan.live_state import Damage, LiveState, QueueState
from leanmq_topology.plan.simulate import simulate
from leanmq_topology.topology.model import (
    FanoutRoute,
    Lifecycle,
    MessageType,
    OnRemove,
    Queue,
    Retry,
    Target,
    Topology,
)
from leanmq_topology.topology.specs import fingerprint, resource_specs
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state, make_plan

NAMES = ("a", "b", "c", "d")
limits = st.none() | st.integers(1, 5)

messages = st.builds(
    MessageType,
    name=st.sampled_from(NAMES),
    version=st.integers(1, 2),
    schema=st.sampled_from([{"type": "object"}, {"type": "object", "required": ["id"]}]),
)
queues = st.builds(
    Queue,
    name=st.sampled_from(NAMES),
    accepts=st.lists(st.sampled_from(NAMES), unique=True, max_size=2).map(tuple),
    ttl_ms=limits,
    max_length=limits,
    visibility_timeout_ms=st.sampled_from([1000, 30_000]),
    lifecycle=st.builds(Lifecycle, prevent_delete=st.booleans(), on_remove=st.sampled_from(OnRemove)),
    retry=st.builds(Retry, steps_ms=st.lists(st.integers(1, 3), max_size=2).map(tuple)),
)
routes = st.builds(
    FanoutRoute,
    name=st.sampled_from(["r", "s"]),
    accepts=st.lists(st.sampled_from(NAMES), unique=True, max_size=2).map(tuple),
    to=st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(
        lambda names: tuple(Target(queue=name) for name in names)
    ),
)


def by_name(resources: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(resources, max_size=4, unique_by=lambda resource: resource.name)


topologies = st.builds(
    lambda queues, routes, messages: make_topology(
        "t", *queues, routes=tuple(routes), messages=tuple(messages)
    ),
    by_name(queues),
    by_name(routes),
    by_name(messages),
)
states = st.builds(
    QueueState,
    name=st.sampled_from(NAMES),
    ready=st.integers(0, 9),
    in_flight=st.integers(0, 3),
    delayed=st.integers(0, 3),
    dead=st.integers(0, 3),
    state=st.sampled_from(["active", "active", "paused", "draining"]),
    damage=st.sampled_from([None, None, Damage.MISSING, Damage.GROUP_GONE, Damage.RECORD_GONE]),
)


@st.composite
def live_states(draw: st.DrawFn) -> LiveState:
    """Never applied to, applied to, damaged by hand, or left by an apply that never ended."""
    found = draw(st.lists(states, max_size=4, unique_by=lambda state: state.name))
    if draw(st.booleans()):
        return LiveState(queues={state.name: state for state in found})
    live = make_live_state(draw(topologies), *found)
    lost = draw(st.sets(st.sampled_from([*live.resources, "-"])))
    resources = {address: known for address, known in live.resources.items() if address not in lost}
    unfinished = draw(st.none() | st.just("generation 2 by somebody"))
    return replace(live, resources=resources, unfinished=unfinished)


@given(topologies)
def test_what_was_applied_needs_nothing(topology: Topology):
    assert not diff(resource_specs(topology), make_live_state(topology)).differs


@given(topologies, live_states())
def test_a_plan_reaches_its_goal(topology: Topology, live: LiveState):
    desired = resource_specs(topology)

    after = simulate(diff(desired, live), live)
    again = diff(desired, after)

    assert not again.has_work
    assert all(isinstance(change, Orphan) for change in again.changes)
    assert after.applied_fingerprint == fingerprint(desired)
    assert {address: after.resources[address].spec for address in desired} == desired


@given(topologies, live_states(), st.sets(st.sampled_from([f"queues.{name}" for name in NAMES])))
def test_a_plan_that_prunes_leaves_nothing_undeclared_but_what_still_drains(
    topology: Topology, live: LiveState, allowed: set[str]
):
    desired, pruning = resource_specs(topology), Pruning(frozenset(allowed))
    plan = find_hazards(diff(desired, live, pruning), Surroundings(desired, live))

    after = simulate(plan, live)

    if plan.blocked:
        assert after == live
        return
    assert not diff(desired, after, pruning).has_work
    left = after.resources.keys() - desired.keys()
    for address in left:
        if address.startswith("messages."):
            assert any(
                address.removeprefix("messages.") in after.resources[queue].spec["accepts"]
                for queue in left
                if queue.startswith("queues.")
            )
            continue
        state = after.queue(address.removeprefix("queues."))
        assert state.is_leaving
        assert gather_backlog([state]).total
    for name, state in live.queues.items():
        if gather_backlog([state]).total and state.damage is not Damage.MISSING:
            assert name in after.queues or f"queues.{name}" in allowed, "messages went that nobody gave up"


@given(topologies, live_states())
def test_a_plan_takes_nothing_away(topology: Topology, live: LiveState):
    after = simulate(diff(resource_specs(topology), live), live)

    assert live.resources.keys() <= after.resources.keys()
    assert live.addresses.keys() <= after.addresses.keys()
    for name, state in live.queues.items():
        kept = after.queues[name]
        assert (kept.waiting, kept.dead) == (state.waiting, state.dead)


@given(topologies, live_states())
def test_what_is_on_the_server_but_not_in_the_file_is_an_orphan_and_is_never_written(
    topology: Topology, live: LiveState
):
    desired = resource_specs(topology)
    plan = diff(desired, live)

    orphans = {change.address for change in plan.changes if isinstance(change, Orphan)}
    assert orphans == live.resources.keys() - desired.keys()
    assert {change.address for change in plan.writes} <= desired.keys()


@given(topologies, live_states())
def test_the_same_two_states_give_the_same_plan(topology: Topology, live: LiveState):
    shuffled = replace(
        live,
        resources=dict(reversed(live.resources.items())),
        addresses=dict(reversed(live.addresses.items())),
        queues=dict(reversed(live.queues.items())),
    )

    assert make_plan(topology, live) == make_plan(topology, shuffled)


@given(topologies, live_states())
def test_every_declared_resource_is_counted_once(topology: Topology, live: LiveState):
    summary = make_plan(topology, live).summary()

    assert sum(summary.values()) - summary["orphan"] == len(resource_specs(topology))

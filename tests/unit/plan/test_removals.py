"""What a plan says of what is no longer declared, once it shall go."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leanmq_topology.plan.changes import Blocked, Orphan, Plan, Pruning, Removal, Remove, Risk
from leanmq_topology.plan.diff import diff
from leanmq_topology.plan.hazards import Surroundings, find_hazards
from leanmq_topology.plan.live_state import Damage, LiveState, QueueState
from leanmq_topology.plan.render import render_text
from leanmq_topology.plan.revision import build_revision
from leanmq_topology.plan.simulate import simulate
from leanmq_topology.topology.model import (
    FanoutRoute,
    Lifecycle,
    MessageType,
    OnRemove,
    Queue,
    Target,
    Topology,
)
from leanmq_topology.topology.specs import address_digests, resource_specs
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state

KEPT = Queue(name="kept")
SMALL = make_topology("shop", KEPT)


def with_old(**lifecycle: object) -> Topology:
    """The file as it was, with a queue `old` that is gone from it now."""
    old = Queue(name="old", lifecycle=Lifecycle(**lifecycle))  # type: ignore[arg-type]
    route = FanoutRoute(name="events", to=(Target(queue="old"),))
    return make_topology("shop", KEPT, old, routes=(route,), messages=(MessageType(name="placed"),))


def make_live(before: Topology, *states: QueueState) -> LiveState:
    return make_live_state(before, *states)


def prune(live: LiveState, *allowed: str, desired: Topology = SMALL) -> Plan:
    specs = resource_specs(desired)
    return find_hazards(diff(specs, live, Pruning(frozenset(allowed))), Surroundings(specs, live))


def codes(plan: Plan) -> dict[str, list[str]]:
    return {change.address: [hazard.code for hazard in change.hazards] for change in plan.changes}


def test_what_is_no_longer_declared_is_deleted_and_leaves_no_digest():
    live = make_live(with_old())

    plan = prune(live)

    assert [(change.address, change.action) for change in plan.changes] == [
        ("messages.placed", "delete"),
        ("queues.old", "delete"),
        ("routes.events", "delete"),
    ]
    assert codes(plan) == {"messages.placed": [], "queues.old": ["LMQ514"], "routes.events": ["LMQ514"]}
    assert plan.goal_addresses == address_digests(resource_specs(SMALL))
    after = simulate(plan, live)
    assert set(after.resources) == {"queues.kept"}
    assert set(after.addresses) == set(after.queues) == {"kept"}
    assert not prune(after).differs


def test_a_removal_asks_and_goes_from_routes_to_messages():
    plan = prune(make_live(with_old()))

    assert [change.address for change in plan.risky] == ["queues.old", "routes.events"]
    revision = build_revision(plan, owner="shop", by="ada", at_ms=5, commit=None)
    assert [removal.address for removal in revision.removals] == [
        "routes.events",
        "queues.old",
        "messages.placed",
    ]
    assert not any(removal.may_lose for removal in revision.removals)


@pytest.mark.parametrize(
    "state",
    [
        QueueState("old", ready=3),
        QueueState("old", in_flight=1),
        QueueState("old", delayed=1),
        QueueState("old", dead=1),
        QueueState("old", parked=1),
    ],
)
def test_a_queue_with_any_message_is_deleted_only_by_name(state: QueueState):
    live = make_live(with_old(), state)

    blocked = prune(live).blocked
    assert [(change.address, change.hazards[0].code) for change in blocked] == [("queues.old", "LMQ513")]
    assert "--allow-data-loss queues.old" in (blocked[0].hazards[0].suggestion or "")

    allowed = prune(live, "queues.old")
    assert allowed.blocked == ()
    assert codes(allowed)["queues.old"] == ["LMQ513", "LMQ514"]
    assert [change.may_lose for change in allowed.removed] == [False, True, False]


@pytest.mark.parametrize("on_remove", [OnRemove.DELETE, OnRemove.DRAIN])
@pytest.mark.parametrize("ready", [0, 3])
def test_a_protected_queue_is_neither_deleted_nor_drained_whatever_is_allowed(
    on_remove: OnRemove, ready: int
):
    live = make_live(with_old(prevent_delete=True, on_remove=on_remove), QueueState("old", ready=ready))

    plan = prune(live, "queues.old")

    assert [(change.address, codes(plan)[change.address]) for change in plan.blocked] == [
        ("queues.old", ["LMQ512"])
    ]


def test_the_lifecycle_that_counts_is_the_applied_one():
    """It is not in the file any more; and a default of the file is for what the file declares."""
    live = make_live(with_old(on_remove=OnRemove.RETAIN))
    assert prune(live).changes[1].step is Removal.RETAIN  # type: ignore[union-attr]


def test_a_queue_that_is_retained_is_no_longer_ours_and_keeps_its_messages():
    live = make_live(with_old(on_remove=OnRemove.RETAIN, prevent_delete=True), QueueState("old", ready=3))

    plan = prune(live)

    [change] = [change for change in plan.changes if change.address == "queues.old"]
    assert (change.action, change.risk) == ("orphan", Risk.RISKY)
    after = simulate(plan, live)
    assert "queues.old" not in after.resources
    assert after.queue("old").ready == 3
    assert not prune(after).differs


def test_a_queue_drains_until_it_is_empty_and_is_deleted_then():
    live = make_live(with_old(on_remove=OnRemove.DRAIN), QueueState("old", ready=3, oldest_age_seconds=60))

    plan = prune(live)
    [drain] = [change for change in plan.removed if change.address == "queues.old"]
    assert drain.step is Removal.DRAIN
    assert "old" in plan.goal_addresses, "its workers must still find it"
    assert "the 3 waiting are left to the workers that still handle it" in drain.hazards[0].message

    draining = simulate(plan, live)
    assert draining.fingerprint != live.fingerprint
    waiting = prune(draining)
    assert not waiting.has_work
    [orphan] = waiting.changes
    assert isinstance(orphan, Orphan)
    assert orphan.reason is not None
    assert orphan.reason.startswith("draining")

    empty = replace(draining, queues={**draining.queues, "old": QueueState("old", state="draining")})
    [told] = diff(resource_specs(SMALL), empty).changes
    assert told.reason == "drained: `leanmq apply --prune` deletes it"
    [removed] = prune(empty).removed
    assert (removed.address, removed.step) == ("queues.old", Removal.DELETE)
    assert not prune(simulate(prune(empty), empty)).differs


@pytest.mark.parametrize("state", ["active", "draining"])
def test_a_queue_whose_messages_may_be_lost_is_not_drained_but_deleted(state: str):
    live = make_live(with_old(on_remove=OnRemove.DRAIN), QueueState("old", ready=3, state=state))

    plan = prune(live, "queues.old")

    [change] = [change for change in plan.removed if change.address == "queues.old"]
    assert (change.step, change.may_lose, change.risk) == (Removal.DELETE, True, Risk.RISKY)
    assert codes(plan)["queues.old"] == ["LMQ513", "LMQ514"]
    assert not prune(simulate(plan, live)).differs


def test_a_queue_that_is_to_drain_is_not_counted_as_deleted():
    plan = prune(make_live(with_old(on_remove=OnRemove.DRAIN), QueueState("old", ready=3)))
    assert (plan.summary()["delete"], plan.summary()["orphan"]) == (2, 1)
    assert "2 to delete, 1 orphan, 1 unchanged." in render_text(plan)


def test_a_queue_that_drains_and_is_empty_already_is_deleted_at_once():
    live = make_live(with_old(on_remove=OnRemove.DRAIN))
    assert [change.step for change in prune(live).removed] == [Removal.DELETE] * 3


def test_a_queue_that_is_gone_from_the_server_is_forgotten_however_it_was_to_go():
    lost = QueueState("old", exists=False, damage=Damage.MISSING)
    for on_remove in OnRemove:
        removed = prune(make_live(with_old(on_remove=on_remove), lost)).removed
        assert [change.step for change in removed] == [Removal.DELETE] * 3


def test_something_else_under_a_key_is_left_alone():
    foreign = QueueState("old", exists=False, damage=Damage.WRONG_TYPE, problem="key x holds a string")
    assert codes(prune(make_live(with_old(), foreign)))["queues.old"][0] == "LMQ508"


def test_a_draining_queue_that_is_declared_again_takes_messages_again():
    before = with_old(on_remove=OnRemove.DRAIN)
    live = make_live(before, QueueState("old", ready=3, state="draining"))

    plan = diff(resource_specs(before), live)

    [change] = plan.changes
    assert (change.address, change.action) == ("queues.old", "update")
    assert change.reason == "it was on its way out; it takes messages again"
    after = simulate(plan, live)
    assert after.queue("old").state == "active"
    assert not diff(resource_specs(before), after).differs


def test_rows_say_what_becomes_of_a_queue():
    def row(live: LiveState, *allowed: str) -> str:
        return next(line for line in render_text(prune(live, *allowed)).splitlines() if "queues.old" in line)

    full = QueueState("old", ready=3)
    assert row(make_live(with_old())) == "- delete  queues.old       no longer in the file; deleted"
    assert row(make_live(with_old(), full)).startswith("! blocked queues.old")
    drain = row(make_live(with_old(on_remove=OnRemove.DRAIN), full))
    assert drain.endswith("takes no more messages, and goes once it is empty")
    retain = row(make_live(with_old(on_remove=OnRemove.RETAIN), full))
    assert retain.startswith("- orphan  queues.old")
    assert "3 to delete, 1 unchanged." in render_text(prune(make_live(with_old())))


def test_without_pruning_nothing_is_removed():
    plan = diff(resource_specs(SMALL), make_live(with_old(), QueueState("old", ready=3)))
    assert not [change for change in plan.changes if isinstance(change, Remove | Blocked)]
    assert plan.summary()["orphan"] == 3


def test_senders_to_a_queue_need_not_know_the_orphan_that_has_its_name():
    route = FanoutRoute(name="old", to=(Target(queue="kept"),))
    desired = make_topology("shop", KEPT, Queue(name="old"))
    specs = resource_specs(desired)

    plan = diff(specs, make_live(make_topology("shop", KEPT, routes=(route,))))

    assert plan.goal_addresses["old"] == address_digests(specs)["old"]


def test_a_type_stays_while_a_queue_drains_that_accepts_it():
    """Workers go by the record: without the type they would dead-letter what waits as invalid."""
    old = Queue(name="old", accepts=("placed",), lifecycle=Lifecycle(on_remove=OnRemove.DRAIN))
    before = make_topology("shop", KEPT, old, messages=(MessageType(name="placed"),))

    plan = prune(make_live(before, QueueState("old", ready=1)))

    assert [change.address for change in plan.removed] == ["queues.old"]
    assert "messages.placed  no longer in the file; kept until queues.old is empty" in render_text(plan)
    after = simulate(plan, make_live(before, QueueState("old", ready=1)))
    assert not prune(after).has_work
    emptied = replace(after, queues={**after.queues, "old": QueueState("old", state="draining")})
    assert [change.address for change in prune(emptied).removed] == ["messages.placed", "queues.old"]

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leanmq_topology.plan.changes import Backlog, Create, Orphan, Update
from leanmq_topology.plan.diff import diff
from leanmq_topology.plan.live_state import AppliedRecord, Damage, LiveState, QueueState, build_live_state
from leanmq_topology.plan.simulate import simulate
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target
from leanmq_topology.topology.specs import address_digests, digest, resource_specs
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state

PLACED = MessageType(name="placed", schema={"type": "object"})
BILLING = Queue(name="billing", accepts=("placed",))
EMAILS = Queue(name="emails", accepts=("placed",))
EVENTS = FanoutRoute(name="events", accepts=("placed",), to=(Target(queue="billing"), Target(queue="emails")))
SHOP = make_topology("shop", BILLING, EMAILS, routes=(EVENTS,), messages=(PLACED,))
DESIRED = resource_specs(SHOP)


def test_an_empty_namespace_gets_everything_in_the_order_of_the_file():
    plan = diff(DESIRED, LiveState())

    assert [change.address for change in plan.changes] == list(DESIRED)
    assert all(isinstance(change, Create) and change.reason is None for change in plan.changes)
    assert plan.summary()["create"] == 4
    assert plan.has_work


def test_what_was_applied_needs_nothing():
    plan = diff(DESIRED, make_live_state(SHOP))

    assert plan.changes == ()
    assert plan.unchanged == 4
    assert not plan.has_work
    assert not plan.differs


def test_specs_that_went_through_json_still_compare_equal():
    specs = {address: {"hash": digest(spec), "spec": spec} for address, spec in DESIRED.items()}
    live = make_live_state(SHOP)
    record = AppliedRecord("shop", 1, 1, "e", specs, None, live.addresses, live.applied_fingerprint)

    assert not diff(DESIRED, build_live_state(record, live.queues.values())).differs


def test_a_changed_limit_is_an_update_of_that_resource_alone():
    changed = resource_specs(
        make_topology("shop", replace(BILLING, max_length=5), EMAILS, routes=(EVENTS,), messages=(PLACED,))
    )

    plan = diff(changed, make_live_state(SHOP))

    [change] = plan.changes
    assert isinstance(change, Update)
    assert change.address == "queues.billing"
    assert (change.before["max_length"], change.after["max_length"]) == (None, 5)
    assert plan.unchanged == 3


def test_senders_to_a_route_learn_of_a_change_in_a_queue_behind_it():
    changed = resource_specs(
        make_topology("shop", replace(BILLING, max_length=5), EMAILS, routes=(EVENTS,), messages=(PLACED,))
    )

    plan = diff(changed, make_live_state(SHOP))

    assert set(plan.stale_addresses) == {"billing", "events"}
    assert plan.goal_addresses == address_digests(changed)


def test_a_changed_schema_is_news_for_every_address_that_takes_the_type():
    stricter = replace(PLACED, schema={"type": "object", "required": ["id"]})
    changed = resource_specs(make_topology("shop", BILLING, EMAILS, routes=(EVENTS,), messages=(stricter,)))

    plan = diff(changed, make_live_state(SHOP))

    assert [change.address for change in plan.changes] == ["messages.placed"]
    assert set(plan.stale_addresses) == {"billing", "emails", "events"}


def test_a_queue_no_longer_declared_is_an_orphan_with_its_messages_counted():
    live = make_live_state(SHOP, QueueState("emails", ready=3, dead=1, oldest_age_seconds=60.0))
    smaller = resource_specs(make_topology("shop", BILLING, messages=(PLACED,)))

    plan = diff(smaller, live)

    assert [change.address for change in plan.changes] == ["queues.emails", "routes.events"]
    assert all(isinstance(change, Orphan) for change in plan.changes)
    assert plan.changes[0].backlog == Backlog(ready=3, dead=1, oldest_age_seconds=60.0)
    assert plan.writes == ()


def test_a_smaller_file_is_recorded_once_and_its_orphans_are_shown_ever_after():
    smaller = resource_specs(make_topology("shop", BILLING, messages=(PLACED,)))
    live = make_live_state(SHOP)

    first = diff(smaller, live)
    second = diff(smaller, simulate(first, live))

    assert first.has_work
    assert not second.has_work
    assert second.differs
    assert second.summary()["orphan"] == 2


def test_senders_to_an_orphan_learn_of_a_change_in_a_queue_behind_it():
    smaller = resource_specs(
        make_topology("shop", replace(BILLING, max_length=5), EMAILS, messages=(PLACED,))
    )

    assert "events" in diff(smaller, make_live_state(SHOP)).stale_addresses


@pytest.mark.parametrize(
    ("damage", "kind"),
    [(Damage.MISSING, Create), (Damage.GROUP_GONE, Update), (Damage.RECORD_GONE, Update)],
)
def test_a_damaged_queue_is_mended_and_the_row_says_why(damage, kind):
    live = make_live_state(SHOP, QueueState("billing", exists=False, damage=damage))

    [change] = diff(DESIRED, live).changes

    assert isinstance(change, kind)
    assert change.address == "queues.billing"
    assert change.reason


def test_a_queue_that_nobody_applied_keeps_the_messages_it_already_has():
    found = LiveState(queues={"billing": QueueState("billing", ready=7)})

    changes = {change.address: change for change in diff(DESIRED, found).changes}

    assert "messages stay" in changes["queues.billing"].reason
    assert changes["queues.billing"].backlog.ready == 7
    assert changes["queues.emails"].reason is None


def test_an_apply_that_never_ended_is_work_even_when_nothing_differs():
    plan = diff(DESIRED, replace(make_live_state(SHOP), unfinished="generation 2 by ada@host"))

    assert plan.changes == ()
    assert plan.has_work
    assert "ada@host" in plan.record_reason


def test_a_lost_address_digest_is_work_even_when_nothing_differs():
    live = make_live_state(SHOP)
    plan = diff(DESIRED, replace(live, addresses={"billing": live.addresses["billing"]}))

    assert plan.changes == ()
    assert set(plan.stale_addresses) == {"emails", "events"}
    assert plan.has_work


def test_message_counts_do_not_change_the_fingerprint_of_a_live_state():
    busy = make_live_state(SHOP, QueueState("billing", ready=9, in_flight=2))

    assert busy.fingerprint == make_live_state(SHOP).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 9},
        {"owner": "other"},
        {"unfinished": "x"},
        {"addresses": {}},
        {"resources": {}},
        {"applied_fingerprint": "x"},
        {"queues": {"billing": QueueState("billing", exists=False, damage=Damage.GROUP_GONE)}},
    ],
)
def test_whatever_a_plan_depends_on_changes_the_fingerprint_of_a_live_state(change):
    live = make_live_state(SHOP)

    assert replace(live, **change).fingerprint != live.fingerprint

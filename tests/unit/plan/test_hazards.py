from __future__ import annotations

import pytest
from msgspec.structs import replace

from leanmq_topology.diagnostics import explain_code
from leanmq_topology.errors import BlockedChangeError
from leanmq_topology.plan.changes import Blocked, Risk
from leanmq_topology.plan.live_state import Damage, LiveState, QueueState
from leanmq_topology.plan.ownership import refuse_owner
from leanmq_topology.topology.model import (
    Compatibility,
    FanoutRoute,
    Handler,
    MessageType,
    OnExpire,
    Overflow,
    Queue,
    Target,
)
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state, make_plan

PLACED = MessageType(name="placed", schema={"type": "object", "properties": {"id": {"type": "string"}}})
BILLING = Queue(name="billing", accepts=("placed", "paid"))
EVENTS = FanoutRoute(name="events", accepts=("placed",), to=(Target(queue="billing"), Target(queue="emails")))
BUSY = QueueState("billing", ready=40, in_flight=2, delayed=8, dead=1, oldest_age_seconds=90.0)


def shop(billing: Queue = BILLING, placed: MessageType = PLACED, events: FanoutRoute = EVENTS):
    paid = MessageType(name="paid")
    topology = make_topology("shop", billing, Queue(name="emails"), routes=(events,), messages=(placed, paid))
    return replace(topology, handlers={"charge": Handler(name="charge", queue="billing", call="a:b")})


def plan_from(after, *states: QueueState):
    return make_plan(after, make_live_state(shop(), *states))


def codes(plan) -> list[str]:
    return [hazard.code for change in plan.changes for hazard in change.hazards]


RISKS = {
    "LMQ501": (shop(replace(BILLING, max_length=49)), shop(replace(BILLING, max_length=50))),
    "LMQ502": (
        shop(replace(BILLING, visibility_timeout_ms=10_000)),
        shop(replace(BILLING, visibility_timeout_ms=60_000)),
    ),
    "LMQ506": (shop(replace(BILLING, accepts=("placed",))), shop(replace(BILLING, accepts=()))),
    "LMQ511": (
        shop(replace(BILLING, max_length=60, overflow=Overflow.DROP_OLDEST)),
        shop(replace(BILLING, max_length=60, overflow=Overflow.DEAD_LETTER)),
    ),
    "LMQ509": (shop(replace(BILLING, on_expire=OnExpire.DISCARD)), shop(replace(BILLING, ttl_ms=1000))),
}


@pytest.mark.parametrize("code", RISKS)
def test_a_change_that_waiting_messages_feel_is_risky(code):
    plan = plan_from(RISKS[code][0], BUSY)

    assert codes(plan) == [code]
    assert [change.risk for change in plan.risky] == [Risk.RISKY]
    assert plan.risky[0].backlog.waiting == 50


@pytest.mark.parametrize("code", RISKS)
def test_the_same_change_on_an_idle_queue_is_a_live_update(code):
    plan = plan_from(RISKS[code][0])

    assert codes(plan) == []
    assert [change.risk for change in plan.writes] == [Risk.SAFE]


@pytest.mark.parametrize("code", RISKS)
def test_a_change_that_takes_nothing_away_is_a_live_update_even_with_a_backlog(code):
    plan = plan_from(RISKS[code][1], BUSY)

    assert codes(plan) == []
    assert len(plan.writes) == 1


def test_a_shorter_lease_names_the_handler_that_feels_it():
    plan = plan_from(RISKS["LMQ502"][0], BUSY)

    assert "by charge" in plan.risky[0].hazards[0].message


def test_a_route_that_loses_a_target_names_queue_and_handler():
    fewer = replace(EVENTS, to=(Target(queue="emails"),))

    [hazard] = plan_from(shop(events=fewer)).risky[0].hazards

    assert hazard.code == "LMQ507"
    assert hazard.address == "routes.events.to.billing"
    assert "charge" in hazard.message


def test_a_route_that_gains_a_target_is_a_live_update():
    fewer = replace(EVENTS, to=(Target(queue="emails"),))

    plan = make_plan(shop(), make_live_state(shop(events=fewer)))

    assert codes(plan) == []
    assert [change.address for change in plan.writes] == ["routes.events"]


def test_a_key_of_another_type_blocks_the_plan():
    foreign = QueueState("billing", exists=False, damage=Damage.WRONG_TYPE, problem="key x holds a string")

    plan = make_plan(shop(), LiveState(queues={"billing": foreign}))

    [blocked] = plan.blocked
    assert isinstance(blocked, Blocked)
    assert blocked.address == "queues.billing"
    assert blocked.hazards[0].code == "LMQ508"
    assert plan.summary()["blocked"] == 1


def test_a_namespace_of_another_name_is_refused_naming_both():
    with pytest.raises(BlockedChangeError, match=r"'other'.*'shop'") as refused:
        refuse_owner("other", "shop", "ns")

    assert refused.value.exit_code == 4


@pytest.mark.parametrize("owner", [None, "shop"])
def test_a_namespace_of_nobody_or_of_our_name_is_ours(owner):
    refuse_owner(owner, "shop", "ns")


@pytest.mark.parametrize("code", [f"LMQ{number}" for number in range(501, 511)])
def test_every_hazard_is_explained(code):
    explained = explain_code(code)

    assert explained is not None
    assert explained.text
    assert explained.mend


OPEN = {"type": "object", "properties": {"id": {"type": "string"}}}
STRICTER = {**OPEN, "required": ["id"]}
WIDER = {"type": "object", "properties": {"id": {"type": ["string", "integer"]}}}


@pytest.mark.parametrize(
    ("schema", "mode", "idle", "busy"),
    [
        (WIDER, "backward", None, None),
        (WIDER, "none", None, None),
        (STRICTER, "none", None, "LMQ503"),
        (STRICTER, "backward", "LMQ505", "LMQ504"),
        (STRICTER, "full", "LMQ505", "LMQ504"),
        (STRICTER, "forward", None, "LMQ503"),
        (WIDER, "forward", "LMQ505", "LMQ504"),
    ],
)
def test_a_changed_schema_is_judged_by_its_promise_and_by_what_waits(schema, mode, idle, busy):
    after = shop(placed=replace(PLACED, schema=schema, compatibility=Compatibility(mode)))

    assert codes(plan_from(after)) == ([idle] if idle else [])
    assert codes(plan_from(after, BUSY)) == ([busy] if busy else [])


def test_only_a_broken_promise_with_messages_waiting_is_blocked():
    stricter = shop(placed=replace(PLACED, schema=STRICTER))

    assert [change.action for change in plan_from(stricter).changes] == ["update"]
    [blocked] = plan_from(stricter, BUSY).blocked
    assert blocked.backlog.waiting == 50
    assert "50 messages wait where it is accepted (billing)" in blocked.hazards[0].message


def test_messages_that_wait_in_a_queue_which_no_longer_takes_the_type_count_too():
    after = shop(replace(BILLING, accepts=("paid",)), replace(PLACED, schema=STRICTER))

    assert "LMQ504" in codes(plan_from(after, BUSY))


def test_a_better_description_is_no_break():
    described = shop(placed=replace(PLACED, schema={**PLACED.schema, "description": "An order."}))

    assert codes(plan_from(described, BUSY)) == []


def test_a_change_that_cannot_be_proven_harmless_needs_approval_but_is_not_blocked():
    tree = {"properties": {"size": {"type": "integer"}, "below": {"$ref": "#"}}}
    wider = {"properties": {"size": {"type": "number"}, "below": {"$ref": "#"}}}
    before, after = (
        shop(placed=replace(PLACED, schema={"type": "object", **keys})) for keys in (tree, wider)
    )

    plan = make_plan(after, make_live_state(before, BUSY))

    assert codes(plan) == ["LMQ505"]
    assert plan.risky


@pytest.mark.parametrize(
    ("overflow", "words"),
    [
        (Overflow.REJECT, "sends are refused"),
        (Overflow.DROP_OLDEST, "drops the oldest"),
        (Overflow.DEAD_LETTER, "dead-lettered"),
    ],
)
def test_a_lowered_limit_says_what_its_overflow_does(overflow, words):
    before = make_live_state(shop(replace(BILLING, max_length=99, overflow=overflow)), BUSY)
    [change] = make_plan(shop(replace(BILLING, max_length=9, overflow=overflow)), before).risky

    assert [hazard.code for hazard in change.hazards] == ["LMQ501"]
    assert words in change.hazards[0].message

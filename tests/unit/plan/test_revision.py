from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from leanmq_topology.plan.live_state import LiveState
from leanmq_topology.plan.revision import build_revision
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target
from leanmq_topology.topology.specs import fingerprint, resource_specs
from tests.support.factories import make_topology
from tests.support.live_states import make_live_state, make_plan

SHOP = make_topology(
    "shop",
    Queue(name="billing", accepts=("placed",)),
    routes=(FanoutRoute(name="events", to=(Target(queue="billing"),)),),
    messages=(MessageType(name="placed"),),
)


def test_nothing_is_written_before_what_it_needs():
    plan = make_plan(SHOP, LiveState())
    shuffled = replace(plan, changes=tuple(reversed(plan.changes)))

    revision = build_revision(shuffled, owner="shop", by="ada", at_ms=5, commit=None)

    assert [resource.address for resource in revision.resources] == [
        "messages.placed",
        "queues.billing",
        "routes.events",
    ]


def test_a_revision_is_one_generation_further_and_stands_for_the_whole_topology():
    plan = make_plan(SHOP, structs.replace(make_live_state(SHOP), resources={}, generation=6))

    revision = build_revision(plan, owner="shop", by="ada", at_ms=5, commit="abc")

    assert (revision.base_generation, revision.generation) == (6, 7)
    assert revision.fingerprint == fingerprint(resource_specs(SHOP))
    assert "ada" in revision.intent


def test_orphans_are_not_written():
    plan = make_plan(make_topology("shop", Queue(name="billing")), make_live_state(SHOP))

    revision = build_revision(plan, owner="shop", by="ada", at_ms=5, commit=None)

    assert [resource.address for resource in revision.resources] == ["queues.billing"]

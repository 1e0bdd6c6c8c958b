"""What is applied, as a sender sees it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from leanmq_topology.client.applied import AppliedView
from leanmq_topology.errors import LeanMQError, TopologyNotAppliedError, UnknownTargetError
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target
from leanmq_topology.topology.specs import address_digests, digest, resource_specs
from tests.support.factories import make_topology

TOPOLOGY = make_topology(
    "shop",
    Queue(name="billing", accepts=("order",), max_message_size=1024),
    Queue(name="emails", accepts=("order", "note")),
    Queue(name="anything"),
    routes=(
        FanoutRoute(
            name="events",
            to=(Target(queue="billing"), Target(queue="emails", match={"data.notify": True})),
        ),
    ),
    messages=(
        MessageType(name="order", version=3, schema={"type": "object"}),
        MessageType(name="note", schema=True),
    ),
)


def answer(topology: Any = TOPOLOGY) -> dict[str, Any]:
    """What the server answers, whatever was asked for."""
    specs = resource_specs(topology)
    fields: dict[str, Any] = {
        address: {"hash": digest(spec), "spec": spec} for address, spec in specs.items()
    }
    return fields | {f"@{name}": value for name, value in address_digests(specs).items()}


def test_an_unknown_name_is_refused_without_a_server_and_given_the_closest():
    with pytest.raises(UnknownTargetError) as caught:
        AppliedView(TOPOLOGY).find("biling")
    assert caught.value.closest == "billing"


def test_a_declared_name_must_be_read_first_and_again_once_it_changed():
    view = AppliedView(TOPOLOGY)
    assert view.find("billing") is None
    learned = view.learn("billing", answer())
    assert view.find("billing") is learned
    view.forget("billing")
    assert view.find("billing") is None


def test_a_queue_is_its_own_only_subscriber():
    destination = AppliedView(TOPOLOGY).learn("billing", answer())
    assert [(one.queue, one.max_message_size) for one in destination.subscribers] == [("billing", 1024)]
    assert destination.contracts["order"].reference == "order@3"


def test_a_route_takes_what_all_its_queues_take_unless_it_says_itself():
    destination = AppliedView(TOPOLOGY).learn("events", answer())
    assert [one.queue for one in destination.subscribers] == ["billing", "emails"]
    assert list(destination.contracts) == ["order"]


def test_what_is_not_applied_is_named_with_its_kind():
    for name, address in (("billing", "queues.billing"), ("events", "routes.events")):
        with pytest.raises(TopologyNotAppliedError) as caught:
            AppliedView(TOPOLOGY).learn(name, {})
        assert caught.value.missing == (address,)


def test_the_declared_type_of_a_queue_that_takes_anything_comes_from_the_file():
    view = AppliedView(TOPOLOGY)
    assert view.learn("anything", answer()).contracts == {}
    contract = view.declared("order")
    assert contract is not None
    assert contract.reference == "order@3"
    assert view.declared("nothing") is None


def test_a_topology_that_differs_from_the_applied_one_warns_once(caplog: pytest.LogCaptureFixture):
    applied = make_topology("shop", Queue(name="billing", ttl_ms=5), Queue(name="anything", ttl_ms=5))
    view = AppliedView(TOPOLOGY)
    with caplog.at_level(logging.WARNING):
        view.learn("billing", answer(applied))
        view.learn("anything", answer(applied))
    assert len(caplog.records) == 1
    assert "'billing' differs" in caplog.text


def test_an_equal_topology_does_not_warn(caplog: pytest.LogCaptureFixture):
    AppliedView(TOPOLOGY).learn("events", answer())
    assert not caplog.records


def test_a_route_of_a_newer_kind_is_refused():
    newer = make_topology("shop", Queue(name="billing"))
    fields = answer(newer)
    spec = {"type": "relay", "name": "events"}
    fields |= {"routes.events": {"hash": "x", "spec": spec}, "@events": "y"}
    with pytest.raises(LeanMQError, match="cannot send to"):
        AppliedView(TOPOLOGY).learn("events", fields)

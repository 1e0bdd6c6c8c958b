"""The example of the language's reference, exactly as printed there: all of it is read and modelled.

What this version does not do yet is refused, and nothing else is wrong with it. The list gets shorter as
later versions honour more.
"""

from __future__ import annotations

from pathlib import Path

from leanmq_topology.document.loading import read_document
from leanmq_topology.topology.loading import check_document
from leanmq_topology.topology.model import (
    Batch,
    BrokerSettings,
    Deduplication,
    EphemeralRoute,
    FanoutRoute,
    KeepAcked,
    RequestRoute,
    Target,
    TopicRoute,
    Topology,
)

EXAMPLE = Path(__file__).parents[2] / "cli" / "cases" / "design-example" / "topology.yaml"
NOT_YET = [
    "moved",
]
DAY_MS = 86_400_000


def build(environment: str | None = None) -> tuple[Topology, list[tuple[str, str]]]:
    document, found = read_document([EXAMPLE], environ={}, environment=environment)
    assert document is not None
    assert found == []
    topology, found = check_document(document)
    assert topology is not None
    return topology, [(item.code, item.address) for item in found if item.is_error]


def test_the_only_errors_are_keys_that_do_not_work_yet():
    _, found = build()

    assert sorted(found) == sorted(("LMQ401", address) for address in NOT_YET)


def test_production_adds_the_durability_it_asks_for():
    topology, found = build("prod")

    assert sorted(found) == sorted(("LMQ401", address) for address in NOT_YET)
    assert topology.broker.durability == "replicated:1"


def test_every_key_of_it_is_modelled():
    topology, _ = build()

    assert topology.broker == BrokerSettings(url="embedded:", namespace="shop", durability="memory")
    assert list(topology.messages) == ["order.placed", "quote.asked", "quote.given"]
    billing = topology.queues["billing"]
    assert billing.ttl_ms == DAY_MS
    assert billing.retry.never == ("ValueError",)
    assert (billing.dead_letter.ttl_ms, billing.dead_letter.max_length) == (14 * DAY_MS, 10_000)
    assert billing.lifecycle.prevent_delete
    assert topology.queues["quotes"].ttl_ms == 7 * DAY_MS
    assert topology.queues["emails"].deduplication == Deduplication(window_ms=600_000, key="/order_id")
    assert topology.queues["audit-log"].keep_acked == KeepAcked(duration_ms=30 * DAY_MS)
    assert topology.handlers["charge"].timeout_ms == 120_000
    assert topology.handlers["charge"].concurrency == 8
    assert topology.handlers["quote"].concurrency == 4
    assert topology.handlers["bulk"].batch == Batch(size=100, wait_ms=50)
    assert topology.lifespan == "shop.resources:open"
    assert topology.middleware == ("shop.tracing:Trace",)
    assert topology.moved == {"queues.mail": "queues.emails"}


def test_every_type_of_route_is_modelled():
    topology, _ = build()

    assert topology.routes == {
        "order-events": FanoutRoute(
            name="order-events",
            accepts=("order.placed",),
            to=(
                Target(queue="billing"),
                Target(queue="emails", match={"data.notify": True, "data.total": {"minimum": 50}}),
            ),
        ),
        "get-quote": RequestRoute(
            name="get-quote", request="quote.asked", reply="quote.given", queue="quotes", timeout_ms=5000
        ),
        "audit": TopicRoute(name="audit", to=(Target(queue="audit-log", topics=("user.*", "*.critical")),)),
        "ticker": EphemeralRoute(name="ticker"),
    }

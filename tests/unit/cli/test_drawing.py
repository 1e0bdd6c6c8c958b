"""Drawings of a topology: aligned text, mermaid, nodes and edges."""

from __future__ import annotations

from leanmq_topology.cli.drawing import draw_data, draw_mermaid, draw_text
from leanmq_topology.topology.model import (
    BrokerSettings,
    EphemeralRoute,
    FanoutRoute,
    Handler,
    OnExpire,
    Queue,
    RequestRoute,
    Target,
    TopicRoute,
    Topology,
)

SHOP = Topology(
    name="shop",
    broker=BrokerSettings(namespace="shop"),
    queues={
        "billing": Queue(name="billing", max_deliveries=3),
        "emails": Queue(name="emails", ttl_ms=3_600_000, on_expire=OnExpire.DISCARD),
        "audit-log": Queue(name="audit-log", ttl_ms=86_400_000),
        "quotes": Queue(name="quotes", max_deliveries=1),
    },
    routes={
        "orders": FanoutRoute(
            name="orders",
            to=(
                Target(queue="billing"),
                Target(queue="emails", match={"data.notify": True, "type": ["a", "b"]}),
            ),
        ),
        "audit": TopicRoute(name="audit", to=(Target(queue="audit-log", topics=("user.*", "*.critical")),)),
        "ticker": EphemeralRoute(name="ticker"),
    },
    handlers={
        "charge": Handler(name="charge", queue="billing", call="m:charge", then="emails"),
        "quote": Handler(name="quote", queue="quotes", call="m:quote", concurrency=1),
    },
)


def test_text_shows_each_way_of_a_message_on_a_line_of_its_own():
    assert (
        draw_text(SHOP)
        == """\
route                     queue            handler  calls                     dead-lettered after
orders (fanout)     ─┬─>  billing          charge   m:charge x4, then emails  3 deliveries
                     └?>  emails           (none)                             5 deliveries; gone after 1h
audit (topic)       ──?>  audit-log        (none)                             5 deliveries or 1d
ticker (ephemeral)  ───>  whoever listens                                     never: nothing is stored
                          quotes           quote    m:quote x1                1 delivery

? orders to emails: data.notify = true, type one of "a", "b"
? audit to audit-log: topic user.* or *.critical"""
    )


def test_mermaid_escapes_what_would_end_a_label():
    text = draw_mermaid(SHOP)

    assert text.startswith("flowchart LR\n")
    assert '  n1{{"orders (fanout)"}}' in text
    assert '-->|"data.notify = true, type one of #quot;a#quot;, #quot;b#quot;"|' in text
    assert '-.->|"after 1 delivery"|' in text


def test_mermaid_draws_every_edge_between_nodes_it_has_declared():
    lines = draw_mermaid(SHOP).splitlines()[1:]
    nodes = {line.split("{")[0].split("[")[0].strip() for line in lines if ">" not in line}
    edges = [line.split() for line in lines if ">" in line]

    assert len(edges) == len(draw_data(SHOP)["edges"])
    assert {end for edge in edges for end in (edge[0], edge[-1])} <= nodes


def test_data_names_nodes_by_address_and_edges_by_their_ends():
    data = draw_data(SHOP)

    assert {"address": "queues.billing", "kind": "queue"} in data["nodes"]
    assert {"address": "dead_letters.billing", "kind": "dead_letter"} in data["nodes"]
    assert {"from": "handlers.charge", "to": "queues.emails", "label": "then"} in data["edges"]
    addresses = {node["address"] for node in data["nodes"]}
    assert {end for edge in data["edges"] for end in (edge["from"], edge["to"])} <= addresses


def test_a_request_leads_to_the_queue_that_answers_it():
    route = RequestRoute(name="ask", request="asked", reply="given", queue="quotes")
    topology = Topology(name="s", broker=SHOP.broker, queues=SHOP.queues, routes={"ask": route})

    assert "ask (request)  ───>  quotes" in draw_text(topology)


def test_a_topology_without_anything_is_only_a_heading():
    assert len(draw_text(Topology(name="s", broker=SHOP.broker)).splitlines()) == 1

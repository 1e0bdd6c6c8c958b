"""What Tab offers in a session."""

from __future__ import annotations

import pytest

from leanmq_topology.cli.session.completion import complete
from leanmq_topology.cli.session.verbs import VERBS, verbs_of
from leanmq_topology.topology.model import (
    BrokerSettings,
    EphemeralRoute,
    FanoutRoute,
    MessageType,
    Queue,
    RequestRoute,
    Target,
    Topology,
)

PRICE = {
    "type": "object",
    "properties": {
        "symbol": {"enum": ["ABC", "XYZ"]},
        "final": {"type": "boolean"},
        "note": {"type": "string"},
        "kind": {"const": "price"},
    },
}
TOPOLOGY = Topology(
    name="t",
    broker=BrokerSettings(namespace="t"),
    messages={"price": MessageType(name="price", schema=PRICE), "odd": MessageType(name="odd")},
    queues={"orders": Queue(name="orders", accepts=("price",)), "other": Queue(name="other")},
    routes={
        "ticker": EphemeralRoute(name="ticker", accepts=("price",)),
        "events": FanoutRoute(name="events", accepts=("price",), to=(Target(queue="orders"),)),
        "quote": RequestRoute(name="quote", request="price", reply="odd", queue="orders"),
    },
)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("st", ["stop", "status", "stats"]),
        ("x", []),
        ("send o", ["orders", "other"]),
        ("send ", ["orders", "other", "events"]),
        ("request ", ["quote"]),
        ("pub ", ["ticker"]),
        ("sub news t", ["ticker"]),
        ("peek or", ["orders"]),
        ("dlq s", ["show", "stats"]),
        ("send orders {} --type p", ["price"]),
        ("send orders {} --t", ["--type", "--ttl", "--topic"]),
        ("pub ticker {", ['{"symbol":', '{"final":', '{"note":', '{"kind":']),
        ('pub ticker {"s', ['{"symbol":']),
        ('pub ticker {"symbol": ', ['"ABC"', '"XYZ"']),
        ('pub ticker {"symbol": "X', ['"XYZ"']),
        ('pub ticker {"symbol":"X', ['{"symbol":"XYZ"']),
        ('pub ticker {"symbol": "XYZ", "f', ['"final":']),
        ('pub ticker {"symbol": "XYZ", "final": t', ["true"]),
        ('pub ticker {"symbol": "XYZ", "s', []),
        ('pub ticker {"kind": ', ['"price"']),
        ('pub ticker {"note": ', []),
        ("pub undeclared {", []),
        ("send other {", []),
    ],
)
def test_what_could_come_next_is_offered(line: str, offered: list[str]):
    assert complete(line, VERBS, TOPOLOGY) == offered


def test_a_session_has_no_command_that_leanmq_does_not_have():
    assert "request" not in verbs_of("shell", frozenset({"send", "status", "peek", "dlq"}))
    assert set(verbs_of("pub", frozenset())) == {"pub", "batch", "periodic", "stop", "stats", "help", "exit"}
    assert set(verbs_of("sub", frozenset())) == {
        *("sub", "unsub", "listen", "stop", "inject", "stats", "help", "exit")
    }

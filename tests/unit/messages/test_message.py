"""The value a handler gets."""

from __future__ import annotations

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.message import Message

HEADERS = {"time": "2026-11-22T05:30:00.250Z", "dataschema": "order.placed@3", "correlationid": "c-1"}


def test_a_message_shows_the_stable_id_and_what_the_headers_say():
    message = Message.of(
        Delivered("q", "5-0", Envelope("m", "order.placed", b"{}", HEADERS, 1, 2500), 2), {"a": 1}
    )
    assert (message.id, message.message_id, message.queue) == ("m", "m", "q")
    assert message.data == {"a": 1}
    assert (message.type, message.version, message.correlation_id) == ("order.placed", 3, "c-1")
    assert message.timestamp == message.sent_at == 1795325400.25
    assert message.expires_at == 2.5
    assert (message.attempt, message.delivery_count, message.redelivered) == (3, 2, True)


def test_headers_of_strangers_leave_facts_unknown():
    message = Message.of(
        Delivered("q", "5-0", Envelope("m", "", b"{}", {"time": "noon", "dataschema": "x"})), {}
    )
    assert (message.sent_at, message.version, message.expires_at) == (0.0, None, None)
    assert (message.attempt, message.redelivered) == (1, False)


def test_headers_that_a_handler_changes_are_its_own():
    first, second = (
        Delivered("q", "5-0", Envelope("m", "t", b"{}", headers)) for headers in [{"a": "b"}] * 2
    )
    assert first.envelope.headers is second.envelope.headers, "as of messages that came together"
    Message.of(first, {}).headers["a"] = "c"  # type: ignore[index]
    assert Message.of(second, {}).headers == {"a": "b"}

"""What a message inherits from the one whose handling caused it."""

from __future__ import annotations

from leanmq_topology.client.handling import being_handled
from leanmq_topology.client.options import PLAIN, read_options
from leanmq_topology.messages.causation import inherit_headers
from leanmq_topology.messages.envelope import Envelope

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"
"""With the flags `03` that current SDKs write: it is passed on, never judged."""


def cause(**headers: str) -> Envelope:
    return Envelope("m-1", "order", b"{}", headers)


def test_the_first_message_of_a_story_gives_it_its_name():
    assert inherit_headers({}, cause()) == {"correlationid": "m-1", "causationid": "m-1"}


def test_the_name_stays_and_the_cause_changes():
    inherited = inherit_headers({}, cause(correlationid="story", causationid="m-0"))
    assert inherited == {"correlationid": "story", "causationid": "m-1"}


def test_what_the_send_says_itself_counts():
    own = {"correlationid": "mine", "causationid": "other", "color": "red"}
    assert inherit_headers(own, cause(correlationid="story")) == own


def test_a_trace_goes_on_as_it_came():
    assert inherit_headers({}, cause(traceparent=TRACE, tracestate="a=b"))["traceparent"] == TRACE
    assert inherit_headers({}, cause(traceparent=TRACE, tracestate="a=b"))["tracestate"] == "a=b"
    assert "tracestate" not in inherit_headers({}, cause(tracestate="a=b")), (
        "it is nothing without its parent"
    )


def test_a_trace_of_the_sends_own_is_not_mixed_with_the_causes():
    inherited = inherit_headers({"traceparent": "00-x"}, cause(traceparent=TRACE, tracestate="a=b"))
    assert (inherited["traceparent"], "tracestate" in inherited) == ("00-x", False)


def test_other_headers_are_not_inherited():
    assert "color" not in inherit_headers({}, cause(color="red", leanmqtopic="a.b"))


def test_a_send_refers_to_what_is_handled_and_only_meanwhile():
    token = being_handled.set(cause(correlationid="story"))
    try:
        assert read_options().headers == {"correlationid": "story", "causationid": "m-1"}
        assert read_options(correlation_id="own").headers["correlationid"] == "own"
    finally:
        being_handled.reset(token)
    assert read_options() is PLAIN

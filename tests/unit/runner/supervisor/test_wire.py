"""What processes and their supervisor tell each other survives the way."""

from __future__ import annotations

import pytest

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.errors import (
    BrokerUnavailableError,
    InvalidTopologyError,
    LeanMQError,
    TopologyNotAppliedError,
)
from leanmq_topology.runner.supervisor.wire import (
    Ended,
    Facts,
    Failed,
    Lines,
    Message,
    Ready,
    Stop,
    describe_failure,
    encode,
    revive_failure,
)

MESSAGES: list[Message] = [
    Ready("abc", "redis://x", "shop", "/shop", ("billing", "emails"), ("charge",)),
    Facts({"charge": {"held": 3, "running": 1}}, 0.5, ("the server cannot be reached",)),
    Failed("ProcessError", "it broke", "mend it", 70),
    Ended(True, {"handled": 3}, "abc"),
    Stop(),
]


def test_messages_arrive_as_they_were_however_the_bytes_are_cut():
    data = b"".join(map(encode, MESSAGES))
    for size in (1, 7, len(data)):
        lines = Lines()
        arrived = [
            message
            for start in range(0, len(data), size)
            for message in lines.feed(data[start : start + size])
        ]
        assert arrived == MESSAGES


def as_arrived(failure: BaseException) -> LeanMQError:
    [failed] = Lines().feed(encode(describe_failure(failure)))
    assert isinstance(failed, Failed)
    return revive_failure(failed)


def test_a_finding_keeps_its_place_and_its_line():
    span = Span("topology.yaml", 3, 7, 4, "  billing: {ttl: 5}")
    error = as_arrived(InvalidTopologyError([Diagnostic("LMQ314", "no such module", span=span)]))
    assert isinstance(error, InvalidTopologyError)
    assert error.exit_code == 3
    [found] = error.diagnostics
    assert found.span == span
    assert found.span is not None
    assert found.span.source == span.source


@pytest.mark.parametrize(
    "failure",
    [
        TopologyNotAppliedError(["queues.billing"], namespace="shop"),
        BrokerUnavailableError("redis://nowhere cannot be reached", hint="is it running?"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_an_error_of_ours_is_reported_as_if_it_had_been_met_here(failure: LeanMQError):
    error = as_arrived(failure)
    assert type(error) is type(failure)
    assert (error.message, error.hint, error.exit_code) == (failure.message, failure.hint, failure.exit_code)


def test_any_other_error_ends_with_the_exit_code_of_a_mistake_of_ours():
    error = as_arrived(ZeroDivisionError("division by zero"))
    assert (error.message, error.exit_code) == ("division by zero", 70)

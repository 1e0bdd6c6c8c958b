"""What is asked next, and what its answer means, when a success sends."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.brokers.protocol import AppliedRecord, Full, OutputsSent, Stale, Stored
from leanmq_topology.client.identity import Producer
from leanmq_topology.errors import (
    BrokerRefusedError,
    InvalidMessageError,
    LeanMQError,
    LeaseLostError,
    QueueFullError,
    TopologyNotAppliedError,
)
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner.commits import Commit, Producers
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.outbox import OutputWriter
from leanmq_topology.topology.model import BrokerSettings, FanoutRoute, MessageType, Queue, Target, Topology
from leanmq_topology.topology.specs import address_digests, digest, resource_specs


def declare(*to: str, minimum: int = 0) -> Topology:
    schema = {"type": "object", "properties": {"n": {"minimum": minimum}}}
    return Topology(
        name="shop",
        broker=BrokerSettings(namespace="shop"),
        messages={"number": MessageType(name="number", schema=schema)},
        queues={name: Queue(name=name, accepts=("number",)) for name in ("a", "b")},
        routes={"both": FanoutRoute(name="both", to=tuple(Target(queue=name) for name in to))},
    )


def record(topology: Topology) -> AppliedRecord:
    specs = resource_specs(topology)
    resources = {address: {"hash": digest(spec), "spec": spec} for address, spec in specs.items()}
    return AppliedRecord("shop", 1, 1, "e", resources, addresses=address_digests(specs))


def answer(topology: Topology) -> dict[str, Any]:
    """What `read_addresses` says of it."""
    applied = record(topology)
    return {**applied.resources, **{f"@{name}": found for name, found in applied.addresses.items()}}


class FakeBroker:
    def read_addresses(self, names: Any) -> Any:
        return ("read", tuple(names))

    def ack_with_outputs(self, consumer: str, delivered: Delivered, flush: Any, reply: Any) -> Any:
        return ("ack", delivered.entry_id, flush)


BOTH = declare("a", "b")
LEFT = Stale("both", "new")


class Trial:
    """A commit of one message that was sent to `both`, and how it ended."""

    def __init__(self) -> None:
        self.ended: list[LeanMQError | None] = []
        self.message = Incoming(Delivered("work", "1-0", Envelope("m", "number", b"{}")), 0.0)
        self.message.writer = OutputWriter(BOTH, record(BOTH))
        outbox = self.message.open_outbox()
        assert outbox is not None
        outbox.send("both", {"n": 1})
        self.commit = Commit(self.message, outbox.close(), self.message.writer, self.ended.append)
        self.producer = Producer()

    def asks(self) -> Any:
        broker: Any = FakeBroker()
        return self.commit.operation(broker, "me", self.producer)


def test_a_commit_that_is_repeated_asks_for_the_very_same():
    trial = Trial()
    first, again = trial.asks(), trial.asks()
    assert first == again
    assert (first[0], first[2].sequence, first[2].all_or_none) == ("ack", 1, True)


def test_done_is_over():
    trial = Trial()
    trial.asks()
    assert trial.commit.take(OutputsSent(True, (Stored("x", 2),)))
    assert (trial.ended, trial.commit.settled) == ([None], True)


def test_what_another_worker_holds_by_now_is_left_to_it():
    trial = Trial()
    trial.asks()
    assert trial.commit.take(OutputsSent(False))
    assert trial.commit.settled
    assert isinstance(trial.ended[0], LeaseLostError)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (OutputsSent(True, (Full("a", 5),)), QueueFullError),
        (BrokerRefusedError("no"), BrokerRefusedError),
    ],
)
def test_what_was_refused_is_still_ours_to_settle(said: Any, failure: type[Exception]):
    trial = Trial()
    trial.asks()
    assert trial.commit.take(said)
    assert not trial.commit.settled
    assert [type(one) for one in trial.ended] == [failure]


def test_a_target_that_changed_is_read_again_and_the_message_routed_anew():
    trial = Trial()
    assert trial.asks()[2].sends[0].queues == ("a", "b")
    assert not trial.commit.take(OutputsSent(True, (LEFT,)))
    assert trial.asks() == ("read", ("both",))
    assert not trial.commit.take(answer(declare("b")))
    flush = trial.asks()[2]
    assert (flush.sends[0].queues, flush.sequence) == (("b",), 2)
    assert flush.sends[0].digest == address_digests(resource_specs(declare("b")))["both"]
    assert trial.commit.take(OutputsSent(True, (Stored("x", 1),)))
    assert trial.ended == [None]


def test_a_message_that_the_changed_target_refuses_makes_the_run_a_failure():
    trial = Trial()
    trial.asks()
    trial.commit.take(OutputsSent(True, (LEFT,)))
    trial.asks()
    assert trial.commit.take(answer(declare("a", minimum=5)))
    assert [type(one) for one in trial.ended] == [InvalidMessageError]


def test_a_target_that_was_taken_away_makes_the_run_a_failure():
    trial = Trial()
    trial.asks()
    trial.commit.take(OutputsSent(True, (Stale("both", None),)))
    trial.asks()
    assert trial.commit.take({})
    assert [type(one) for one in trial.ended] == [TopologyNotAppliedError]


def test_a_target_that_never_stops_changing_is_given_up_on():
    trial = Trial()
    for _ in range(3):
        trial.asks()
        assert not trial.commit.take(OutputsSent(True, (LEFT,)))
        trial.asks()
        assert not trial.commit.take(answer(BOTH))
    trial.asks()
    assert trial.commit.take(OutputsSent(True, (LEFT,)))
    assert "changed on the server 4 times" in str(trial.ended[0])


def test_names_to_send_under_are_used_again_and_never_by_two_at_once():
    producers = Producers()
    first, second = producers.take(), producers.take()
    assert first.next()[0] != second.next()[0]
    producers.give_back(first)
    assert producers.take() is first

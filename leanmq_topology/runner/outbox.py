"""What a handler sends: validated and addressed when it says so, sent with the acknowledgement or not at all.

Targets and schemas are those of the applied record, which the worker has read: asking it costs no round trip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from leanmq_topology.brokers.protocol import AppliedRecord
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.options import SendOptions, read_options
from leanmq_topology.client.sender import MOST_BYTES, MOST_COPIES, Batch, weigh, write_single
from leanmq_topology.clock import Clock, system_clock
from leanmq_topology.errors import (
    BatchTooLargeError,
    LeanMQError,
    TopologyNotAppliedError,
    UnknownTargetError,
)
from leanmq_topology.messages.causation import inherit_headers
from leanmq_topology.messages.envelope import Envelope, Outgoing
from leanmq_topology.messages.routing import Contract, Destination
from leanmq_topology.topology.model import Topology

_UNKNOWN = (UnknownTargetError, TopologyNotAppliedError)


class Output(NamedTuple):
    """One send of a handler: as it was meant, and as it goes out to the address known now."""

    batch: Batch
    sends: list[Outgoing]


class OutputWriter:
    """Makes outputs by one applied record. Safe to use from several threads."""

    def __init__(
        self,
        topology: Topology,
        record: AppliedRecord,
        *,
        leaving: Collection[str] = (),
        clock: Clock = system_clock,
    ) -> None:
        """`leaving`: of the queues behind routes that are not applied, those that are on their way out."""
        self.view = AppliedView(topology)
        self._record, self._leaving, self._clock = record, leaving, clock

    def write(self, target: str, data: Any, options: SendOptions) -> Output:
        """Validate and address a message. Raises what a send raises before it leaves."""
        batch = write_single(target, data, options, now_ms=self._clock())
        return Output(batch, self.address(batch))

    def address(self, batch: Batch) -> list[Outgoing]:
        """Route a message by what is known of its target now."""
        return batch.address(self._find(batch.target), self.view)

    def find_reply(self, route: str) -> Contract | None:
        """What a reply at this route must be like; None where that is not known, as the route is gone."""
        found = self.view.known.get(route)
        if found is not None:
            return found.reply
        try:
            return self._find(route).reply
        except _UNKNOWN:
            return None

    def find_error(self, route: str) -> Contract | None:
        """What the data of an error of this route must be like; None where it declares none, or is gone."""
        try:
            return self._find(route).error
        except _UNKNOWN:
            return None

    def _find(self, name: str) -> Destination:
        found = self.view.find(name)
        if found is not None:
            return found
        fields = _select(self._record, name)
        lost = self.view.find_lost_queues(name, fields)
        leaving = next((queue for queue in lost if queue in self._leaving), None)
        return self.view.learn(name, fields, leaving=leaving)


class Outbox:
    """What one run of a handler sends. Closed when the run is over: what is sent then would go nowhere."""

    __slots__ = ("_cause", "_closed", "_copies", "_outputs", "_size", "_writer")

    def __init__(self, writer: OutputWriter, cause: Envelope) -> None:
        self._writer, self._cause = writer, cause
        self._outputs: list[Output] = []
        self._copies = self._size = 0
        self._closed = False

    def send(self, target: str, data: Any, **options: Any) -> str:
        """Put a message in; returns its id. What it promises and raises stands at `Message.send`."""
        read = read_options(**options)
        output = self._writer.write(target, data, self._follow(read))
        copies, size = weigh(output.sends)
        if self._copies + copies > MOST_COPIES or self._size + size > MOST_BYTES:
            raise BatchTooLargeError(copies=self._copies + copies, size=self._size + size)
        if self._closed:
            raise LeanMQError(
                f"the handler of message {self._cause.id} has ended, so nothing can be sent with it any more",
                hint="send before it returns, or with a client",
            )
        self._copies, self._size = self._copies + copies, self._size + size
        self._outputs.append(output)
        return output.batch.drafts[0].id

    def close(self) -> tuple[Output, ...]:
        """Take what was sent; nothing more can be."""
        self._closed = True
        return tuple(self._outputs)

    def _follow(self, options: SendOptions) -> SendOptions:
        """An output belongs to the conversation of the message that caused it."""
        return replace(options, headers=inherit_headers(options.headers, self._cause))


def _select(record: AppliedRecord, name: str) -> dict[str, Any]:
    """Of a whole record what sending to one name needs, as `Inspector.read_addresses` would answer."""
    fields: dict[str, Any] = {}
    if name in record.addresses:
        fields[f"@{name}"] = record.addresses[name]
    for address in _addresses(record, name):
        if address in record.resources:
            fields[address] = record.resources[address]
    return fields


def _addresses(record: AppliedRecord, name: str) -> Iterator[str]:
    route = _spec(record, f"routes.{name}")
    yield f"routes.{name}"
    queues = [name, *(target["queue"] for target in route.get("to", ()))]
    if "queue" in route:
        queues.append(route["queue"])
    for queue in queues:
        yield f"queues.{queue}"
        yield from (f"messages.{kind}" for kind in _spec(record, f"queues.{queue}").get("accepts", ()))
    types = [*route.get("accepts", ()), *(route.get(part) for part in ("request", "reply", "error"))]
    yield from (f"messages.{kind}" for kind in types if kind)


def _spec(record: AppliedRecord, address: str) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = record.resources.get(address, {}).get("spec", {})
    return spec

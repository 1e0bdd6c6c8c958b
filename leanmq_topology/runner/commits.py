"""A success that sends: the acknowledgement and all its handler sent, in one step on the server.

Decides what to ask the server next and what its answer means; `Settlements` carries that out. No I/O here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from leanmq_topology.brokers.protocol import (
    Correspondent,
    Flush,
    Full,
    Inspector,
    Operation,
    OutputsSent,
    Reply,
    Settler,
    Stale,
)
from leanmq_topology.client.identity import Producer
from leanmq_topology.client.sender import (
    MOST_BYTES,
    MOST_COPIES,
    MOST_REFRESHES,
    keeps_changing,
    weigh,
)
from leanmq_topology.errors import BatchTooLargeError, LeanMQError, LeaseLostError, QueueFullError
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.outbox import Output, OutputWriter

Conclude = Callable[[LeanMQError | None], None]
"""Hears how it ended: None, done; `LeaseLostError`, somebody else's by now; else what made the run a failure.
Nothing was sent unless it is done."""


class OutputBroker(Settler, Inspector, Correspondent, Protocol):
    """The verbs a commit needs."""


class Producers:
    """Names to send under. Each has one commit under way: the server remembers only the last of a name."""

    def __init__(self) -> None:
        self._idle: list[Producer] = []

    def take(self) -> Producer:
        """The one used last comes first, so that few names are in use."""
        return self._idle.pop() if self._idle else Producer()

    def give_back(self, producer: Producer) -> None:
        self._idle.append(producer)


class Errand(Protocol):
    """Something to be done for one message, by as many operations as it takes. Any may be repeated."""

    settled: bool
    """Being done, it takes the message out of our hands."""

    @property
    def delivered(self) -> Delivered: ...
    def operation(self, broker: OutputBroker, consumer: str, producer: Producer) -> Operation[Any]:
        """What to ask the server next, under a name that nobody else sends by meanwhile."""
        ...

    def take(self, answer: Any) -> bool:
        """Go by the answer to `operation`, or by the error. True: it is over."""
        ...


class Commit:
    """One success on its way. Repeating `operation` after a lost answer is harmless."""

    settled = False
    """The message has left our hands: it is done, or somebody else's."""
    _flush: Flush | None = None
    _changed: Mapping[str, Stale] = {}
    """Targets that are to be read again before the next try."""
    _refreshes = 0

    def __init__(
        self,
        message: Incoming,
        outputs: Sequence[Output],
        writer: OutputWriter,
        conclude: Conclude,
        reply: Reply | None = None,
    ) -> None:
        self._message, self._writer, self._conclude, self._reply = message, writer, conclude, reply
        self._outputs = outputs

    @property
    def delivered(self) -> Delivered:
        """Its newest hand-out: what proves that it is still ours."""
        return self._message.delivered

    def operation(self, broker: OutputBroker, consumer: str, producer: Producer) -> Operation[Any]:
        """What to ask the server next."""
        if self._changed:
            return broker.read_addresses(list(self._changed))
        if self._flush is None:
            outputs = self._outputs
            sends = tuple([outgoing for output in outputs for outgoing in output.sends]) if outputs else ()
            self._flush = Flush(*producer.next(), sends, all_or_none=True)
        return broker.ack_with_outputs(consumer, self._message.delivered, self._flush, self._reply)

    def take(self, answer: OutputsSent | Mapping[str, Any] | LeanMQError) -> bool:
        """Go by the answer to `operation`. True: it is over, and who wants to know was told."""
        try:
            over = self._judge(answer)
        except LeanMQError as failure:
            self._conclude(failure)
            return True
        if over:
            self._conclude(None)
        return over

    def _judge(self, answer: OutputsSent | Mapping[str, Any] | LeanMQError) -> bool:
        if isinstance(answer, LeanMQError):
            raise answer
        if not isinstance(answer, OutputsSent):
            self._address_anew(answer)
            return False
        if not answer.ours:
            self.settled = True
            raise LeaseLostError(self.delivered.envelope.id)
        for result in answer.results:
            if isinstance(result, Full):
                raise QueueFullError(result.queue, result.max_length)
        if answer.results:
            self._changed = {result.target: result for result in answer.results if isinstance(result, Stale)}
        if self._changed:
            self._count_refresh()
        self.settled = not self._changed
        return self.settled

    def _count_refresh(self) -> None:
        self._refreshes += 1
        if self._refreshes > MOST_REFRESHES:
            target, stale = next(iter(self._changed.items()))
            if stale.digest is None:
                raise self._writer.view.not_applied(target, leaving=stale.leaving)
            raise keeps_changing(target)

    def _address_anew(self, fields: Mapping[str, Any]) -> None:
        for target, stale in self._changed.items():
            self._writer.view.learn(target, fields, leaving=stale.leaving)
        self._outputs = [
            Output(output.batch, self._writer.address(output.batch))
            if output.batch.target in self._changed
            else output
            for output in self._outputs
        ]
        copies, size = weigh([outgoing for output in self._outputs for outgoing in output.sends])
        if copies > MOST_COPIES or size > MOST_BYTES:
            raise BatchTooLargeError(copies=copies, size=size)
        self._changed, self._flush = {}, None

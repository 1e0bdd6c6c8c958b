"""Outcomes on their way to the server, in batches: what is decided in one turn of the loop travels together.

One batch is under way at a time and what is decided meanwhile gathers behind it, so batches grow with load:
an acknowledgement costs a fraction of a command. A batch that fails for want of a server is kept and tried
again; every settlement may be repeated without harm. What takes more than that is an `Errand`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from leanmq_topology.brokers.protocol import AsyncConnection, Dying, Operation, Retrying
from leanmq_topology.client.identity import Producer
from leanmq_topology.errors import BrokerFullError, BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.decision import DONE
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import Done, Dropped, MoveToDeadLetters, Outcome, Released, RetryLater
from leanmq_topology.runner.commits import Errand, OutputBroker, Producers
from leanmq_topology.runner.replies import refuse
from leanmq_topology.upkeep.outage import Outage, Pauses

logger = logging.getLogger("leanmq.runner")

LARGEST_ACK = 1000
LARGEST_MOVE = 100
"""Ids in one script call; moving a message carries its body, acknowledging it does not."""


class Settlement(msgspec.Struct, frozen=True):
    delivered: Delivered | Undecodable
    outcome: Outcome
    started: bool
    """Whether its handler was called: a hand-out that never ran does not count as an attempt."""
    late: bool = False
    """Its lease had lapsed by the time it was done."""


Settled = Callable[[Sequence[Settlement]], None]


class _Step(NamedTuple):
    """One operation and the settlements that it carries."""

    operation: Operation[Any]
    settlements: Sequence[Settlement]


class _Running(NamedTuple):
    """An errand under way, and the name it sends under."""

    errand: Errand
    producer: Producer


class Settlements:
    """`settled` hears of every settlement that is over: carried out, or given up on."""

    def __init__(
        self,
        broker: OutputBroker,
        connection: AsyncConnection,
        consumer: str,
        outage: Outage,
        settled: Settled,
    ) -> None:
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._outage, self._settled = outage, settled
        self._gathered: list[Settlement] = []
        self._errands: list[_Running] = []
        self._producers = Producers()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_cut_off = False

    def add(
        self, delivered: Delivered | Undecodable, outcome: Outcome, *, started: bool, late: bool = False
    ) -> None:
        """Settle this with the next batch."""
        self._gathered.append(Settlement(delivered, outcome, started, late))
        self._ring()

    def run_errand(self, errand: Errand) -> None:
        """Begin with the next batch, and go on until it is over."""
        self._errands.append(_Running(errand, self._producers.take()))
        self._ring()

    async def drained(self) -> None:
        """Return when everything added so far, and since, has been carried out."""
        await self._idle.wait()

    async def run(self) -> None:
        """Carry settlements out until cancelled."""
        pauses = Pauses()
        repeated = False
        while True:
            await self._wake.wait()
            batch, self._gathered = self._gathered, []
            errands, self._errands = self._errands, []
            self._wake.clear()
            kept = await self._carry_out(batch, errands, repeated=repeated)
            repeated = bool(kept)
            self._gathered[:0] = kept
            if self._gathered or self._errands:
                self._wake.set()
            if self._is_cut_off:
                await asyncio.sleep(pauses.seconds())
                continue
            pauses.reset()
            if not self._wake.is_set():
                self._idle.set()

    def _ring(self) -> None:
        if not self._wake.is_set():
            self._wake.set()
            self._idle.clear()

    async def _carry_out(
        self, batch: Sequence[Settlement], errands: Sequence[_Running], *, repeated: bool
    ) -> list[Settlement]:
        """Returns what is to be tried again."""
        steps = list(self._steps(batch))
        operations = [step.operation for step in steps]
        operations += [each.errand.operation(self._broker, self._consumer, each.producer) for each in errands]
        answers = await self._execute(operations)
        self._is_cut_off = False
        kept: list[Settlement] = []
        for step, answer in zip(steps, answers[: len(steps)], strict=True):
            if self._is_put_off(answer):
                kept.extend(step.settlements)
                continue
            if isinstance(answer, LeanMQError):
                _report_failure(step.operation, answer)
            elif not repeated:  # the first try may have done it, its answer lost
                _report_lost(step, answer)
            if not isinstance(answer, int):
                self._tell_clients(step, answer)
            self._settled(step.settlements)
        for each, answer in zip(errands, answers[len(steps) :], strict=True):
            if self._is_put_off(answer) or not self._is_over(each, answer):
                self._errands.append(each)
        return kept

    def _is_put_off(self, answer: Any) -> bool:
        """Whether there was no server that could do it; it is tried again."""
        if isinstance(answer, BrokerUnavailableError | BrokerFullError):
            self._outage.begin(answer)
            self._is_cut_off = True
            return True
        if isinstance(answer, BaseException) and not isinstance(answer, LeanMQError):
            raise answer
        return False

    def _is_over(self, running: _Running, answer: Any) -> bool:
        errand, producer = running
        if not errand.take(answer):
            return False
        self._producers.give_back(producer)
        if errand.settled:
            self._settled((Settlement(errand.delivered, DONE, started=True),))
        return True

    def _tell_clients(self, step: _Step, answer: Sequence[bool] | LeanMQError) -> None:
        """Who waits for a reply hears of a failure, once it is this worker that put the message away."""
        if isinstance(answer, LeanMQError):
            return
        for settlement, ours in zip(step.settlements, answer, strict=True):
            delivered = settlement.delivered
            refusal = refuse(delivered, settlement.outcome) if isinstance(delivered, Delivered) else None
            if refusal is not None and ours:
                self.run_errand(refusal)

    async def _execute(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        """All in one write; an answer may be an error."""
        if len(operations) > 1:
            return await asyncio.gather(*map(self._connection.execute, operations), return_exceptions=True)
        try:
            return [await self._connection.execute(operations[0])]
        except LeanMQError as failure:
            return [failure]

    def _steps(self, batch: Sequence[Settlement]) -> Iterator[_Step]:
        groups: defaultdict[tuple[str, type[Outcome]], list[Settlement]] = defaultdict(list)
        for settlement in batch:
            groups[settlement.delivered.queue, type(settlement.outcome)].append(settlement)
        for (queue, kind), group in groups.items():
            size = LARGEST_ACK if kind is Done else LARGEST_MOVE
            for start in range(0, len(group), size):
                part = group[start : start + size]
                yield _Step(self._operation(queue, kind, part), part)

    def _operation(self, queue: str, kind: type[Outcome], part: Sequence[Settlement]) -> Operation[Any]:
        if kind is Done:
            late = sum(item.late for item in part)
            return self._broker.ack(queue, [item.delivered.entry_id for item in part], late=late)
        if kind is RetryLater:
            return self._broker.retry(queue, self._consumer, list(_retrying(part)))
        if kind is MoveToDeadLetters:
            return self._broker.dead_letter(queue, self._consumer, list(_dying(part)))
        deliveries = [item.delivered for item in part if isinstance(item.delivered, Delivered)]
        if kind is Dropped:
            return self._broker.discard(queue, self._consumer, deliveries, expired=_expired(part))
        return self._broker.release(queue, self._consumer, deliveries)


def _report_failure(operation: Operation[Any], failure: LeanMQError) -> None:
    logger.error("%s failed: %s", operation.name, failure, extra={"event": "settle_failed"})


def _expired(part: Sequence[Settlement]) -> set[str]:
    return {
        item.delivered.entry_id for item in part if isinstance(item.outcome, Dropped) and item.outcome.expired
    }


def _retrying(part: Sequence[Settlement]) -> Iterator[Retrying]:
    for item in part:
        if isinstance(item.delivered, Delivered) and isinstance(item.outcome, RetryLater):
            yield Retrying(item.delivered, item.outcome.delay_ms)


def _dying(part: Sequence[Settlement]) -> Iterator[Dying]:
    for item in part:
        if isinstance(item.outcome, MoveToDeadLetters):
            yield Dying(item.delivered, item.outcome.reason, item.outcome.failure, item.started)


def _report_lost(step: _Step, answer: int | Sequence[bool]) -> None:
    """A success counts whoever owns the message by now; anything else is the new owner's to decide."""
    if isinstance(answer, int):
        _report_gone(step, answer)
        return
    for settlement, ours in zip(step.settlements, answer, strict=True):
        if not ours and not isinstance(settlement.outcome, Released):
            logger.warning(
                "the lease on %s (queue %s) was lost: its %s is left to its new owner",
                settlement.delivered.entry_id,
                settlement.delivered.queue,
                step.operation.name,
                extra={"event": "lease_lost", "queue": settlement.delivered.queue},
            )


def _report_gone(step: _Step, acknowledged: int) -> None:
    gone = len(step.settlements) - acknowledged
    if gone > 0:
        queue = step.settlements[0].delivered.queue
        logger.warning(
            "%d of %d acknowledged messages of queue %s were not there any more:"
            " settled by another worker that took them over, or purged",
            gone,
            len(step.settlements),
            queue,
            extra={"event": "late", "queue": queue},
        )

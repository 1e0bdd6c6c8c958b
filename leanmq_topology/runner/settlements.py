"""Outcomes on their way to the server, in batches: what is decided in one turn of the loop travels together.

One batch is under way at a time and what is decided meanwhile gathers behind it, so batches grow with load:
an acknowledgement costs a fraction of a command. A batch that fails for want of a server is kept and tried
again; every settlement may be repeated without harm. What takes more than that is an `Errand`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from leanmq_topology.brokers.protocol import AsyncConnection, Operation
from leanmq_topology.client.identity import Producer
from leanmq_topology.errors import BrokerFullError, BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.decision import DONE
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import Outcome, Released
from leanmq_topology.runner.commits import Errand, OutputBroker, Producers
from leanmq_topology.settling import Settlement, Step, plan_settlements
from leanmq_topology.upkeep.outage import Outage, Pauses

logger = logging.getLogger("leanmq.runner")

Settled = Callable[[Sequence[Settlement]], None]


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
        steps = list(plan_settlements(self._broker, self._consumer, batch))
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

    async def _execute(self, operations: Sequence[Operation[Any]]) -> Sequence[Any]:
        """All in one write; an answer may be an error."""
        if len(operations) > 1:
            return await asyncio.gather(*map(self._connection.execute, operations), return_exceptions=True)
        try:
            return [await self._connection.execute(operations[0])]
        except LeanMQError as failure:
            return [failure]


def _report_failure(operation: Operation[Any], failure: LeanMQError) -> None:
    logger.error("%s failed: %s", operation.name, failure, extra={"event": "settle_failed"})


def _report_lost(step: Step, answer: int | Sequence[bool]) -> None:
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


def _report_gone(step: Step, acknowledged: int) -> None:
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

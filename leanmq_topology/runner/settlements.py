"""Outcomes on their way to the server, in batches: what is decided in one turn of the loop travels together.

One batch is under way at a time and what is decided meanwhile gathers behind it, so batches grow with load:
an acknowledgement costs a fraction of a command. After a large batch, acknowledgements gather for a little
longer while more is sure to come: a batch costs the server six commands whatever its size. A batch that fails
for want of a server is kept and tried again; every settlement may be repeated without harm. What takes more
than that is an `Errand`; one that comes while nothing is under way leaves at once, as somebody may wait for
its reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from leanmq_topology.brokers.protocol import AsyncConnection, Operation, carry_out_all
from leanmq_topology.client.identity import Producer
from leanmq_topology.errors import BrokerFullError, BrokerUnavailableError, LeanMQError
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import Done, Outcome, Released
from leanmq_topology.runner.commits import Errand, OutputBroker, Producers
from leanmq_topology.settling import (
    Acknowledgement,
    Settlement,
    Step,
    plan_acknowledgements,
    plan_settlements,
)
from leanmq_topology.upkeep.outage import Outage, Pauses

logger = logging.getLogger("leanmq.runner")

LARGE_BATCH = 64
"""Acknowledgements in one batch that show a worker to be busy."""
ENOUGH = 256
"""Acknowledgements that leave at once: half of what a busy worker holds with them."""
GATHER_SECONDS = 0.003
"""How long fewer than that wait for more."""

Settled = Callable[[str, Sequence[str]], None]
"""Hears of a queue and of its entries that have left our hands."""


class _Running(Struct, frozen=True):
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
        more_comes: Callable[[], bool] = lambda: False,
    ) -> None:
        """`more_comes` tells whether there is anything left to run."""
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._more_comes = more_comes
        self._outage, self._settled = outage, settled
        self._done: defaultdict[str, list[str]] = defaultdict(list)
        """By queue the entries to acknowledge."""
        self._late: Counter[str] = Counter()
        """By queue how many of these were late."""
        self._gathered: list[Settlement] = []
        self._errands: list[_Running] = []
        self._producers = Producers()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rung = False
        self._left_before = 0
        """How many acknowledgements left with the last batch."""
        self._timer: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._is_cut_off = False
        self._is_carrying = False
        """A batch is under way."""
        self._hurrying: _Running | None = None
        """An errand that left at once, and its answer is not there yet."""
        self._mistake: Exception | None = None
        """Of ours, made beside `run`."""

    def acknowledge(self, queue: str, entry_ids: Sequence[str]) -> None:
        """Settle successes with the next batch."""
        self._done[queue] += entry_ids
        if not self._rung:
            self._ring()

    def add(
        self, delivered: Delivered | Undecodable, outcome: Outcome, *, started: bool, late: bool = False
    ) -> None:
        """Settle this with the next batch."""
        if isinstance(outcome, Done):
            self._late[delivered.queue] += late
            self.acknowledge(delivered.queue, (delivered.entry_id,))
            return
        self._gathered.append(Settlement(delivered, outcome, started, late))
        self._ring()

    def run_errand(self, errand: Errand) -> None:
        """Begin in this very turn of the loop if nothing is under way, else with the next batch; go on until
        it is over.
        """
        running = _Running(errand, self._producers.take())
        if not self._idle.is_set():
            self._errands.append(running)
            self._ring()
            return
        self._hurrying = running
        try:
            self._connection.begin(self._next_step(running), self._hear_hurrying)
        except Exception as mistake:
            self._hear_hurrying(mistake)
        else:
            self._idle.clear()

    async def drained(self) -> None:
        """Return when everything added so far, and since, has been carried out."""
        await self._idle.wait()

    async def run(self) -> None:
        """Carry settlements out until cancelled."""
        pauses = Pauses()
        repeated = False
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._rung = False
            if self._mistake is not None:
                raise self._mistake
            if self._may_gather():
                self._start_timer()
                continue
            self._is_carrying = True
            repeated = await self._carry_out(repeated=repeated)
            self._is_carrying = False
            if self._done or self._gathered or self._errands:
                self._ring()
            if self._is_cut_off:
                await asyncio.sleep(pauses.seconds())
                continue
            pauses.reset()
            self._rest_if_done()

    def _ring(self) -> None:
        self._rung = True
        self._wake.set()
        self._idle.clear()

    def _rest_if_done(self) -> None:
        if not (self._rung or self._done or self._hurrying):
            self._idle.set()

    def _hear_hurrying(self, answer: Any) -> None:
        """A success is all there is to say; with anything else it goes on with the next batch."""
        running, self._hurrying = self._hurrying, None
        assert running is not None
        try:
            goes_on = isinstance(answer, Exception) or not self._is_over(running, answer)
        except Exception as mistake:
            self._mistake, goes_on = mistake, True
        if goes_on:
            self._errands.append(running)
            self._ring()
        elif not self._is_carrying:
            self._rest_if_done()

    def _next_step(self, running: _Running) -> Operation[Any]:
        return running.errand.operation(self._broker, self._consumer, running.producer)

    def _may_gather(self) -> bool:
        """Whether all there is to settle are acknowledgements that others will soon join."""
        if self._is_overdue or self._left_before < LARGE_BATCH or self._gathered or self._errands:
            return False
        return sum(map(len, self._done.values())) < ENOUGH and self._more_comes()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._end_gathering)

    def _end_gathering(self) -> None:
        self._is_overdue = True
        self._ring()

    def _stop_timer(self) -> None:
        self._is_overdue = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _carry_out(self, *, repeated: bool) -> bool:
        """Settle what has gathered. True if some of it has to be tried again, in `repeated` tries too."""
        acknowledgements, steps = self._take_acknowledgements(), self._take_steps()
        errands, self._errands = self._errands, []
        operations: list[Operation[Any]] = [each.operation for each in acknowledgements]
        operations += [each.operation for each in steps]
        operations += map(self._next_step, errands)
        answers = iter(await carry_out_all(self._connection, operations))
        self._is_cut_off = False
        put_off = [self._conclude_acknowledgement(each, next(answers), repeated) for each in acknowledgements]
        put_off += [self._conclude_step(each, next(answers), repeated) for each in steps]
        for each, answer in zip(errands, answers, strict=True):
            if self._is_put_off(answer) or not self._is_over(each, answer):
                self._errands.append(each)
        return any(put_off)

    def _take_acknowledgements(self) -> list[Acknowledgement]:
        done, self._done = self._done, defaultdict(list)
        late, self._late = self._late, Counter()
        self._left_before = sum(map(len, done.values()))
        self._stop_timer()
        return [
            each
            for queue, entry_ids in done.items()
            for each in plan_acknowledgements(self._broker, queue, entry_ids, late[queue])
        ]

    def _take_steps(self) -> list[Step]:
        batch, self._gathered = self._gathered, []
        return list(plan_settlements(self._broker, self._consumer, batch)) if batch else []

    def _conclude_acknowledgement(
        self, done: Acknowledgement, answer: int | LeanMQError, repeated: bool
    ) -> bool:
        """True: it has to be tried again."""
        if self._is_put_off(answer):
            self._done[done.queue][:0] = done.entry_ids
            self._late[done.queue] += done.late
            return True
        if isinstance(answer, LeanMQError):
            _report_failure(done.operation, answer)
        elif answer < len(done.entry_ids) and not repeated:  # the first try may have done it, its answer lost
            _report_gone(done, answer)
        self._settled(done.queue, done.entry_ids)
        return False

    def _conclude_step(self, step: Step, answer: Sequence[bool] | LeanMQError, repeated: bool) -> bool:
        """True: it has to be tried again."""
        if self._is_put_off(answer):
            self._gathered[:0] = step.settlements
            return True
        if isinstance(answer, LeanMQError):
            _report_failure(step.operation, answer)
        elif not repeated:
            _report_lost(step, answer)
        delivered = [settlement.delivered for settlement in step.settlements]
        self._settled(delivered[0].queue, [each.entry_id for each in delivered])
        return False

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
        errand = running.errand
        if not errand.take(answer):
            return False
        self._producers.give_back(running.producer)
        if errand.settled:
            self._settled(errand.delivered.queue, (errand.delivered.entry_id,))
        return True


def _report_failure(operation: Operation[Any], failure: LeanMQError) -> None:
    logger.error("%s failed: %s", operation.name, failure, extra={"event": "settle_failed"})


def _report_lost(step: Step, answer: Sequence[bool]) -> None:
    """A success counts whoever owns the message by now; anything else is the new owner's to decide."""
    for settlement, ours in zip(step.settlements, answer, strict=True):
        if not ours and not isinstance(settlement.outcome, Released):
            logger.warning(
                "the lease on %s (queue %s) was lost: its %s is left to its new owner",
                settlement.delivered.entry_id,
                settlement.delivered.queue,
                step.operation.name,
                extra={"event": "lease_lost", "queue": settlement.delivered.queue},
            )


def _report_gone(done: Acknowledgement, acknowledged: int) -> None:
    logger.warning(
        "%d of %d acknowledged messages of queue %s were not there any more:"
        " settled by another worker that took them over, or purged",
        len(done.entry_ids) - acknowledged,
        len(done.entry_ids),
        done.queue,
        extra={"event": "late", "queue": done.queue},
    )

"""Reads for all queues of a worker over one connection of its own.

As long as there is little to do, one blocking read waits for all queues that have room. A queue with a
backlog gets a read of its own beside it, so that it is asked for as much as it has room for while the others
are asked for what they have: COUNT holds for every queue of a read, and one queue with little room must not
throttle the rest. The next read of a backlog is under way while what the last one brought is run.

An answer is taken in, and run as far as nothing waits, in the very callback that its bytes come in with, and
the next read leaves from there: a message on its own waits for no turn of the loop. The task only begins, and
sees to what has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from leanmq_topology.brokers.protocol import AsyncConnection, Operation, Receiver
from leanmq_topology.errors import BrokerError, BrokerUnavailableError, TopologyNotAppliedError
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.prefetch import LARGEST
from leanmq_topology.upkeep.outage import Outage, Pauses
from leanmq_topology.upkeep.recovery import recover_own
from leanmq_topology.upkeep.steps import carry_out_async

logger = logging.getLogger("leanmq.runner")

BLOCK_MS = 5_000
LARGEST_READ = LARGEST // 2
"""Half of what a worker holds at most of a queue: one half is run while the other is on its way. With the
whole in one read, server and worker would wait for each other in turns."""
SUSPENDED_SECONDS = 1.0
"""How long a queue that could not be read is left out of the reads, unless a look at it says more."""
UNBLOCK_SECONDS = 0.05
"""How often a read that is to end is told so: it may just not have reached the server yet."""

Arrived = Sequence[Delivered | Undecodable]


class Read(Struct, frozen=True):
    """One fetch: these queues, so many messages of each, waiting so long for the first."""

    lanes: Sequence[Lane]
    count: int
    block_ms: int


def plan_reads(lanes: Iterable[Lane]) -> list[Read]:
    """What to ask the server for next; empty when no queue has room."""
    hungry = [lane for lane in lanes if lane.hungry]
    busy = [lane for lane in hungry if lane.backlogged]
    quiet = [lane for lane in hungry if not lane.backlogged]
    groups = [[lane] for lane in busy] + ([quiet] if quiet else [])
    block_ms = BLOCK_MS if len(groups) == 1 else 0
    return [Read(group, min(*(lane.room for lane in group), LARGEST_READ), block_ms) for group in groups]


class Reader:
    def __init__(
        self,
        broker: Receiver,
        connection: AsyncConnection,
        control: AsyncConnection,
        consumer: str,
        lanes: Sequence[Lane],
        outage: Outage,
        look_soon: Callable[[], None],
        *,
        takes_new: bool = True,
    ) -> None:
        """`control` is another connection, to end a read that waits.

        `look_soon` is called when a queue cannot be read: somebody who watches them is to look at all.
        Unless it `takes_new` messages it only finds again what was handed to us in an answer that was lost.
        """
        self._broker, self._consumer = broker, consumer
        self._connection, self._control = connection, control
        self._lanes = {lane.name: lane for lane in lanes}
        for lane in lanes:
            lane.end_read = self.plan_anew
        self._outage, self._look_soon = outage, look_soon
        self._takes_new = takes_new
        self._said = ""
        self._pauses = Pauses()
        self._room = asyncio.Event()
        self._over: asyncio.Future[None] | None = None
        """Reads follow one another until this is done."""
        self._unheard = 0
        """Of the reads under way how many have no answer yet."""
        self._failed: Exception | None = None
        """What the first of them that failed met."""
        self._fed: list[Lane] = []
        """Lanes for which they have brought something."""
        self._fetch: Operation[Arrived] | None = None
        self._fetches: tuple[Sequence[str], int, int] | None = None
        """What was asked for last, and what it stands for: most often the same is asked for again."""
        self._left_out: Sequence[Lane] = ()
        self.read_at: float | None = None
        """When the last read was answered, in monotonic seconds."""
        self._waiting = False
        self._unblocking: asyncio.Task[bool] | None = None
        self._stopping = False
        self._suspect = False
        """An answer was lost: messages may be ours without our knowing."""

    async def run(self) -> None:
        """Read until told to stop."""
        while not self._stopping:
            try:
                while self._suspect:  # another answer may get lost while what was lost is looked for
                    await self._recover()
                    self._outage.end()
                await self._read_on()
            except BrokerUnavailableError as failure:
                self._note_loss()
                self._outage.begin(failure)
                await asyncio.sleep(self._pauses.seconds())
            except TopologyNotAppliedError as failure:
                self._suspend(failure)
                await asyncio.sleep(self._pauses.seconds())
            except BrokerError as failure:
                self._report(failure)
                await asyncio.sleep(self._pauses.seconds())

    async def stop(self, running: asyncio.Task[None]) -> None:
        """End the read that waits; return when `running` (the task of `run`) is over.

        What that read still brought has been handed to its lane by then.
        """
        self._stopping = True
        self._room.set()
        while not running.done():
            await self.unblock()
            await asyncio.wait([running], timeout=UNBLOCK_SECONDS)

    def make_room_known(self) -> None:
        """A queue has room again: read it too, now."""
        self._room.set()
        if self._waiting and self._unblocking is None and any(lane.hungry for lane in self._left_out):
            self._unblock_soon()

    def plan_anew(self) -> None:
        """Other queues are to be read than when the read under way began."""
        self._room.set()
        if self._waiting and self._unblocking is None:
            self._unblock_soon()

    def recover_soon(self) -> None:
        """An answer on another connection was lost that may have brought messages."""
        self._note_loss()
        self.plan_anew()

    async def unblock(self) -> bool:
        """End the read that waits, if one does."""
        try:
            return await self._control.execute(self._broker.end_fetch(self._connection.connection_id))
        except BrokerError:
            return False  # the reader will notice by itself

    def _unblock_soon(self) -> None:
        self._unblocking = asyncio.create_task(self.unblock())
        self._unblocking.add_done_callback(self._unblocked)

    def _unblocked(self, task: asyncio.Task[bool]) -> None:
        self._unblocking = None

    async def _read_on(self) -> None:
        """Read as long as there is room, waiting for some first. Raises what a read failed with."""
        reads = self._plan()
        if not reads:
            await self._wait_for_room()
            return
        self._over = asyncio.get_running_loop().create_future()
        self._begin(reads)
        try:
            await self._over
        finally:
            self._waiting = False

    def _plan(self) -> list[Read]:
        lanes = self._lanes.values()
        reads = plan_reads(lanes) if self._takes_new else []
        asked = {lane.name for read in reads for lane in read.lanes}
        self._left_out = [lane for lane in lanes if lane.name not in asked]
        return reads

    def _begin(self, reads: Sequence[Read]) -> None:
        """Have these leave in one write. One that fails does not take along what others bring."""
        self._unheard, self._failed = len(reads), None
        self._waiting = reads[0].block_ms > 0
        for read in reads:
            for lane in read.lanes:
                lane.awaited = read.count
        self._connection.begin_all([(self._fetch_for(read), partial(self._hear, read)) for read in reads])

    def _hear(self, read: Read, answer: Arrived | Exception) -> None:
        """Called in the turn of the loop in which it comes in. A mistake made here ends the task."""
        if self._over is None or self._over.done():
            return
        try:
            self._unheard -= 1
            if isinstance(answer, Exception):
                self._failed = self._failed or answer
                self._note_failure(read, answer)
            else:
                self._take_in(read, answer)
            if not self._unheard:
                self._waiting = False
                self._run_and_ask(self._over)
        except Exception as mistake:
            if self._over.done():
                raise
            self._over.set_exception(mistake)

    def _run_and_ask(self, over: asyncio.Future[None]) -> None:
        """Run what has come, then ask for more; the other way round where much has come."""
        fed, self._fed = self._fed, []
        if len(fed) == 1 and not fed[0].backlogged:
            fed.pop().start()
        if self._failed is None:
            self._note_success()
            self._ask(over)
        else:
            over.set_exception(self._failed)
        for lane in fed:
            lane.start()

    def _ask(self, over: asyncio.Future[None]) -> None:
        reads = () if self._stopping or self._suspect else self._plan()
        if reads:
            self._begin(reads)
        else:
            over.set_result(None)

    def _note_failure(self, read: Read, failure: Exception) -> None:
        """Without an answer nobody knows what it has brought until that is looked up."""
        self._fetch = None
        if not isinstance(failure, BrokerUnavailableError):
            _end_wait(read.lanes)

    def _note_success(self) -> None:
        self.read_at = time.monotonic()
        self._said = ""
        self._outage.end()
        self._pauses.reset()

    def _note_loss(self) -> None:
        self._suspect = True
        for lane in self._lanes.values():
            lane.unsure = True

    async def _wait_for_room(self) -> None:
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SUSPENDED_SECONDS):
                await self._room.wait()

    def _suspend(self, failure: TopologyNotAppliedError) -> None:
        """A queue is gone: leave it out for a while, so that the others go on."""
        self._look_soon()
        for address in failure.missing:
            lane = self._lanes.get(address.removeprefix("queues."))
            if lane is not None:
                lane.suspend(SUSPENDED_SECONDS)

    def _report(self, failure: BrokerError) -> None:
        """Once, until something was read again."""
        self._look_soon()
        if failure.message != self._said:
            self._said = failure.message
            logger.error("reading failed: %s", failure, extra={"event": "read_failed"})

    def _fetch_for(self, read: Read) -> Operation[Arrived]:
        asked = [lane.name for lane in read.lanes], read.count, read.block_ms
        if self._fetch is None or self._fetches != asked:
            names, count, block_ms = self._fetches = asked
            self._fetch = self._broker.fetch(names, self._consumer, count=count, block_ms=block_ms)
        return self._fetch

    def _take_in(self, read: Read, arrived: Arrived) -> None:
        if not arrived:
            self._fetch = None  # a queue may turn out to lie elsewhere: what is asked for is made anew
        if len(read.lanes) == 1:
            self._feed(read.lanes[0], arrived, read.count)
        else:
            by_queue = _sort_by_queue(arrived)
            for lane in read.lanes:
                self._feed(lane, by_queue.get(lane.name, ()), read.count)

    def _feed(self, lane: Lane, brought: Arrived, asked: int) -> None:
        """Hand over what a read has brought, and say that there may be room now for what is owed."""
        lane.backlogged = len(brought) >= asked
        if brought:
            lane.take_in(brought)
            self._fed.append(lane)
        lane.awaited = 0
        if lane.owed:
            lane.tell_of_room()

    async def _recover(self) -> None:
        """Take in what was handed to us in an answer that never came. Nothing is being read meanwhile."""
        self._suspect = False  # whatever gets lost from now on makes it so again
        for lane in self._lanes.values():
            try:
                course = recover_own(self._broker, lane.name, self._consumer, lane.held.copy, lane.take)
                await carry_out_async(course, self._connection)
            except BrokerUnavailableError:
                raise
            except (TopologyNotAppliedError, BrokerError):
                lane.suspend(SUSPENDED_SECONDS)  # what was on it is gone with it
                self._look_soon()
        if not self._suspect:
            for lane in self._lanes.values():
                lane.unsure = False
            _end_wait(self._lanes.values())


def _end_wait(lanes: Iterable[Lane]) -> None:
    """All that a read has brought is taken in; there may be room now for what is owed."""
    for lane in lanes:
        lane.awaited = 0
        if lane.owed:
            lane.tell_of_room()


def _sort_by_queue(arrived: Arrived) -> Mapping[str, Arrived]:
    found: defaultdict[str, list[Delivered | Undecodable]] = defaultdict(list)
    for item in arrived:
        found[item.queue].append(item)
    return found

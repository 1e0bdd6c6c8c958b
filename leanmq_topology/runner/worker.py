"""One worker process: its parts put together, kept running, and taken down without losing a message.

The reader hands what it read to lanes, one a queue; a lane's crew runs each message through its pipeline, and
the outcome leaves by the settlements. Leases are renewed and upkeep is done beside all that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from leanmq_topology.brokers.connect import AsyncLink, open_blocking
from leanmq_topology.brokers.examination import insist
from leanmq_topology.brokers.protocol import AppliedRecord, Part, Upkeep
from leanmq_topology.client.consuming.naming import new_consumer_name
from leanmq_topology.clock import system_clock
from leanmq_topology.errors import LeanMQError, LifespanError
from leanmq_topology.plan.ownership import refuse_owner
from leanmq_topology.runner.applied import (
    Applied,
    check_applied,
    find_lost_queues,
    list_differences,
    read_applied,
)
from leanmq_topology.runner.doorbell import Doorbell
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.leases import LeaseKeeper
from leanmq_topology.runner.loop_watch import LoopWatch
from leanmq_topology.runner.marks import Marker
from leanmq_topology.runner.pulse import Pulse
from leanmq_topology.runner.reader import Reader
from leanmq_topology.runner.report import Report
from leanmq_topology.runner.settlements import Settlements
from leanmq_topology.runner.upkeep import Maintenance
from leanmq_topology.runner.workshop import Workshop
from leanmq_topology.topology.model import Topology
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.promotion import maintain
from leanmq_topology.upkeep.steps import carry_out_async
from leanmq_topology.upkeep.watch import Watch

logger = logging.getLogger("leanmq.runner")

DRAIN_SECONDS = 25.0
SETTLE_SECONDS = 5.0
"""How long the last settlements may take once nothing runs any more."""
CANCEL_SECONDS = 1.0
"""How long a handler that was cancelled may take to end."""


class Ended(Struct, frozen=True):
    """How a worker ended."""

    clean: bool
    """Everything that was read is settled or handed back."""
    summary: str
    tainted: str | None = None
    """Why this process cannot go on: a handler hangs in it that nothing can end. It is to be replaced at
    once; that is no crash, so no penalty."""


class Worker:
    """Runs handlers until told to stop. `handlers` are loaded; `link` is open and stays the caller's."""

    def __init__(
        self,
        topology: Topology,
        handlers: Mapping[str, LoadedHandler],
        link: AsyncLink,
        *,
        drain_seconds: float = DRAIN_SECONDS,
        marker: Marker | None = None,
        generation: int = 1,
        part: Part = Part.ALL,
    ) -> None:
        """`marker` hears of every message that starts; `generation` is for display.

        `part` is what it takes over from others. With `Part.SUSPECT` it does nothing else: it reads nothing
        new, and has one message in hand at a time.
        """
        self.name = new_consumer_name()
        self._part = part
        self._topology, self._handlers, self._link = topology, handlers, link
        self._drain_seconds = drain_seconds
        self._broker, self._connection = link.broker, link.connection
        self._clock, self._outage = ServerClock(), Outage()
        self.pulse = Pulse(time.monotonic())
        """What is done now and then while there is nothing to do is done on its beats."""
        self._lanes: dict[str, Lane] = {}
        self._reader: Reader | None = None
        self._upkeep: Maintenance | None = None
        self._tainted: str | None = None
        self.on_taint: Callable[[str], None] = lambda reason: None
        """Called when this process has to be replaced, as soon as that is known."""
        self.on_suspected: Callable[[Sequence[str]], None] = lambda queues: None
        """Called with queues that hold what may have taken a worker down, as long as they do."""
        self._failed: LifespanError | None = None
        self._stop = asyncio.Event()
        self._empty = asyncio.Event()
        self.report = Report(
            self._broker, self._connection, self.name, self._lanes, handlers, self._clock, self._outage,
            self._stop.is_set, generation=generation, part=part,
        )  # fmt: skip
        self._settlements = Settlements(
            self._broker, self._connection, self.name, self._outage, self._note_settled, self._more_comes
        )
        self._workshop = Workshop(
            topology, handlers, link, marker, self._clock.now_ms,
            forgotten=self._empty.set, stuck=self._taint, turned=self._make_room_known,
        )  # fmt: skip

    @property
    def busy(self) -> bool:
        """Whether it has anything in hand."""
        return any(lane.held for lane in self._lanes.values())

    def stop(self) -> None:
        """Drain and end. Calling it twice is harmless."""
        self._stop.set()

    async def run(self, ready: Callable[[], None] = lambda: None) -> Ended:
        """Handle messages until `stop`; `ready` is called when reading begins.

        Raises `TopologyNotAppliedError` if a queue or type of these handlers was never applied, and
        `BrokerError` if the server cannot be reached at the start, or would delete messages unseen. Later
        outages are waited for.
        """
        examination = await self._connection.execute(self._broker.examine(system_clock()))
        insist(examination, (), where=self._link.url)
        applied = await self._read_applied()
        queues = list(self._queues())
        first_round = maintain(self._broker, queues, self.name, self._clock)
        seen = await carry_out_async(first_round, self._connection)
        async with contextlib.AsyncExitStack() as resources:
            if not await self._workshop.open(resources, self._stop, self._fail):
                return Ended(True, self.report.counters.summary())
            self._lanes.update(self._workshop.build_lanes(applied, self._settlements))
            if self._part is Part.SUSPECT:
                for lane in self._lanes.values():
                    lane.neighbours = list(self._lanes.values())
            leases = await self._start_leases(resources)
            loop_watch = LoopWatch(self._topology.folder, lambda: self.busy, self.pulse)
            resources.callback(loop_watch.stop)
            loop_watch.start()
            reading = await self._link.open_another()
            resources.push_async_callback(reading.close)
            lanes = list(self._lanes.values())
            watch = Watch(self._broker, self.name, lanes, self._plan_reads_anew, self._part)
            await carry_out_async(watch.look(), self._connection)
            watch.on_suspected = self.on_suspected
            self._reader = Reader(
                self._broker, reading, self._connection, self.name, lanes, self._outage, watch.look_soon,
                takes_new=self._part is not Part.SUSPECT,
            )  # fmt: skip
            bell = Doorbell(self._broker, self._link.open_listener)
            self._upkeep = self._maintenance(watch, seen, lanes, bell, self._reader.recover_soon)
            self.report.begin(self._reader, watch, self._upkeep)
            for lane in lanes:
                lane.on_taken, lane.on_begun = loop_watch.wake, self._upkeep.hurry
            return await self._run_parts(self._reader, self._upkeep, bell, leases, ready)

    async def _run_parts(
        self,
        reader: Reader,
        upkeep: Maintenance,
        bell: Doorbell,
        leases: LeaseKeeper,
        ready: Callable[[], None],
    ) -> Ended:
        await self.report.beat()
        settling = asyncio.create_task(self._settlements.run(), name="settlements")
        keeping = asyncio.create_task(upkeep.run(), name="upkeep")
        reading = asyncio.create_task(reader.run(), name="reader")
        listening = asyncio.create_task(bell.run(), name="doorbell")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        parts = [settling, keeping, reading, listening]
        try:
            ready()  # before the tasks get their first turn, so that no handler speaks earlier
            await asyncio.wait([*parts, stopping], return_when=asyncio.FIRST_COMPLETED)
            _raise_failure(parts)
            upkeep.stop()
            await asyncio.wait([keeping], timeout=SETTLE_SECONDS)
            await reader.stop(reading)
            clean = await self._drain()
            await self._leave()
            if self._failed is not None:
                raise self._failed
            return Ended(clean, self.report.counters.summary(), self._tainted)
        except BaseException:
            await self._abort_crews()  # nothing drained them, and their tasks outlive being cancelled
            raise
        finally:
            leases.stop()
            await _cancel(*parts, stopping)

    # -- stopping ---------------------------------------------------------------------------------------

    async def _drain(self) -> bool:
        """Hand back what has not started, let the rest end in time; True if nothing is left behind."""
        released = sum(lane.release_unstarted() for lane in self._lanes.values())
        running = sum(lane.running for lane in self._lanes.values())
        if running or released:
            logger.info(
                "draining: %d running, %d handed back unstarted", running, released, extra={"event": "drain"}
            )
        ended = await _within(self._drain_seconds, self._all_settled())
        if not ended:
            logger.warning(
                "%d handlers did not end within %g s and are given up; their messages are due again at once",
                sum(lane.running for lane in self._lanes.values()),
                self._drain_seconds,
                extra={"event": "drain_exceeded"},
            )
        # Also after a clean end: idle tasks and threads would wait for work that never comes.
        await self._abort_crews()
        return await _within(SETTLE_SECONDS, self._settlements.drained()) and ended

    async def _abort_crews(self) -> None:
        await asyncio.gather(*(lane.crew.abort(CANCEL_SECONDS) for lane in self._lanes.values()))

    async def _all_settled(self) -> None:
        while any(lane.held for lane in self._lanes.values()):
            self._empty.clear()
            await self._empty.wait()

    async def _leave(self) -> None:
        with contextlib.suppress(LeanMQError):
            await self._connection.execute(self._broker.leave(self.name, list(self._lanes)))

    def _fail(self, failure: LifespanError) -> None:
        """What handlers share is gone: end what runs, then say so."""
        logger.error("%s; draining", failure, extra={"event": "lifespan_failed"})
        self._failed = failure
        self.stop()

    def _taint(self, reason: str) -> None:
        """A run was given up and goes on all the same: stop, so that a fresh process takes over."""
        logger.error(
            "%s; its message is retried, and this worker stops to be replaced", reason,
            extra={"event": "tainted", "worker": self.name},
        )  # fmt: skip
        if self._tainted is None:
            self._tainted = reason
            self.on_taint(reason)
        self.stop()

    # -- what the parts report --------------------------------------------------------------------------

    def _note_settled(self, queue: str, entry_ids: Sequence[str]) -> None:
        lane = self._lanes.get(queue)
        if lane is not None:
            lane.settled(entry_ids)
        self._empty.set()
        self._make_room_known()

    def _more_comes(self) -> bool:
        """Whether there is more to run, or to read where there is room for it."""
        lanes = self._lanes.values()
        return any(
            lane.crew.unstarted or (lane.backlogged and (lane.awaited or lane.room > 0)) for lane in lanes
        )

    def _make_room_known(self) -> None:
        if self._reader is not None:
            self._reader.make_room_known()

    def _plan_reads_anew(self) -> None:
        if self._reader is not None:
            self._reader.plan_anew()

    async def _adopt_generation(self) -> None:
        """Somebody applied: go by the new limits and schemas. A queue that is gone is left to the reader."""
        record = await self._connection.execute(self._broker.read_record())
        applied = await self._complete(record)
        for lane in self._lanes.values():
            if lane.name in applied.queues:
                lane.pipeline = self._workshop.build_pipeline(lane.handler, applied)
        logger.info(
            "generation %d was applied; going by it", record.generation, extra={"event": "generation"}
        )

    # -- building ---------------------------------------------------------------------------------------

    async def _read_applied(self) -> Applied:
        record = await self._connection.execute(self._broker.read_record())
        if record.owner is not None:
            refuse_owner(record.owner, self._topology.name, self._topology.broker.namespace)
        check_applied(record, self._topology, self._queues())
        differing = list_differences(record, self._topology)
        if differing:
            shown = ", ".join(differing[:5]) + (", …" if len(differing) > 5 else "")
            logger.warning(
                "the file differs from what is applied, which is what counts: %s (`leanmq plan` shows how)",
                shown,
                extra={"event": "differs"},
            )
        return await self._complete(record)

    async def _complete(self, record: AppliedRecord) -> Applied:
        """With what the record does not say: whether what is lost of it went with a queue that drains."""
        lost = find_lost_queues(record, self._topology)
        states = await self._connection.execute(self._broker.inspect_queues(lost)) if lost else ()
        return read_applied(record, self._topology, states)

    def _queues(self) -> list[str]:
        return [handler.declared.queue for handler in self._handlers.values()]

    def _maintenance(
        self,
        watch: Watch,
        seen: Upkeep,
        lanes: Sequence[Lane],
        bell: Doorbell,
        claim_lost: Callable[[], None],
    ) -> Maintenance:
        return Maintenance(
            self._broker,
            self._connection,
            self.name,
            lanes,
            self._clock,
            self._outage,
            watch,
            seen,
            self._adopt_generation,
            self.report.beat,
            self._make_room_known,
            self._part,
            bell,
            claim_lost,
            self.pulse,
        )

    async def _start_leases(self, resources: contextlib.AsyncExitStack) -> LeaseKeeper:
        namespace, folder = self._topology.broker.namespace, self._topology.folder
        link = await asyncio.to_thread(
            open_blocking,
            self._link.server_url,
            namespace=namespace,
            folder=folder,
            client_name="leanmq-leases",
        )
        leases = LeaseKeeper(self._broker, link.connection, self.name, list(self._lanes.values()), Lane.lose)
        resources.callback(leases.stop)
        leases.start()
        return leases


def _raise_failure(parts: Sequence[asyncio.Task[None]]) -> None:
    """A part that ended by itself met a mistake of ours; going on without it would look like working."""
    for part in parts:
        if part.done() and not part.cancelled() and (failure := part.exception()) is not None:
            raise failure


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _within(seconds: float, waited_for: Any) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await waited_for
    except TimeoutError:
        return False
    return True

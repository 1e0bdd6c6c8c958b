"""What somebody has to do now and then: move due messages, take over lapsed leases, learn the server's time.

Every worker does it; there is no leader. Two that do it at once do no harm: each step is atomic, and the one
that moves due messages is left alone by the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from leanmq_topology.brokers.protocol import AsyncConnection, Broker, Part, Upkeep
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.runner.doorbell import Doorbell
from leanmq_topology.runner.handover import HandOver
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.pulse import Pulse
from leanmq_topology.upkeep.checkup import CheckUp
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.complaints import Complaints
from leanmq_topology.upkeep.outage import Outage, Pauses
from leanmq_topology.upkeep.promotion import TICK_SECONDS, WORK_SECONDS, Promotion
from leanmq_topology.upkeep.scan import FRONT, Scan
from leanmq_topology.upkeep.steps import Steps, carry_out_async, carry_out_together
from leanmq_topology.upkeep.watch import EARLY_SECONDS, Watch

logger = logging.getLogger("leanmq.runner")

LARGEST_CLAIM = 100
HEARTBEAT_SECONDS = 5.0

Errand = Callable[[], Awaitable[None]]
"""One of the things to do in a tick."""


class Maintenance:
    """`generation_changed` is awaited when somebody applied; `beat` says that this worker lives, and what it
    reads: the last one comes once it was told to stop."""

    def __init__(
        self,
        broker: Broker,
        connection: AsyncConnection,
        consumer: str,
        lanes: Sequence[Lane],
        clock: ServerClock,
        outage: Outage,
        watch: Watch,
        seen: Upkeep,
        generation_changed: Callable[[], Awaitable[None]],
        beat: Callable[[], Awaitable[None]],
        room_again: Callable[[], None],
        part: Part = Part.ALL,
        doorbell: Doorbell | None = None,
        claim_lost: Callable[[], None] = lambda: None,
        pulse: Pulse | None = None,
    ) -> None:
        """`seen` is what the first round said, which the worker does before it starts.

        `room_again` is called when a search that kept a queue from being read is over. `part` is what it
        takes over from others. With a `doorbell` that works it rests longer while there is nothing to do,
        from beat to beat of the `pulse`.
        `claim_lost` is called when messages may be ours without our knowing: an answer was lost.
        """
        self._broker, self._connection, self._consumer = broker, connection, consumer
        self._clock = clock
        self._lanes = {lane.name: lane for lane in lanes}
        self._scans = {lane.name: Scan(lane) for lane in random.sample(lanes, len(lanes))}
        """In the order of their turns: whose last search is longest ago comes first. It begins anywhere, or
        a process that dies again and again would never come to those behind."""
        self._outage, self._watch = outage, watch
        self._checkup = CheckUp(broker, lanes)
        self._promotion = Promotion(broker, consumer, clock, seen, self._checkup.repair_clocks)
        self._handover = HandOver(broker, consumer, lanes)
        self._going_by = (seen.generation, seen.epoch)
        self._generation_changed = generation_changed
        self._beat, self._beat_at = beat, 0.0
        self._room_again = room_again
        self._part = part
        self._doorbell, self._claim_lost = doorbell, claim_lost
        self._pulse = pulse or Pulse(time.monotonic())
        self._heard_all = False
        """The bell worked before the last round began: what came later than that was told."""
        self._told_due_ms: int | None = None
        """The earliest that was told since."""
        if doorbell is not None:
            doorbell.rung, doorbell.called = self._note_due, self._note_call
        for lane in lanes:
            lane.room_bell = self._wake_up
        self._complaints = Complaints(logger)
        self._stopping = False
        self._rested: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def unfit(self) -> tuple[str, ...]:
        """What makes the server unfit for messages, in a sentence each."""
        return tuple(finding.text for finding in self._checkup.fitness.problems)

    def stop(self) -> None:
        """End after the step under way: one that is cut off might have taken messages over unseen."""
        self._stopping = True
        _wake(self._rested)

    async def run(self) -> None:
        """Keep things up until told to stop; then say that nothing is read here any more."""
        pauses = Pauses()
        while not self._stopping:
            try:
                pause = await self._tick()
            except BrokerUnavailableError as failure:
                self._outage.begin(failure)
                pause = pauses.seconds()
            else:
                pauses.reset()
            await self._sleep(pause)
        await self._beat_last()

    async def _beat_last(self) -> None:
        """Others leave messages to whoever said that it reads and holds nothing: take that back at once."""
        if not self._outage.under_way:
            with contextlib.suppress(LeanMQError):  # of little use to others by now, and not worth a word
                await self._beat()

    def _wake_up(self) -> None:
        _wake(self._rested)

    async def _sleep(self, seconds: float) -> None:
        """A timer and a future: an idle worker does little else, and a timeout costs several times that."""
        if self._stopping:
            return
        loop = asyncio.get_running_loop()
        self._rested = loop.create_future()
        self._timer = loop.call_later(seconds, _wake, self._rested)
        try:
            await self._rested
        finally:
            self._timer.cancel()
            self._timer = None

    def hurry(self) -> None:
        """Messages were taken, so there may be more to do than while nobody holds any."""
        if self._timer is not None:
            loop = asyncio.get_running_loop()
            if self._timer.when() > loop.time() + TICK_SECONDS:
                self._timer.cancel()
                self._timer = loop.call_later(TICK_SECONDS, _wake, self._rested)

    async def _tick(self) -> float:
        """Returns how long to rest, in seconds. A part that fails is no reason to leave out the others."""
        parts: dict[str, Errand] = {
            "claims": self._claim_all,
            "hand-over": self._hand_over,
            "check-up": self._check_up,
            "heartbeat": self._beat_now_and_then,
        }
        await self._ask_around()
        for name, part in parts.items():
            if self._stopping:
                break
            await self._do(name, part)
        return self._rest()

    async def _ask_around(self) -> None:
        """What is due, and how are the queues? Both leave in one write: waking up costs most."""
        self._told_due_ms = None
        hears = self._doorbell is not None and self._doorbell.works
        if hears and not self._heard_all:
            self._watch.look_soon()  # nobody told what happened between the last look and the first call
        self._heard_all = hears
        paused, looks = self._watch.paused, self._watch.due
        courses: list[Steps[Any]] = [self._promotion.step(), *([self._watch.look()] if looks else [])]
        results = await carry_out_together(courses, self._connection)
        for name, result in zip(("promotion", "watch"), results, strict=False):
            await self._do(name, partial(self._note_answer, result))
        if self._watch.paused != paused:
            self._beat_at = 0.0  # whoever paused a queue waits to see that it is so

    async def _do(self, name: str, part: Errand) -> None:
        try:
            await part()
        except BrokerUnavailableError:
            raise
        except LeanMQError as failure:
            self._watch.look_soon()
            self._complaints.say(name, failure)

    def _note_due(self, due_ms: int) -> None:
        """Told by the doorbell: it may be sooner than the rest ends."""
        told = self._told_due_ms
        self._told_due_ms = due_ms if told is None else min(due_ms, told)
        _wake(self._rested)

    def _note_call(self) -> None:
        """Told by the doorbell: somebody paused or applied, or handed something back.

        Who looks at every tick anyway comes to it soon enough: calls may follow each other fast.
        """
        self._watch.look_soon()
        if self._timer is not None and self._timer.when() > asyncio.get_running_loop().time() + TICK_SECONDS:
            _wake(self._rested)

    async def _hand_over(self) -> None:
        await carry_out_async(self._handover.step(self._watch.free), self._connection)

    async def _check_up(self) -> None:
        await carry_out_async(self._checkup.step(), self._connection)

    async def _note_answer(self, answer: Upkeep | LeanMQError | None) -> None:
        """None: of the watch, which took note by itself."""
        if isinstance(answer, LeanMQError):
            raise answer
        if answer is not None:
            await self._note_topology(answer)

    async def _note_topology(self, seen: Upkeep) -> None:
        back = self._watch.topology_gone and seen.generation > 0
        self._watch.note_topology(gone=not seen.generation)
        applied = (seen.generation, seen.epoch)
        if seen.generation and (back or applied != self._going_by):
            await self._generation_changed()
            self._going_by = applied
            self._watch.look_soon()

    async def _claim_all(self) -> None:
        now = time.monotonic()
        free = {name for name in self._watch.free if self._handover.may_take(name)}
        for name, scan in list(self._scans.items()):
            if self._stopping:
                return
            lane = self._lanes[name]
            if now >= scan.due_at or lane.owed or name in free:
                await self._claim(lane, scan)

    async def _claim(self, lane: Lane, scan: Scan) -> None:
        if not lane.readable:
            self._pay(lane)
            return
        if scan.cursor == FRONT and not self._watch.is_wanted(lane):
            scan.plan_next(FRONT)
            self._pay(lane)
            return
        if not lane.room:
            lane.owe()
            return
        self._scans[lane.name] = self._scans.pop(lane.name)  # whose room this takes may be next
        since = time.monotonic()
        try:
            await self._claim_some(lane, scan)
            while scan.goes_on and time.monotonic() - since < WORK_SECONDS:
                await self._claim_some(lane, scan)
        except TopologyNotAppliedError:
            self._watch.look_soon()
            scan.plan_next(FRONT)
        finally:
            lane.owed = False
            self._room_again()  # even if nothing was owed: a read that began meanwhile left the lane out

    def _pay(self, lane: Lane) -> None:
        """Nothing is owed any more: what room is left is for new messages."""
        if lane.owed:
            lane.owed = False
            self._room_again()

    async def _claim_some(self, lane: Lane, scan: Scan) -> None:
        count = min(lane.room, LARGEST_CLAIM)
        operation = self._broker.claim(
            lane.queue,
            self._consumer,
            cursor=scan.cursor,
            count=count,
            held=list(lane.held),
            part=self._part,
        )
        lane.claimed = count
        try:
            cursor, taken_over = await self._connection.execute(operation)
            scan.plan_next(cursor)
            lane.take(taken_over)
        except BrokerUnavailableError as failure:
            if failure.unknown:
                self._claim_lost()
            raise
        finally:
            lane.claimed = 0

    async def _beat_now_and_then(self) -> None:
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS - EARLY_SECONDS
            await self._beat()

    def _rest(self) -> float:
        """Until there is something to do, at most a tick; longer while nothing can come unheard."""
        if any(lane.owed and lane.room for lane in self._lanes.values()):
            return 0.0
        if any(scan.goes_on for scan in self._scans.values()):
            return WORK_SECONDS
        if self._told_due_ms is not None:
            return min(max((self._told_due_ms - self._clock.now_ms()) / 1000, 0.0), TICK_SECONDS)
        return self._promotion.rest(self._quiet_rest() if self._is_quiet() else TICK_SECONDS)

    def _quiet_rest(self) -> float:
        """Until a beat, unless that comes before a look is due: the next one would come too late for it.

        Nor does what wakes it between two looks put the next one off.
        """
        pause = self._pulse.pause(time.monotonic(), self._watch.rest_seconds)
        return max(pause, self._watch.due_in_seconds)

    def _is_quiet(self) -> bool:
        """Nobody holds anything, and what happens otherwise is told."""
        return (
            self._heard_all
            and self._watch.quiet
            and not self._checkup.busy
            and not any(lane.held for lane in self._lanes.values())
        )


def _wake(sleeper: asyncio.Future[None] | None) -> None:
    if sleeper is not None and not sleeper.done():
        sleeper.set_result(None)

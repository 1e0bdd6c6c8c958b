from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Told, Upkeep, tell
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner.prefetch import LARGEST
from leanmq_topology.runner.reader import BLOCK_MS, LARGEST_READ, Reader, plan_reads
from leanmq_topology.runner.upkeep import Maintenance
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.scan import FRONT
from tests.support.processes import PATIENCE_SECONDS


def lane(name: str, room: int, *, backlogged: bool = False) -> Any:
    return SimpleNamespace(name=name, room=room, hungry=room > 0, backlogged=backlogged, owed=False)


def planned(*lanes: Any) -> list[tuple[list[str], int, int]]:
    return [([lane.name for lane in read.lanes], read.count, read.block_ms) for read in plan_reads(lanes)]


def test_quiet_queues_share_one_read_that_waits():
    assert planned(lane("a", 8), lane("b", 4)) == [(["a", "b"], 4, BLOCK_MS)]


def test_a_queue_without_room_is_left_out():
    assert planned(lane("a", 8), lane("b", 0)) == [(["a"], 8, BLOCK_MS)]


def test_without_room_nothing_is_read():
    assert planned(lane("a", 0)) == []


def test_a_backlog_is_read_in_full_beside_queues_with_little_room():
    reads = planned(lane("a", 100, backlogged=True), lane("b", 1), lane("c", 2))
    assert reads == [(["a"], 100, 0), (["b", "c"], 1, 0)]


def test_a_lone_backlog_may_wait_because_nothing_waits_for_it():
    assert planned(lane("a", 100, backlogged=True)) == [(["a"], 100, BLOCK_MS)]


def test_two_backlogs_are_two_reads_that_do_not_wait():
    reads = planned(lane("a", 5, backlogged=True), lane("b", 7, backlogged=True))
    assert reads == [(["a"], 5, 0), (["b"], 7, 0)]


def test_one_read_brings_no_more_than_a_bounded_batch():
    assert planned(lane("a", 1024)) == [(["a"], LARGEST_READ, BLOCK_MS)]


def test_a_read_brings_half_of_the_most_that_is_held_so_that_the_other_half_is_run_meanwhile():
    assert 2 * LARGEST_READ == LARGEST


class Server:
    """Both connections of a reader. A read waits until it is ended, and brings what came just then."""

    connection_id = 1

    def __init__(self, last: Delivered) -> None:
        self._last = last
        self.reading: asyncio.Future[list[Delivered]] = asyncio.get_running_loop().create_future()
        self.waits = asyncio.Event()

    def fetch(self, queues: list[str], consumer: str, *, count: int, block_ms: int) -> str:
        return "fetch"

    def end_fetch(self, connection_id: int) -> str:
        return "end"

    def begin_all(self, begun: Iterable[tuple[Any, Told[Any]]]) -> None:
        self.telling = [asyncio.ensure_future(tell(self.execute(one), told)) for one, told in begun]

    async def execute(self, operation: str) -> Any:
        if operation == "end":
            self.reading.set_result([self._last])
            return True
        self.waits.set()
        return await self.reading


async def test_what_a_read_still_brings_when_it_is_ended_is_not_left_behind():
    last = Delivered("a", "1-0", Envelope("m", "t", b"{}"))
    server: Any = Server(last)
    taken: list[Delivered] = []
    queue = lane("a", 8)
    queue.take_in, queue.start = taken.extend, lambda: None
    reader = Reader(server, server, server, "me", [queue], Outage(), lambda: None)
    running = asyncio.create_task(reader.run())
    await server.waits.wait()
    await reader.stop(running)
    assert taken == [last]


class Line:
    """A reader's connection. What was asked stays unanswered until somebody tells the answers."""

    connection_id = 1

    def __init__(self, way: list[str]) -> None:
        self._way = way
        self.told: list[Told[Any]] = []
        self.asked = asyncio.Event()

    def fetch(self, queues: list[str], consumer: str, *, count: int, block_ms: int) -> str:
        return " ".join(queues)

    def end_fetch(self, connection_id: int) -> str:
        return "end"

    def begin_all(self, begun: Iterable[tuple[str, Told[Any]]]) -> None:
        for operation, told in begun:
            self._way.append(f"ask for {operation}")
            self.told.append(told)
        self.asked.set()

    async def execute(self, operation: str) -> bool:
        await self.answer(*([] for _ in self.told))
        return True

    async def answer(self, *answers: Any) -> None:
        """In a callback, as what arrives on a socket is told."""
        told, self.told = self.told, []

        def tell_all() -> None:
            for one, answer in zip(told, answers, strict=True):
                one(answer)

        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: done.set_result(tell_all()))
        await done


def delivered(queue: str, number: int = 1) -> Delivered:
    return Delivered(queue, f"{number}-0", Envelope("m", "t", b"{}"))


def noting_lane(way: list[str], name: str, room: int = 8, *, backlogged: bool = False) -> Any:
    noting = lane(name, room, backlogged=backlogged)
    noting.take_in = lambda brought: way.append(f"take {len(brought)} of {name}")
    noting.start = lambda: way.append(f"run {name}")
    return noting


async def reading(line: Any, *lanes: Any) -> tuple[Reader, asyncio.Task[None]]:
    reader = Reader(line, line, line, "me", lanes, Outage(), lambda: None)
    running = asyncio.create_task(reader.run())
    await line.asked.wait()
    return reader, running


async def test_a_lone_message_is_run_in_the_turn_it_comes_in_before_more_is_asked_for():
    way: list[str] = []
    line = Line(way)
    reader, running = await reading(line, noting_lane(way, "a"), noting_lane(way, "b"))
    await line.answer([delivered("a")])
    assert way == ["ask for a b", "take 1 of a", "run a", "ask for a b"]
    await reader.stop(running)


async def test_more_of_a_backlog_is_asked_for_before_the_last_of_it_is_run():
    way: list[str] = []
    line = Line(way)
    reader, running = await reading(line, noting_lane(way, "a", room=2))
    await line.answer([delivered("a", 1), delivered("a", 2)])
    assert way == ["ask for a", "take 2 of a", "ask for a", "run a"]
    await reader.stop(running)


async def test_a_read_that_fails_does_not_take_along_what_another_brought():
    way: list[str] = []
    line, outage = Line(way), TopologyNotAppliedError(["queues.a"], namespace="shop")
    gone = noting_lane(way, "a", backlogged=True)
    suspended: list[float] = []
    gone.suspend = suspended.append
    reader, running = await reading(line, gone, noting_lane(way, "b"))
    await line.answer(outage, [delivered("b")])
    assert way == ["ask for a", "ask for b", "take 1 of b", "run b"]
    await asyncio.sleep(0)
    assert suspended
    await reader.stop(running)


async def test_a_mistake_with_what_was_read_ends_the_reader():
    line = Line([])
    broken = noting_lane([], "a")
    broken.take_in = lambda brought: brought[7]
    _, running = await reading(line, broken)
    await line.answer([delivered("a")])
    with pytest.raises(IndexError):
        await running


class FixedLane(SimpleNamespace):
    """One with a set `prefetch` of one: what a search may take over counts as held."""

    @property
    def room(self) -> int:
        return 1 - self.awaited - self.claimed

    @property
    def hungry(self) -> bool:
        return self.room > 0


class Search:
    """Upkeep's connection and broker, and a search that goes on until its answer is told."""

    repair_clock = None

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.answer: asyncio.Future[tuple[str, list[Delivered]]] = asyncio.get_running_loop().create_future()

    def claim(self, queue: Queue, consumer: str, **how: Any) -> str:
        return "claim"

    async def execute(self, operation: str) -> tuple[str, list[Delivered]]:
        self.begun.set()
        return await self.answer


async def test_a_queue_that_a_search_kept_out_of_a_read_that_waits_is_read_once_the_search_found_nothing():
    way: list[str] = []
    line: Any = Line(way)
    search: Any = Search()
    searched: Any = FixedLane(
        name="a", queue=Queue(name="a"), held={}, awaited=0, claimed=0,
        owed=False, backlogged=False, readable=True, damage=None,
    )  # fmt: skip
    watch: Any = SimpleNamespace(free=set(), is_wanted=lambda lane: True)
    seen = Upkeep(generation=1, promoted=0, next_due_ms=None, now_ms=1)
    reader = Reader(line, line, line, "me", [searched, lane("b", 8)], Outage(), lambda: None)

    async def nothing() -> None: ...

    upkeep = Maintenance(
        search, search, "me", [searched], ServerClock(), Outage(), watch, seen, nothing, nothing,
        room_again=reader.make_room_known,
    )  # fmt: skip
    searched.take = lambda taken_over: None
    searching = asyncio.create_task(upkeep._claim_all())
    await search.begun.wait()
    running = asyncio.create_task(reader.run())
    await line.asked.wait()
    assert way == ["ask for b"]
    line.asked.clear()
    search.answer.set_result((FRONT, []))
    await searching
    async with asyncio.timeout(PATIENCE_SECONDS):
        await line.asked.wait()
    assert way == ["ask for b", "ask for a b"]
    await reader.stop(running)


class Recovering(Line):
    """Answers each look for what was lost; `looked` is called before."""

    def __init__(self, way: list[str]) -> None:
        super().__init__(way)
        self.looked: Any = lambda: None

    def fetch_own(self, queue: str, consumer: str, *, cursor: str, known: list[str]) -> str:
        return f"look for what is lost of {queue}"

    async def execute(self, operation: str) -> Any:
        if not operation.startswith("look"):
            return await super().execute(operation)
        self._way.append(operation)
        self.looked()
        return FRONT, []


async def test_what_gets_lost_while_lost_messages_are_looked_for_is_looked_for_before_more_is_read():
    way: list[str] = []
    line: Any = Recovering(way)
    queue = lane("a", 8)
    queue.held, queue.take, queue.awaited = {}, lambda arrived: None, 0
    reader = Reader(line, line, line, "me", [queue], Outage(), lambda: None)

    def look_again() -> None:
        assert queue.unsure, "it may have more than is known until all is looked for"

    def lose_once_more() -> None:
        line.looked = look_again
        reader.recover_soon()

    line.looked = lose_once_more
    reader.recover_soon()
    running = asyncio.create_task(reader.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await line.asked.wait()
    assert way == ["look for what is lost of a"] * 2 + ["ask for a"]
    assert not queue.unsure
    await reader.stop(running)

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from leanmq_topology.brokers.protocol import Told, tell
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner.prefetch import LARGEST
from leanmq_topology.runner.reader import BLOCK_MS, LARGEST_READ, Reader, plan_reads
from leanmq_topology.upkeep.outage import Outage


def lane(name: str, room: int, *, backlogged: bool = False) -> Any:
    return SimpleNamespace(name=name, room=room, hungry=room > 0, backlogged=backlogged)


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
    queue.take = taken.extend
    reader = Reader(server, server, server, "me", [queue], Outage(), lambda: None)
    running = asyncio.create_task(reader.run())
    await server.waits.wait()
    await reader.stop(running)
    assert taken == [last]

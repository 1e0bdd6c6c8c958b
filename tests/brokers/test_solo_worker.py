"""The worker that runs suspects alone, one at a time over all queues, on real servers."""

from __future__ import annotations

import asyncio
from pathlib import Path

from leanmq_topology import Message
from leanmq_topology.brokers.protocol import Part
from leanmq_topology.topology.model import Queue
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, load, make_topology, working

QUEUES = ("first", "second", "third")


async def prepare(server: Server, namespace: str, folder: Path) -> Place:
    """Three queues, with four messages each that a dead worker had started."""
    queues = [Queue(name=name, visibility_timeout_ms=600_000) for name in QUEUES]
    found = Place(server, make_topology(namespace, folder, *queues))
    found.apply()
    for queue in QUEUES:
        await found.send(*range(4), queue=queue)
        with found.link() as link:
            fetch = link.broker.fetch([queue], "dead", count=4, block_ms=0)
            started = [one.entry_id for one in link.connection.execute(fetch)]
            link.connection.execute(link.broker.release_held(queue, "dead", started=started, suspect=True))
    return found


async def test_suspects_of_all_queues_take_turns_however_long_each_runs(
    server: Server, namespace: str, tmp_path: Path
):
    """Rounds of upkeep go by while one runs, so that every queue waits for room by the time it ends."""
    place = await prepare(server, namespace, tmp_path)
    ran: list[str] = []
    left = dict.fromkeys(QUEUES, 4)

    async def handle(message: Message) -> None:
        ran.append(message.queue)
        left[message.queue] -= 1
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not all(lane.owed for name, lane in solo.worker._lanes.items() if left[name]):
                await asyncio.sleep(0.01)  # nothing signals that a queue waits for room

    handlers = [load(handle, queue) for queue in QUEUES]
    async with working(place, *handlers, part=Part.SUSPECT) as solo:
        for queue in QUEUES:
            await place.until_settled(queue)
    rounds = [ran[at : at + 3] for at in range(0, 12, 3)]
    assert [sorted(queues) for queues in rounds] == [list(QUEUES)] * 4

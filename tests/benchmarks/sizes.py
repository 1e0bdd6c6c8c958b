"""What goes through a second by the size of a message: `python -m tests.benchmarks.sizes`.

Messages of 200 bytes, 5 KB and 200 KB, beside raw commands of redis-py in the same run: stored by `send_many`
(100 in a call, fewer where a step would carry over 4 MiB), handled one by one by a worker, and published on
an ephemeral route. Ours is validated on both sides. Server and cores as in `tests.benchmarks.delivery`; the
table shows medians, `of raw` those of what was measured within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import redis

from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.client import connect_sync
from leanmq_topology.client.sender import MOST_BYTES
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.topology.model import BrokerSettings, EphemeralRoute, MessageType, Queue, Topology
from tests.benchmarks.delivery import BATCH, Meter, drain, median_ratio, pick_cores, pinned, raw_drain
from tests.support.servers import start_on_tcp

SIZES = {"200 B": 200, "5 KB": 5_000, "200 KB": 200_000}
SCHEMA = {
    "type": "object",
    "required": ["id", "text"],
    "additionalProperties": False,
    "properties": {"id": {"type": "integer"}, "text": {"type": "string"}},
}
STORE, HANDLE, PUBLISH = "stored", "handled", "published"


@dataclass(frozen=True, slots=True)
class Load:
    """Messages of one size, and how many of them a call carries."""

    name: str
    data: dict[str, Any]
    batch: int
    count: int

    @property
    def encoded(self) -> bytes:
        return json.dumps(self.data, separators=(",", ":")).encode()


def make_load(name: str, size: int, count: int) -> Load:
    data = {"id": 4711, "text": ""}
    data["text"] = "x" * (size - len(json.dumps(data, separators=(",", ":"))))
    batch = min(BATCH, MOST_BYTES // size)
    return Load(name, data, batch, max(min(count, count * 10_000 // size), 10 * batch) // batch * batch)


def make_topology(folder: Path) -> Topology:
    return Topology(
        name="bench",
        broker=BrokerSettings(namespace="bench"),
        messages={"note": MessageType(name="note", schema=SCHEMA)},
        queues={"work": Queue(name="work", accepts=("note",))},
        routes={"news": EphemeralRoute(name="news", accepts=("note",))},
        folder=folder,
    )


async def run_round(meter: Meter, url: str, topology: Topology, load: Load) -> None:
    """Every row of one size once."""
    calls = range(load.count // load.batch)
    raw = redis.Redis.from_url(url, retry=None, socket_timeout=30, protocol=2)
    raw.delete("raw")
    raw.xgroup_create("raw", "g", id="0", mkstream=True)
    body, several = load.encoded, [load.data] * load.batch

    async def store_raw() -> None:
        for _ in calls:
            pipe = raw.pipeline(transaction=False)
            for _ in range(load.batch):
                pipe.xadd("raw", {"data": body})
            pipe.execute()

    async def publish_raw() -> None:
        for _ in calls:
            pipe = raw.pipeline(transaction=False)
            for _ in range(load.batch):
                pipe.publish("raw", body)
            pipe.execute()

    await meter.measure(raw_row(load, STORE), load.count, store_raw)
    await meter.measure(raw_row(load, HANDLE), load.count, lambda: raw_drain(raw))
    await meter.measure(raw_row(load, PUBLISH), load.count, publish_raw)
    with connect_sync(topology, url=url) as mq:

        async def store() -> None:
            for _ in calls:
                mq.send_many("work", several)

        async def publish() -> None:
            for _ in calls:
                mq.publish_many(("news", data) for data in several)

        await meter.measure(our_row(load, STORE), load.count, store)
        await drain(meter, our_row(load, HANDLE), url, topology, load.count)
        await meter.measure(our_row(load, PUBLISH), load.count, publish)
    raw.close()


def raw_row(load: Load, what: str) -> str:
    return f"raw {load.name} {what}"


def our_row(load: Load, what: str) -> str:
    return f"{load.name} {what}"


def render(meter: Meter, loads: list[Load]) -> Iterator[str]:
    yield f"{'':<8} {'':<10} {'a second':>10} {'of raw':>7} {'MB a second':>12}"
    for load in loads:
        for what in (STORE, HANDLE, PUBLISH):
            ours, raw = meter.rows[our_row(load, what)].rates, meter.rows[raw_row(load, what)].rates
            rate = median(ours)
            yield (
                f"{load.name:<8} {what:<10} {rate:>10,.0f} {median_ratio(ours, raw):>7.2f} "
                f"{rate * len(load.encoded) / 1e6:>12,.0f}"
            )


async def _measure(url: str, count: int, rounds: int) -> None:
    meter = Meter(redis.Redis.from_url(url, retry=None))
    loads = [make_load(name, size, count) for name, size in SIZES.items()]
    with tempfile.TemporaryDirectory() as folder:
        topology = make_topology(Path(folder))
        with open_blocking(url, namespace=topology.name, folder=topology.folder) as link:
            apply_changes(link, topology, who="benchmark")
        for _ in range(rounds):
            for load in loads:
                await run_round(meter, url, topology, load)
    print("\n".join(render(meter, loads)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="of the smallest size in a round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    server_core, own_core = pick_cores()
    with pinned(server_core):
        port, server = start_on_tcp("valkey9", "--appendonly", "yes", "--appendfsync", "everysec")
    try:
        os.sched_setaffinity(0, own_core)
        asyncio.run(_measure(f"redis://127.0.0.1:{port}", chosen.messages, chosen.rounds))
    finally:
        server.stop()


if __name__ == "__main__":
    main()

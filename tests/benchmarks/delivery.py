"""What a message costs, beside raw commands in the same run: `python -m tests.benchmarks.delivery`.

Valkey 9 over TCP on loopback with an append-only file written every second, a 201-byte body, validated on
both sides. The server is pinned to one core and this process to another. Each round measures every row once.
The table shows medians; `of raw` and `x raw` are medians of what was measured within a round, so trust these,
not the absolute numbers: the machine is shared. `client us` is this process's CPU a message and `x raw` that
as a multiple of the raw row's; `server us` is the server's own CPU, `commands` the calls it counted, those
inside scripts included.

A drain is measured from the worker's first read to its last acknowledgement, with all that `leanmq run` has:
leases, marks of what has started, retries and dead letters. Its handler only counts.

What the schema takes is said below the table: the median over pairs of short drains, one right after the
other and each first by turns, so that the machine has no time to become another. In one of a pair the schema
says nothing; its payload is decoded and checked all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from msgspec.structs import replace

from leanmq_topology.brokers.connect import open_async, open_blocking
from leanmq_topology.client import connect, connect_sync
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.runner.marks import Board, Marks
from leanmq_topology.runner.worker import Worker
from leanmq_topology.topology.model import (
    Batch,
    BrokerSettings,
    FanoutRoute,
    MessageType,
    Queue,
    Target,
    Topology,
)
from tests.support.servers import Server, find_binary
from tests.support.workers import load

BODY = {
    "order_id": "A-1234567",
    "customer": 4711,
    "total": 99.5,
    "currency": "EUR",
    "notify": True,
    "email": "ada.lovelace@example.org",
    "placed": "2026-01-01T12:00:00Z",
    "items": 3,
    "note": "leave it at the door",
}
SCHEMA = {
    "type": "object",
    "required": list(BODY),
    "additionalProperties": False,
    "properties": {
        name: {"type": {str: "string", bool: "boolean", int: "integer", float: "number"}[type(value)]}
        for name, value in BODY.items()
    },
}
RAW_BODY = json.dumps(BODY, separators=(",", ":")).encode()
BATCH = 100
TASKS = 32
COPIES = 5
RAW_DRAIN = "raw XREADGROUP + XACK + XDEL"
SINGLE = "run: a handler call a message"
BATCHED = "run: batches of 100"
CHECKED = "run: a short drain"
UNCHECKED = "run: the same without a schema"
PAIRS, SHORT = 40, 2_000
"""Of short drains in a round, with the schema and without, and messages in each."""


@dataclass
class Row:
    """One measured thing; a list has one number a round."""

    name: str
    rates: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)


class Meter:
    """Reads the server's counters and this process's clock around a measured stretch."""

    def __init__(self, admin: redis.Redis) -> None:
        self.admin = admin
        self.rows: dict[str, Row] = {}
        self._cpu = self._calls = self._own = self._began = 0.0

    def _counters(self) -> tuple[float, int]:
        cpu: Any = self.admin.info("cpu")
        stats: Any = self.admin.info("commandstats")
        calls = sum(entry["calls"] for name, entry in stats.items() if "info" not in name)
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls

    def begin(self) -> None:
        """A stretch begins now."""
        self._cpu, self._calls = self._counters()
        self._own, self._began = time.process_time(), time.perf_counter()

    def end(self, name: str, count: int) -> None:
        """It is over: `count` messages were sent or handled in it."""
        elapsed, own = time.perf_counter() - self._began, time.process_time() - self._own
        cpu, calls = self._counters()
        row = self.rows.setdefault(name, Row(name))
        row.rates.append(count / elapsed)
        row.client_us.append(own / count * 1e6)
        row.server_us.append((cpu - self._cpu) / count * 1e6)
        row.commands.append((calls - self._calls) / count)

    async def measure(self, name: str, count: int, work: Callable[[], Awaitable[None]]) -> None:
        self.begin()
        await work()
        self.end(name, count)


def make_topology(namespace: str, folder: Path) -> Topology:
    queues = {
        name: Queue(name=name, accepts=("order",)) for name in ("work", *(f"copy{n}" for n in range(COPIES)))
    }
    route = FanoutRoute(
        name="all", accepts=("order",), to=tuple(Target(queue=f"copy{n}") for n in range(COPIES))
    )
    return Topology(
        name=namespace,
        broker=BrokerSettings(namespace=namespace),
        messages={"order": MessageType(name="order", schema=SCHEMA)},
        queues=queues,
        routes={"all": route},
        folder=folder,
    )


def without_schema(topology: Topology) -> Topology:
    """The same in a namespace of its own, where the schema says nothing."""
    name = f"{topology.name}-unchecked"
    return replace(
        topology,
        name=name,
        broker=replace(topology.broker, namespace=name),
        messages={"order": MessageType(name="order", schema=True)},
    )


async def run_round(meter: Meter, url: str, topology: Topology, count: int) -> None:
    """Every row once."""
    raw = redis.Redis.from_url(url, retry=None, socket_timeout=30, protocol=2)
    raw.delete("raw")
    raw.xgroup_create("raw", "g", id="0", mkstream=True)
    single = count // 10
    await meter.measure("raw XADD, one by one", single, lambda: raw_single(raw, single))
    await meter.measure("raw XADD, pipelines of 100", count, lambda: raw_bulk(raw, count))
    await meter.measure("raw five XADDs, one pipeline", single, lambda: raw_copies(raw, single))
    await meter.measure("raw five XADDs, pipelines of 100", single, lambda: raw_bulk(raw, single * COPIES))
    raw.xtrim("raw", maxlen=count, approximate=False)
    await meter.measure(RAW_DRAIN, count, lambda: raw_drain(raw))
    with connect_sync(topology, url=url) as mq:
        await meter.measure("send, blocking, one by one", single, lambda: ours_single(mq, single))
        await meter.measure("send_many of 100, blocking", count, lambda: ours_bulk(mq, count))
        await drain(meter, SINGLE, url, topology, single + count)
        await ours_bulk(mq, count)
        await drain(meter, BATCHED, url, topology, count, BATCH)
        await meter.measure("fan-out 1 to 5, blocking", single, lambda: ours_single(mq, single, "all"))
    await drain_in_pairs(meter, url, topology)
    async with connect(topology, url=url) as client:
        await meter.measure("send, 32 asyncio tasks", count, lambda: ours_tasks(client, count))
        await meter.measure("fan-out 1 to 5, 32 tasks", single, lambda: ours_fanout(client, single))
    clear(url, topology)
    raw.close()


async def raw_single(raw: redis.Redis, count: int) -> None:
    for _ in range(count):
        raw.xadd("raw", {"data": RAW_BODY})


async def raw_bulk(raw: redis.Redis, count: int) -> None:
    for _ in range(count // BATCH):
        pipe = raw.pipeline(transaction=False)
        for _ in range(BATCH):
            pipe.xadd("raw", {"data": RAW_BODY})
        pipe.execute()


async def raw_copies(raw: redis.Redis, count: int) -> None:
    for _ in range(count):
        pipe = raw.pipeline(transaction=False)
        for copy in range(COPIES):
            pipe.xadd(f"raw-copy{copy}", {"data": RAW_BODY})
        pipe.execute()


async def raw_drain(raw: redis.Redis) -> None:
    while True:
        reply: Any = raw.xreadgroup("g", "c", {"raw": ">"}, count=BATCH)
        if not reply:
            return
        ids = [entry for entry, _ in reply[0][1]]
        pipe = raw.pipeline(transaction=False)
        pipe.xack("raw", "g", *ids)
        pipe.xdel("raw", *ids)
        pipe.execute()


async def ours_single(mq: Any, count: int, target: str = "work") -> None:
    for _ in range(count):
        mq.send(target, BODY)


async def ours_bulk(mq: Any, count: int) -> None:
    for _ in range(count // BATCH):
        mq.send_many("work", [BODY] * BATCH)


async def ours_tasks(mq: Any, count: int, target: str = "work") -> None:
    async def sender() -> None:
        for _ in range(count // TASKS):
            await mq.send(target, BODY)

    await asyncio.gather(*(sender() for _ in range(TASKS)))


async def ours_fanout(mq: Any, count: int) -> None:
    await ours_tasks(mq, count, "all")


async def drain(meter: Meter, name: str, url: str, topology: Topology, count: int, size: int = 1) -> None:
    """Measure a worker at `count` messages that wait, with a handler call for `size` of them each."""
    handled, done = 0, asyncio.Event()

    def note(messages: int) -> None:
        nonlocal handled
        handled += messages
        if handled == count:
            done.set()

    async def one(data: dict[str, Any]) -> None:
        note(1)

    async def many(data: list[dict[str, Any]]) -> None:
        note(len(data))

    batched = {"batch": Batch(size=size, wait_ms=20)}
    loaded = load(one, concurrency=16) if size == 1 else load(many, **batched)
    async with await open_async(url, namespace=topology.name, folder=topology.folder) as link:
        worker = Worker(topology, {loaded.name: loaded}, link, marker=Marks(Board(), ["work"]))
        task = asyncio.create_task(worker.run(meter.begin))
        await done.wait()
        while worker.busy:
            await asyncio.sleep(0)
        meter.end(name, count)
        worker.stop()
        await task


async def drain_in_pairs(meter: Meter, url: str, topology: Topology) -> None:
    """Measure short drains by turns, with a schema and without."""
    bare = without_schema(topology)
    with connect_sync(topology, url=url) as checking, connect_sync(bare, url=url) as taking:
        ways = [(CHECKED, topology, checking), (UNCHECKED, bare, taking)]
        for _ in range(PAIRS):
            for _, _, mq in ways:
                await ours_bulk(mq, SHORT)
            for name, way, _ in ways:
                await drain(meter, name, url, way, SHORT)
            ways.reverse()


def clear(url: str, topology: Topology) -> None:
    """Empty the queues that no worker drained, so that every round starts alike."""
    with open_blocking(url, namespace=topology.name, folder=topology.folder) as link:
        admin = redis.Redis.from_url(url, retry=None)
        for queue in topology.queues:
            admin.xtrim(link.broker.keys.queue(queue), maxlen=0, approximate=False)
        admin.close()


RAW_OF = {
    "send, blocking, one by one": "raw XADD, one by one",
    "send_many of 100, blocking": "raw XADD, pipelines of 100",
    SINGLE: RAW_DRAIN,
    BATCHED: RAW_DRAIN,
    "send, 32 asyncio tasks": "raw XADD, one by one",
    "fan-out 1 to 5, blocking": "raw five XADDs, one pipeline",
    "fan-out 1 to 5, 32 tasks": "raw five XADDs, pipelines of 100",
}


def render(meter: Meter) -> Iterator[str]:
    yield f"{'':<32} {'a second':>10} {'of raw':>7} {'client us':>10} {'x raw':>6} {'server us':>10} commands"
    for row in meter.rows.values():
        raw = meter.rows.get(RAW_OF.get(row.name, ""))
        rates = f"{median_ratio(row.rates, raw.rates):.2f}" if raw else ""
        cost = f"{median_ratio(row.client_us, raw.client_us):.1f}" if raw else ""
        yield (
            f"{row.name:<32} {statistics.median(row.rates):>10,.0f} {rates:>7} "
            f"{statistics.median(row.client_us):>10.1f} {cost:>6} "
            f"{statistics.median(row.server_us):>10.1f} {statistics.median(row.commands):>8.3f}"
        )
    yield tell_share(meter.rows[CHECKED].client_us, meter.rows[UNCHECKED].client_us)


def tell_share(checked: list[float], unchecked: list[float]) -> str:
    """What the schema takes of a drain, by pairs that were measured one right after the other.

    The bounds are those shares between which the true median lies 19 times in 20, however they are spread.
    """
    shares = sorted(1 - less / whole for whole, less in zip(checked, unchecked, strict=True))
    out = max(int(len(shares) / 2 - 0.98 * len(shares) ** 0.5), 0)
    return (
        f"the schema takes {statistics.median(shares):.0%} of the worker's CPU in a drain:"
        f" median of {len(shares)} pairs, {shares[out]:.0%} to {shares[-1 - out]:.0%} with 95 % confidence"
    )


def median_ratio(ours: list[float], raw: list[float]) -> float:
    """Of what was measured in the same round each."""
    return statistics.median(one / other for one, other in zip(ours, raw, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    binary = find_binary("valkey9")
    if binary is None:
        raise SystemExit("Valkey 9 is missing: `make install` brings it")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    durable = ("--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "everysec")
    server = Server("valkey9", binary, arguments=durable)
    server_core, own_core = pick_cores()
    with pinned(server_core):
        server.start()
    try:
        os.sched_setaffinity(0, own_core)
        asyncio.run(_measure(f"redis://127.0.0.1:{port}", chosen.messages, chosen.rounds))
    finally:
        server.stop()


def pick_cores() -> tuple[set[int], set[int]]:
    """One for the server, another for this process; the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, {allowed[-1]}


@contextlib.contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """What is started in here stays on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _measure(url: str, count: int, rounds: int) -> None:
    meter = Meter(redis.Redis.from_url(url, retry=None))
    with tempfile.TemporaryDirectory() as folder:
        topology = make_topology("bench", Path(folder))
        for applied in (topology, without_schema(topology)):
            with open_blocking(url, namespace=applied.name, folder=applied.folder) as link:
                apply_changes(link, applied, who="benchmark")
        for _ in range(rounds):
            await run_round(meter, url, topology, count)
    print("\n".join(render(meter)))


if __name__ == "__main__":
    main()

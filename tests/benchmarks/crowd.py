"""What a program of many tasks sends, and what fan-out costs: `python -m tests.benchmarks.crowd`.

32 tasks each await one send after the other. Ours validates, and its sends of one turn travel together.
By its side FastStream's publisher (PyPI `faststream[redis]`, on uvloop where that is installed) sends the
same body to a stream; it is no requirement of this project and is left out where it cannot be imported:
install it into a folder of its own and name that in PYTHONPATH. Fan-out to five queues is compared with five
XADD in one write over a bare socket, one call at a time. Each side is a process of its own, and they take
turns; medians over the rounds. Trust the ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
import redis.asyncio

from leanmq_topology import connect
from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.reconciler import apply_changes
from tests.benchmarks.delivery import BODY, COPIES, RAW_BODY, TASKS, make_topology
from tests.benchmarks.requests import Bare
from tests.support.servers import start_on_tcp

Send = Callable[[], Awaitable[object]]
Measure = Callable[[int], Awaitable[tuple[float, float]]]
"""Sends so many; sends a second, and microseconds of this process's CPU for each."""

OURS, THEIRS, RAW = "send, 32 tasks", "FastStream, 32 tasks", "redis-py asyncio, 32 tasks"
FANOUT, FIVE = "fan-out to 5, one by one", "five XADD in one write"
RATIOS = (
    ("of FastStream's", OURS, THEIRS),
    ("of redis-py's", OURS, RAW),
    ("fan-out of five XADD", FANOUT, FIVE),
)


def crowd(send: Send) -> Measure:
    """`TASKS` tasks that send at the same time."""

    async def sender(count: int) -> None:
        for _ in range(count):
            await send()

    async def measure(count: int) -> tuple[float, float]:
        return await _time(count, asyncio.gather(*(sender(count // TASKS) for _ in range(TASKS))))

    return measure


def single(send: Send) -> Measure:
    async def sender(count: int) -> None:
        for _ in range(count):
            await send()

    async def measure(count: int) -> tuple[float, float]:
        return await _time(count, sender(count))

    return measure


async def _time(count: int, work: Awaitable[object]) -> tuple[float, float]:
    cpu, began = time.process_time(), time.perf_counter()
    await work
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    return count / elapsed, cpu / count * 1e6


# -- the sides, each in a process of its own -----------------------------------------------------------


async def be_ours(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        topology = make_topology("bench", Path(folder))
        with open_blocking(url, namespace=topology.name, folder=topology.folder) as link:
            apply_changes(link, topology, who="benchmark")
        async with connect(topology, url=url) as client:
            await serve(crowd(lambda: client.send("work", BODY)))


async def be_fanout(url: str) -> None:
    """One by one, as the floor is; `work` and the route are declared by `be_ours`, which began before."""
    with tempfile.TemporaryDirectory() as folder:
        async with connect(make_topology("bench", Path(folder)), url=url) as client:
            await serve(single(lambda: client.send("all", BODY)))


async def be_five(url: str) -> None:
    line = Bare(int(url.rpartition(":")[2]))
    adds = [("XADD", f"five{n}", "*", "data", RAW_BODY) for n in range(COPIES)]

    async def send() -> None:
        line.ask(*adds)

    await serve(single(send))


async def be_raw(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url, retry=None)
    await serve(crowd(lambda: client.xadd("raw", {"data": RAW_BODY})))


async def be_faststream(url: str) -> None:
    from faststream.redis import RedisBroker  # type: ignore[import-not-found]

    async with RedisBroker(url, logger=None) as broker:
        await serve(crowd(lambda: broker.publish(BODY, stream="theirs")))


SIDES: dict[str, Callable[[str], Any]] = {
    OURS: be_ours,
    THEIRS: be_faststream,
    RAW: be_raw,
    FANOUT: be_fanout,
    FIVE: be_five,
}


async def serve(measure: Measure) -> None:
    """Measure as often as told on stdin."""
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await measure(int(line))), flush=True)


def be(side: str, url: str) -> None:
    if side == THEIRS and find_spec("uvloop"):
        import uvloop  # type: ignore[import-not-found]

        uvloop.run(SIDES[side](url))
    else:
        asyncio.run(SIDES[side](url))


# -- a run ---------------------------------------------------------------------------------------------


class Side:
    """A process that measures when it is told to."""

    def __init__(self, name: str, url: str) -> None:
        words = [sys.executable, "-m", "tests.benchmarks.crowd", "--be", name, url]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        os.sched_setaffinity(self._process.pid, {max(os.sched_getaffinity(0))})
        self._hear()

    def measure(self, count: int) -> tuple[float, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        rate, cpu_us = json.loads(self._hear())
        return rate, cpu_us

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a side of the comparison ended early")
        return line


def measure_all(url: str, rounds: int, count: int) -> dict[str, list[tuple[float, float]]]:
    names = [name for name in SIDES if name != THEIRS or find_spec("faststream")]
    sides: dict[str, Side] = {}
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    admin = redis.Redis.from_url(url, retry=None)
    try:
        for name in names:
            sides[name] = Side(name, url)
            sides[name].measure(TASKS)  # what is made on first use is there
        for _ in range(rounds):
            for name, side in sides.items():
                found[name].append(side.measure(count if "tasks" in name else count // 10))
            for key in admin.scan_iter(_type="STREAM"):
                admin.xtrim(key, maxlen=0, approximate=False)
    finally:
        for side in sides.values():
            side.stop()
    return found


def render(found: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    yield f"{'':<28} {'a second':>9} {'client us':>10}"
    for name, rows in found.items():
        rate, cpu_us = (statistics.median(column) for column in zip(*rows, strict=True))
        yield f"{name:<28} {rate:>9,.0f} {cpu_us:>10.1f}"
    yield ""
    for label, ours, other in RATIOS:
        if other in found:
            yield f"{label}: {median_ratio(found[ours], found[other]):.2f}"
        else:
            yield f"{other} is not installed: its row is left out"


def median_ratio(ours: list[tuple[float, float]], other: list[tuple[float, float]]) -> float:
    """Of the rates that were measured in the same round each."""
    return statistics.median(one / its for (one, _), (its, _) in zip(ours, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=9_600, help="of 32 tasks in a round")
    parser.add_argument("--be", nargs=2, metavar=("SIDE", "URL"), help="be one side of the comparison")
    chosen = parser.parse_args()
    if chosen.be:
        be(*chosen.be)
        return
    port, server = start_on_tcp("valkey9", "--appendonly", "yes", "--appendfsync", "everysec")
    assert server.process is not None
    os.sched_setaffinity(server.process.pid, {min(os.sched_getaffinity(0))})
    try:
        found = measure_all(f"redis://127.0.0.1:{port}", chosen.rounds, chosen.messages)
    finally:
        server.stop()
    print("\n".join(render(found)))


if __name__ == "__main__":
    main()

"""How long an answer takes, beside the fastest one there could be: `python -m tests.benchmarks.requests`.

The floor asks and answers over bare sockets with the same kinds of commands: XADD, a blocking XREADGROUP in
another process, XADD of the reply with XACK and XDEL in one write, a blocking XREAD. Ours validates request
and reply on both sides and commits reply and acknowledgement together. Valkey 9 over TCP on loopback, an
append-only file written every second; one request at a time. The server is pinned to one core, all who ask
and who answer to another. Each round measures every way once, and `p50 of floor` is the median of what was
measured within a round: trust that, not the milliseconds, as the machine is shared. `caller us`, `worker us`
and `server us` are the CPU that each spends on a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hiredis

from leanmq_topology import Topology, connect, connect_sync
from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.reconciler import apply_changes
from tests.benchmarks.delivery import BODY, RAW_BODY, SCHEMA, median_ratio, pick_cores, pinned
from tests.support.commands import LEANMQ
from tests.support.servers import Server, find_binary

TURN = 100
"""Requests of one way in a round."""
FLOOR = "bare sockets"
TOPOLOGY = {
    "leanmq": 1,
    "name": "bench",
    "messages": {"order": {"schema": SCHEMA}},
    "queues": {"work": {"accepts": ["order"], "ttl": "1h"}},
    "routes": {"ask": {"type": "request", "request": "order", "reply": "order", "queue": "work"}},
    "handlers": {"echo": {"queue": "work", "call": "echo:answer"}},
}
HANDLER = "async def answer(data):\n    return data\n"


class Bare:
    """RESP2 over a socket, and nothing more."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def ask(self, *commands: tuple[Any, ...]) -> Any:
        """Say these in one write; the last answer."""
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        answer: Any = None
        for _ in commands:
            while (answer := self._reader.gets()) is False:
                self._reader.feed(self._socket.recv(65536))
        return answer


def respond(port: int) -> None:
    """The other process of the floor: answers until it is killed."""
    line = Bare(port)
    line.ask(("DEL", "floor"), ("XGROUP", "CREATE", "floor", "g", "0", "MKSTREAM"))
    print("ready", flush=True)
    while True:
        reply = line.ask(("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "COUNT", 10, "STREAMS", "floor", ">"))
        for entry, fields in reply[0][1]:
            line.ask(
                ("XADD", "replies", "*", "data", fields[1]),
                ("XACK", "floor", "g", entry),
                ("XDEL", "floor", entry),
            )


@dataclass
class Row:
    """One way to ask; a list has one item a round."""

    name: str
    taken: list[list[float]] = field(default_factory=list)
    cpu_us: list[tuple[float, float, float]] = field(default_factory=list)
    """Of who asks, who answers, and the server, a request."""

    @property
    def p50s(self) -> list[float]:
        return list(map(statistics.median, self.taken))


class Meter:
    """Measures a way in each round: the time of each request, and the CPU of all who take part in it."""

    def __init__(self, server: int) -> None:
        self._server = server
        self.rows: dict[str, Row] = {}

    async def measure(self, name: str, answering: int, ask: Callable[[], Awaitable[None]]) -> None:
        before = self._read_cpu(answering)
        taken = []
        for _ in range(TURN):
            started = time.perf_counter()
            await ask()
            taken.append(time.perf_counter() - started)
        after = self._read_cpu(answering)
        row = self.rows.setdefault(name, Row(name))
        row.taken.append(taken)
        caller, worker, server = ((now - then) / TURN * 1e6 for now, then in zip(after, before, strict=True))
        row.cpu_us.append((caller, worker, server))

    def _read_cpu(self, answering: int) -> tuple[float, float, float]:
        return time.process_time(), read_cpu(answering), read_cpu(self._server)


def read_cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children have had."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    own = sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    return own + sum(map(read_cpu, list_children(pid)))


@cache
def list_children(pid: int) -> list[int]:
    """Asked when all have been started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if f"\nPPid:\t{pid}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def ask_floor(port: int) -> Callable[[], Awaitable[None]]:
    line, place = Bare(port), "0"

    async def ask() -> None:
        nonlocal place
        line.ask(("XADD", "floor", "*", "data", RAW_BODY))
        reply = line.ask(("XREAD", "BLOCK", 0, "STREAMS", "replies", place))
        place = reply[0][1][-1][0]

    return ask


def ask_blocking(client: Any) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        client.request("ask", BODY)

    return ask


def ask_asyncio(client: Any) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        await client.request("ask", BODY)

    return ask


def render(rows: dict[str, Row]) -> Iterator[str]:
    yield (
        f"{'':<20} {'p50 ms':>8} {'p99 ms':>8} {'p50 of floor':>13}"
        f" {'caller us':>10} {'worker us':>10} {'server us':>10}"
    )
    for row in rows.values():
        p99 = statistics.quantiles((one for turn in row.taken for one in turn), n=100)[98]
        cpu = [statistics.median(each) for each in zip(*row.cpu_us, strict=True)]
        yield (
            f"{row.name:<20} {statistics.median(row.p50s) * 1000:>8.2f} {p99 * 1000:>8.2f}"
            f" {median_ratio(row.p50s, rows[FLOOR].p50s):>13.2f}"
            f" {cpu[0]:>10.0f} {cpu[1]:>10.0f} {cpu[2]:>10.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--respond", type=int, metavar="PORT", help="be the other side of the floor")
    chosen = parser.parse_args()
    if chosen.respond:
        respond(chosen.respond)
        return
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
        os.sched_setaffinity(0, own_core)  # and so of every process that is started from now on
        assert server.process is not None
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(render(_measure(Path(folder), port, Meter(server.process.pid), chosen.rounds))))
    finally:
        server.stop()


def _measure(folder: Path, port: int, meter: Meter, rounds: int) -> dict[str, Row]:
    url = f"redis://127.0.0.1:{port}"
    (folder / "topology.yaml").write_text(json.dumps({**TOPOLOGY, "broker": {"url": url}}))
    (folder / "echo.py").write_text(HANDLER)
    topology = Topology.load(folder / "topology.yaml")
    with open_blocking(url, namespace=topology.name, folder=folder) as link:
        apply_changes(link, topology, who="benchmark")
    responder = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.requests", "--respond", str(port)], stdout=subprocess.PIPE
    )
    worker = subprocess.Popen([*LEANMQ, "run"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        assert responder.stdout is not None
        responder.stdout.readline()
        asyncio.run(_take_turns(meter, topology, ask_floor(port), responder.pid, worker.pid, rounds))
    finally:
        for process in (worker, responder):
            process.terminate()
            process.communicate()
    return meter.rows


async def _take_turns(
    meter: Meter,
    topology: Topology,
    floor: Callable[[], Awaitable[None]],
    responder: int,
    worker: int,
    rounds: int,
) -> None:
    with connect_sync(topology) as blocking:
        async with connect(topology) as client:
            await client.request("ask", BODY)  # the worker is up, the inboxes are there
            blocking.request("ask", BODY)
            for _ in range(rounds):
                await meter.measure(FLOOR, responder, floor)
                await meter.measure("request, blocking", worker, ask_blocking(blocking))
                await meter.measure("request, asyncio", worker, ask_asyncio(client))


if __name__ == "__main__":
    main()

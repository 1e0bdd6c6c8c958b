"""How long an answer takes, beside the fastest one there could be: `python -m tests.benchmarks.requests`.

The floor asks and answers over bare sockets with the same kinds of commands: XADD, a blocking XREADGROUP in
another process, XADD of the reply with XACK and XDEL in one write, a blocking XREAD. Ours validates request
and reply on both sides and commits reply and acknowledgement together. Valkey 9 over TCP on loopback, an
append-only file written every second, one request at a time, the ways taking turns in one run. Trust the
ratios: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis

from leanmq_topology import Topology, connect, connect_sync
from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.reconciler import apply_changes
from tests.benchmarks.delivery import BODY, RAW_BODY, SCHEMA
from tests.support.commands import LEANMQ
from tests.support.servers import Server, find_binary

TURN = 50
"""Requests of one way before the next one has its turn."""
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


def time_floor(port: int) -> Callable[[], list[float]]:
    line, place = Bare(port), "0"

    def turn() -> list[float]:
        nonlocal place
        taken = []
        for _ in range(TURN):
            started = time.perf_counter()
            line.ask(("XADD", "floor", "*", "data", RAW_BODY))
            reply = line.ask(("XREAD", "BLOCK", 0, "STREAMS", "replies", place))
            taken.append(time.perf_counter() - started)
            place = reply[0][1][-1][0]
        return taken

    return turn


def time_blocking(client: Any) -> Callable[[], list[float]]:
    def turn() -> list[float]:
        taken = []
        for _ in range(TURN):
            started = time.perf_counter()
            client.request("ask", BODY)
            taken.append(time.perf_counter() - started)
        return taken

    return turn


async def time_asyncio(client: Any) -> list[float]:
    taken = []
    for _ in range(TURN):
        started = time.perf_counter()
        await client.request("ask", BODY)
        taken.append(time.perf_counter() - started)
    return taken


def render(times: dict[str, list[float]]) -> Iterator[str]:
    floor = statistics.median(times["bare sockets"])
    yield f"{'':<20} {'p50 ms':>8} {'p99 ms':>8} {'p50 of floor':>13}"
    for name, taken in times.items():
        p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100)[98]
        yield f"{name:<20} {p50 * 1000:>8.2f} {p99 * 1000:>8.2f} {p50 / floor:>13.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000)
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
    server = Server("valkey9", binary, arguments=durable).start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(render(_measure(Path(folder), port, chosen.requests))))
    finally:
        server.stop()


def _measure(folder: Path, port: int, count: int) -> dict[str, list[float]]:
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
        return asyncio.run(_take_turns(topology, time_floor(port), count))
    finally:
        for process in (worker, responder):
            process.terminate()
            process.communicate()


async def _take_turns(
    topology: Topology, floor: Callable[[], list[float]], count: int
) -> dict[str, list[float]]:
    times: defaultdict[str, list[float]] = defaultdict(list)
    with connect_sync(topology) as blocking:
        ours = time_blocking(blocking)
        async with connect(topology) as client:
            await client.request("ask", BODY)  # the worker is up, the inbox is there
            ours()
            for _ in range(count // TURN):
                times["bare sockets"] += floor()
                times["request, blocking"] += ours()
                times["request, asyncio"] += await time_asyncio(client)
    return times


if __name__ == "__main__":
    main()

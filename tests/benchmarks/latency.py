"""How soon a message is handled, beside bare sockets in the same run: `python -m tests.benchmarks.latency`.

First at 200 messages a second, evenly paced: the time from just before `send` to the first line of an
`async def` handler. Then both at once: a program that sends 100 in a call while a worker handles them one by
one. The other side of each pair says the same in plain commands and neither validates, retries nor counts:
a bare socket for latency (XADD; a blocking XREADGROUP, XACK and XDEL), redis-py for throughput (pipelines of
100 XADD; reads of 100, XACK and XDEL in one pipeline). Valkey 9 over TCP on loopback, an append-only file
written every second; the server on one core, who consumes on the other, where there are two. The sides take
turns, round by round; the table shows medians over the rounds. Trust the ratios: the machine is shared.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import redis

from leanmq_topology import Topology, connect, connect_sync
from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.reconciler import apply_changes
from tests.benchmarks.delivery import BODY, SCHEMA
from tests.benchmarks.requests import Bare
from tests.support.commands import LEANMQ
from tests.support.servers import start_on_tcp

GAP_S = 0.005
"""Between two messages: 200 a second."""
BATCH = 100
NUMBERS = {"sent": {"type": "number"}, "left": {"type": "integer"}}
"""When a message was sent, by the clock that processes share, and how many of its round come after it."""
HANDLER = """
import json, time

taken = []

async def note(data):
    taken.append(time.perf_counter() - data["sent"])
    if data["left"] == 0:
        print(json.dumps({"taken": taken, "ended": time.perf_counter()}), flush=True)
        taken.clear()
"""
encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Round:
    """What a consumer says when it has handled the last message of a round."""

    taken: list[float]
    """Seconds from the send of each message to its handling."""
    ended: float


@dataclass
class Pair:
    """The rounds of both sides of one comparison."""

    bare: list[Round] = field(default_factory=list)
    ours: list[Round] = field(default_factory=list)
    bare_rates: list[float] = field(default_factory=list)
    our_rates: list[float] = field(default_factory=list)


def body(left: int) -> dict[str, Any]:
    return {**BODY, "sent": time.perf_counter(), "left": left}


def listen(process: subprocess.Popen[str]) -> Round:
    """What the consumer says of a round."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a consumer ended early")
    return Round(**json.loads(line))


# -- the other side ----------------------------------------------------------------------


def consume_bare(port: int) -> None:
    """Over a bare socket, until it is killed."""
    line = Bare(port)
    line.ask(("XGROUP", "CREATE", "bare", "g", "0", "MKSTREAM"))
    print("ready", flush=True)
    taken: list[float] = []
    while True:
        reply = line.ask(("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "COUNT", 100, "STREAMS", "bare", ">"))
        for entry, fields in reply[0][1]:
            _note(msgspec.json.decode(fields[1]), taken)
            line.ask(("XACK", "bare", "g", entry), ("XDEL", "bare", entry))


def consume_raw(port: int) -> None:
    """With redis-py, until it is killed."""
    raw = redis.Redis(port=port, retry=None, socket_timeout=None, protocol=2)
    raw.xgroup_create("raw", "g", id="0", mkstream=True)
    print("ready", flush=True)
    taken: list[float] = []
    while True:
        reply: Any = raw.xreadgroup("g", "c", {"raw": ">"}, count=BATCH, block=0)
        entries = reply[0][1]
        pipe = raw.pipeline(transaction=False)
        pipe.xack("raw", "g", *[entry for entry, _ in entries])
        pipe.xdel("raw", *[entry for entry, _ in entries])
        pipe.execute()
        for _, fields in entries:
            _note(msgspec.json.decode(fields[b"data"]), taken)


def _note(data: dict[str, Any], taken: list[float]) -> None:
    taken.append(time.perf_counter() - data["sent"])
    if data["left"] == 0:
        print(json.dumps({"taken": taken, "ended": time.perf_counter()}), flush=True)
        taken.clear()


# -- paced ----------------------------------------------------------------------


def pace_bare(line: Bare, count: int) -> None:
    started = time.perf_counter()
    for n in range(count):
        time.sleep(max(started + n * GAP_S - time.perf_counter(), 0.0))
        line.ask(("XADD", "bare", "*", "data", encode(body(count - 1 - n))))


async def pace_ours(client: Any, count: int) -> None:
    started = time.perf_counter()
    for n in range(count):
        await asyncio.sleep(max(started + n * GAP_S - time.perf_counter(), 0.0))
        await client.send("work", body(count - 1 - n))


# -- both at once ----------------------------------------------------------------------


def send_raw(raw: redis.Redis, count: int) -> None:
    for start in range(0, count, BATCH):
        pipe = raw.pipeline(transaction=False)
        for n in range(start, start + BATCH):
            pipe.xadd("raw", {"data": encode(body(count - 1 - n))})
        pipe.execute()


def send_ours(client: Any, count: int) -> None:
    for start in range(0, count, BATCH):
        client.send_many("work", [body(count - 1 - n) for n in range(start, start + BATCH)])


# -- a run ----------------------------------------------------------------------


class Stage:
    """Server, consumers and senders of one run."""

    def __init__(self, port: int, server: int, folder: Path) -> None:
        self.port, self.url = port, f"redis://127.0.0.1:{port}"
        self._cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(server, {self._cores[0]})
        self.topology = self._apply(folder)
        module = [sys.executable, "-m", "tests.benchmarks.latency"]
        self.bare = self._start([*module, "--consume-bare", str(port)], Path.cwd())
        self.raw = self._start([*module, "--consume-raw", str(port)], Path.cwd())
        for process in (self.bare, self.raw):
            assert process.stdout is not None
            process.stdout.readline()
        self.worker = self._start([*LEANMQ, "run"], folder)

    def stop(self) -> None:
        for process in (self.worker, self.bare, self.raw):
            process.terminate()
        for process in (self.worker, self.bare, self.raw):
            process.communicate()

    def _apply(self, folder: Path) -> Topology:
        schema = {**SCHEMA, "properties": {**SCHEMA["properties"], **NUMBERS}}  # type: ignore[dict-item]
        declared = {
            "leanmq": 1,
            "name": "bench",
            "broker": {"url": self.url},
            "messages": {"order": {"schema": schema}},
            "queues": {"work": {"accepts": ["order"], "ttl": "1h"}},
            "handlers": {"note": {"queue": "work", "call": "notes:note"}},
        }
        (folder / "topology.yaml").write_text(json.dumps(declared))
        (folder / "notes.py").write_text(HANDLER)
        topology = Topology.load(folder / "topology.yaml")
        with open_blocking(self.url, namespace=topology.name, folder=folder) as link:
            apply_changes(link, topology, who="benchmark")
        return topology

    def _start(self, words: list[str], folder: Path) -> subprocess.Popen[str]:
        def stay_on_one_core() -> None:
            os.sched_setaffinity(0, {self._cores[-1]})

        return subprocess.Popen(
            words,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=stay_on_one_core,
        )


async def measure_latency(stage: Stage, rounds: int, count: int) -> Pair:
    pair, line = Pair(), Bare(stage.port)
    async with connect(stage.topology) as client:
        for _ in range(rounds + 1):
            pace_bare(line, count)
            pair.bare.append(listen(stage.bare))
            await pace_ours(client, count)
            pair.ours.append(listen(stage.worker))
    del pair.bare[0], pair.ours[0]  # connections, caches and code were cold
    return pair


def measure_both(stage: Stage, rounds: int, count: int) -> Pair:
    pair = Pair()
    raw = redis.Redis(port=stage.port, retry=None, protocol=2)
    with connect_sync(stage.topology) as client:
        for _ in range(rounds + 1):
            began = time.perf_counter()
            send_raw(raw, count)
            pair.bare_rates.append(count / (listen(stage.raw).ended - began))
            began = time.perf_counter()
            send_ours(client, count)
            pair.our_rates.append(count / (listen(stage.worker).ended - began))
    del pair.bare_rates[0], pair.our_rates[0]
    return pair


def render_latency(pair: Pair) -> Iterator[str]:
    yield f"{'at 200 messages a second':<26} {'p50 ms':>8} {'p99 ms':>8}"
    for name, rounds in (("bare socket", pair.bare), ("send to handler", pair.ours)):
        yield f"{name:<26} {_middle(rounds, 0.5) * 1000:>8.2f} {_middle(rounds, 0.99) * 1000:>8.2f}"
    p50, p99 = (_middle(pair.ours, share) / _middle(pair.bare, share) for share in (0.5, 0.99))
    yield f"{'of bare':<26} {p50:>8.2f} {p99:>8.2f}"


def render_both(pair: Pair) -> Iterator[str]:
    bare, ours = statistics.median(pair.bare_rates), statistics.median(pair.our_rates)
    yield f"{'both at once':<26} {'a second':>8} {'of raw':>8}"
    yield f"{'redis-py':<26} {bare:>8,.0f} {1:>8.2f}"
    yield f"{'send_many and a worker':<26} {ours:>8,.0f} {ours / bare:>8.2f}"


def _middle(rounds: list[Round], share: float) -> float:
    """The median over the rounds of each round's quantile."""
    return statistics.median(sorted(one.taken)[int((len(one.taken) - 1) * share)] for one in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--paced", type=int, default=200, help="messages of a paced round")
    parser.add_argument("--messages", type=int, default=20_000, help="messages of a round of both at once")
    parser.add_argument("--consume-bare", type=int, metavar="PORT", help="be a consumer of the other side")
    parser.add_argument("--consume-raw", type=int, metavar="PORT", help="be a consumer of the other side")
    chosen = parser.parse_args()
    if chosen.consume_bare:
        consume_bare(chosen.consume_bare)
    elif chosen.consume_raw:
        consume_raw(chosen.consume_raw)
    else:
        _run(chosen.rounds, chosen.paced, chosen.messages)


def _run(rounds: int, paced: int, messages: int) -> None:
    port, server = start_on_tcp("valkey9", "--appendonly", "yes", "--appendfsync", "everysec")
    assert server.process is not None
    with tempfile.TemporaryDirectory() as folder:
        try:
            stage = Stage(port, server.process.pid, Path(folder))
            try:
                latency = asyncio.run(measure_latency(stage, rounds, paced))
                both = measure_both(stage, rounds, messages // BATCH * BATCH)
            finally:
                stage.stop()
        finally:
            server.stop()
    print("\n".join([*render_latency(latency), "", *render_both(both)]))


if __name__ == "__main__":
    main()

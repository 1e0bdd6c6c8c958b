"""What handlers send while their workers are killed: with each acknowledgement once, never without it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path

import psutil

from leanmq_topology import Topology, connect
from tests.faults.catalogue import Figures
from tests.support.commands import LEANMQ, own_environ
from tests.support.processes import wait_until
from tests.support.servers import Server
from tests.support.workers import Place

MESSAGES = 300
KILLS = 4
TOPOLOGY = """
leanmq: 1
name: {namespace}
messages:
  number: {{schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}}}
queues:
  work: {{accepts: [number], ttl: none, visibility_timeout: 1s, max_deliveries: 1000}}
  returned: {{accepts: [number], ttl: none}}
  sent: {{accepts: [number], ttl: none}}
handlers:
  pass-on: {{queue: work, call: "tasks:pass_on", concurrency: 8, prefetch: 16, then: returned}}
"""
TASKS = """
import asyncio


async def pass_on(data, message):
    message.send("sent", data)
    await asyncio.sleep(0.02)
    return data
"""


def kill(worker: subprocess.Popen[bytes]) -> None:
    """The whole of it, at once."""
    processes = [psutil.Process(worker.pid)]
    processes += processes[0].children(recursive=True)
    for process in processes:
        process.kill()
    worker.wait()


async def test_what_handlers_send_arrives_once_although_their_workers_are_killed(
    server: Server, namespace: str, tmp_path: Path, figures: Figures
):
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(namespace=namespace))
    (tmp_path / "tasks.py").write_text(TASKS)
    place = Place(server, Topology.load(path))
    await asyncio.to_thread(place.apply)
    async with connect(path, url=server.url) as mq:
        await mq.send_many("work", [{"n": n} for n in range(MESSAGES)])

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*LEANMQ, "run"], cwd=tmp_path, env=own_environ(server.url),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def acknowledged() -> int:
        counters = place.state().counters
        return counters["acked"] if counters else 0

    worker = start()
    try:
        for kills in range(1, KILLS + 1):
            wanted = kills * MESSAGES // (KILLS + 2)
            await asyncio.to_thread(
                wait_until, lambda least=wanted: acknowledged() >= least, "some work done"
            )
            kill(worker)
            worker = start()
        state = await place.until_settled()
    finally:
        kill(worker)
    arrived = {name: Counter(numbers(place, name)) for name in ("returned", "sent")}
    lost = sum(n not in found for found in arrived.values() for n in range(MESSAGES))
    twice = sum(count > 1 for found in arrived.values() for count in found.values())
    figures.report("F1", server=server.kind, kills=KILLS, outputs=2 * MESSAGES, lost=lost, stored_twice=twice)
    assert (lost, twice) == (0, 0)
    assert state.counters is not None
    assert (state.counters["acked"], state.dead) == (MESSAGES, 0)


def numbers(place: Place, queue: str) -> list[int]:
    entries = place.command("XRANGE", place.key("q", queue), "-", "+")
    return [json.loads(dict(zip(flat[::2], flat[1::2], strict=True))[b"data"])["n"] for _, flat in entries]

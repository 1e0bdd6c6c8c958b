"""Clients that ask, and are gone before or after they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest

from leanmq_topology import Topology
from tests.faults.catalogue import Figures
from tests.faults.test_cancellation import Neighbours, sweep
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, happens, load, working

LIFETIME_MS = 1_000
TOPOLOGY = """
leanmq: 1
name: {namespace}
messages:
  number: {{schema: {{type: object, required: [n], properties: {{n: {{type: integer}}}}}}}}
queues:
  work: {{accepts: [number], ttl: none}}
routes:
  ask: {{type: request, request: number, reply: number, queue: work}}
"""
WAITS, ANSWERED = 0, 1
CLIENTS, KILLED, CROWD_LIFETIME_MS = 100, 20, 5_000


def start_caller(path: Path, url: str, number: int) -> subprocess.Popen[str]:
    words = [
        sys.executable,
        "-m",
        "tests.support.doomed_caller",
        str(path),
        url,
        str(LIFETIME_MS),
        str(number),
    ]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def say(caller: subprocess.Popen[str]) -> str:
    assert caller.stdout is not None
    return caller.stdout.readline().strip()


async def test_callers_that_are_killed_leave_nothing_behind(server: Server, namespace: str, tmp_path: Path):
    """Two are killed while they wait, two after they were answered."""
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(namespace=namespace))
    place = Place(server, Topology.load(path))
    await asyncio.to_thread(place.apply)
    waiting, goes_on = asyncio.Event(), asyncio.Event()
    waiters: list[int] = []

    async def handler(data: dict[str, int]) -> dict[str, int]:
        if data["n"] == WAITS:
            waiters.append(1)
            if len(waiters) == 2:
                waiting.set()
            await goes_on.wait()
        return data

    callers = [start_caller(path, server.url, number) for number in (WAITS, WAITS, ANSWERED, ANSWERED)]
    try:
        async with working(place, load(handler)):
            await happens(waiting)
            for caller in callers[2:]:
                assert await asyncio.to_thread(say, caller) == "asking"
                assert await asyncio.to_thread(say, caller) == "answered"
            for caller in callers:
                caller.kill()
                caller.wait()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while place.command("KEYS", f"{{{namespace}}}:r:*"):
                    await asyncio.sleep(0.02)  # a server has no way to signal that a key expired
            goes_on.set()
            state = await place.until_settled()
    finally:
        for caller in callers:
            caller.kill()
            caller.communicate()
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"], state.dead) == (4, 2, 0)
    assert place.command("KEYS", f"{{{namespace}}}:r:*") == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_of_a_hundred_clients_of_which_twenty_are_killed_no_key_is_left(
    server: Server, namespace: str, tmp_path: Path, figures: Figures
):
    """Ten are killed while they wait, ten after they were answered; eighty ask once and close."""
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(namespace=namespace))
    place = Place(server, Topology.load(path))
    await asyncio.to_thread(place.apply)
    before = set(place.command("KEYS", f"{{{namespace}}}:*"))
    waiting, goes_on = asyncio.Event(), asyncio.Event()
    waiters: set[int] = set()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        if data["n"] < KILLED // 2:
            waiters.add(data["n"])
            if len(waiters) == KILLED // 2:
                waiting.set()
            await goes_on.wait()
        return data

    crowd = start_crowd(path, server.url)
    pids: dict[int, int] = {}
    try:
        async with working(place, load(handler, concurrency=KILLED)):
            answered = await asyncio.to_thread(hear_crowd, crowd, pids)
            assert answered == set(range(KILLED // 2, CLIENTS))
            await happens(waiting)
            for number in range(KILLED):
                os.kill(pids[number], signal.SIGKILL)
            assert await asyncio.to_thread(say, crowd) == f"ended {CLIENTS - KILLED} {KILLED}"
            async with asyncio.timeout(PATIENCE_SECONDS):
                while place.command("KEYS", f"{{{namespace}}}:r:*"):
                    await asyncio.sleep(0.02)  # a server has no way to signal that a key expired
            goes_on.set()
            state = await place.until_settled()
    finally:
        end_crowd(crowd, pids)
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"]) == (CLIENTS, KILLED // 2)
    left = [key.split(b":")[1] for key in set(place.command("KEYS", f"{{{namespace}}}:*")) - before]
    # The last flush of each producer is remembered for ten minutes; `upkeep` is the namespace's own.
    leaked = [kind for kind in left if kind not in (b"p", b"upkeep")]
    assert leaked == []
    figures.report(
        "F55",
        server=server.kind,
        clients=CLIENTS,
        killed=KILLED,
        answered=len(answered),
        late_replies=state.counters["late_replies"],
        leaked=len(leaked),
    )


def start_crowd(path: Path, url: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.support.calling_crowd", str(path), url]
    numbers = map(str, (CROWD_LIFETIME_MS, CLIENTS, KILLED))
    return subprocess.Popen([*words, *numbers], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def hear_crowd(crowd: subprocess.Popen[str], pids: dict[int, int]) -> set[int]:
    """Which of them were answered, once all are that can be; notes who they are."""
    answered: set[int] = set()
    while len(answered) < CLIENTS - KILLED // 2 or len(pids) < CLIENTS:
        kind, *words = say(crowd).split()
        if kind == "caller":
            pids[int(words[0])] = int(words[1])
        else:
            answered.add(int(words[0]))
    return answered


def end_crowd(crowd: subprocess.Popen[str], pids: dict[int, int]) -> None:
    """Whatever the test met: nobody stays."""
    if crowd.poll() is None:
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        crowd.kill()
    crowd.communicate()


async def test_a_cancelled_request_gets_nobody_elses_answer_and_leaves_no_waiter(
    server: Server, namespace: str, tmp_path: Path, figures: Figures
):
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.format(namespace=namespace))
    place = Place(server, Topology.load(path))
    await asyncio.to_thread(place.apply)
    neighbours = Neighbours()
    numbers = {"before": 1, "gone": 2, "after": 3}

    async def handler(data: dict[str, int]) -> dict[str, int]:
        return data

    async with working(place, load(handler)), place.client() as client:

        def ask_three(steps: int) -> Awaitable[object]:
            return neighbours.around(
                lambda name: client.request(
                    "ask", {"n": 10 * steps + numbers[name]}, timeout=PATIENCE_SECONDS
                )
            )

        async def others_are_right(steps: int) -> None:
            assert await neighbours.answers() == [{"n": 10 * steps + 1}, {"n": 10 * steps + 3}]
            assert client._requester.waiting == 0

        swept = await sweep(ask_three, others_are_right)
        await place.until_settled()
        assert client.reply_counts.duplicate == 0
    assert place.command("KEYS", f"{{{namespace}}}:r:*") == []
    figures.report("F12", server=server.kind, call="request", cancelled_at_steps=swept, wrong_answers=0)

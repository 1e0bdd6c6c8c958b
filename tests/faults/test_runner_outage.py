"""The server goes away under a running worker, and comes back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Message
from tests.support.servers import Server, require_binary
from tests.support.workers import PATIENCE_SECONDS, Place, happens, load, make_topology, work_queue, working


@pytest.fixture
def durable() -> Iterator[Server]:
    """A server of its own that keeps what it was told, so that it may be killed."""
    running = Server(
        "valkey9", require_binary("valkey9"), arguments=("--appendonly", "yes", "--appendfsync", "always")
    ).start()
    yield running
    running.stop()


@pytest.fixture
def place(durable: Server, namespace: str, tmp_path: Path) -> Place:
    found = Place(durable, make_topology(namespace, tmp_path, work_queue()))
    found.apply()
    return found


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "event", "") == name]


async def said(caplog: pytest.LogCaptureFixture, name: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not events(caplog, name):
            await asyncio.sleep(0.01)  # a log has no way to signal


async def test_a_worker_waits_for_its_server_and_goes_on(place: Place, caplog: pytest.LogCaptureFixture):
    got: list[int] = []
    came = asyncio.Event()

    async def handler(data: dict[str, int]) -> None:
        got.append(data["n"])
        came.set()

    async with working(place, load(handler)):
        await place.send(1)
        await happens(came)
        await place.until_settled()
        came.clear()
        place.server.kill()
        await said(caplog, "server_lost")
        place.server.start()
        await said(caplog, "server_back")
        await place.send(2)
        await happens(came)
        await place.until_settled()
    assert got == [1, 2]
    assert len(events(caplog, "server_lost")) == 1
    assert len(events(caplog, "server_back")) == 1


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_what_ran_while_the_server_was_away_is_acknowledged_afterwards(
    place: Place, caplog: pytest.LogCaptureFixture, asynchronous: bool
):
    started, release, runs = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def in_a_thread(message: Message) -> None:
        runs.append(message.attempt)
        loop.call_soon_threadsafe(started.set)
        assert release.wait(PATIENCE_SECONDS)

    async def in_the_loop(message: Message) -> None:
        await asyncio.to_thread(in_a_thread, message)

    async with working(place, load(in_the_loop if asynchronous else in_a_thread)):
        await place.send(1)
        await happens(started)
        place.server.kill()
        release.set()
        await said(caplog, "server_lost")
        place.server.start()
        state = await place.until_settled()
    assert runs == [1]
    assert state.counters is not None
    assert (state.counters["acked"], state.dead) == (1, 0)


async def test_stopping_without_a_server_ends_in_bounded_time_and_is_not_clean(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.runner.worker.SETTLE_SECONDS", 0.2)
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(data: Any) -> None:
        started.set()
        await release.wait()

    async with working(place, load(handler), drain_seconds=0.2) as running:
        await place.send(1)
        await happens(started)
        place.server.kill()
        release.set()
        ended = await running.stop()
    assert not ended.clean


async def test_a_worker_without_a_server_does_not_spin(place: Place, monkeypatch: pytest.MonkeyPatch):
    async def handler(data: Any) -> None: ...

    async with working(place, load(handler)) as running:
        connection = running.link.connection
        tries = 0
        execute = type(connection).execute

        async def counted(self: Any, operation: Any) -> Any:
            nonlocal tries
            tries += 1
            return await execute(self, operation)

        monkeypatch.setattr(type(connection), "execute", counted)
        place.server.kill()
        await asyncio.sleep(1)  # the length of the measurement
        assert tries < 30
        place.server.start()

"""Batch handlers on real servers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Message, Reject, Retry
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.topology.model import Batch, Queue
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, happens, load, make_topology, work_queue, working

Here = Callable[..., Place]
both = pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])


@pytest.fixture
def here(server: Server, namespace: str, tmp_path: Path) -> Here:
    """Applies these queues on the server of this run."""

    def apply(*queues: Queue) -> Place:
        place = Place(server, make_topology(namespace, tmp_path, *queues))
        place.apply()
        return place

    return apply


def in_colour(function: Callable[..., Any], asynchronous: bool, **declared: Any) -> LoadedHandler:
    """A batch handler made of a plain function of the messages."""

    async def in_the_loop(message: list[Message]) -> Any:
        return function(message)

    def in_a_thread(message: list[Message]) -> Any:
        return function(message)

    return load(in_the_loop if asynchronous else in_a_thread, **declared)


@both
async def test_a_backlog_is_handled_in_full_batches_each_message_once(here: Here, asynchronous: bool):
    place, sizes, seen = here(work_queue()), [], Counter[int]()

    def handler(messages: list[Message]) -> None:
        sizes.append(len(messages))
        seen.update(message.data["n"] for message in messages)

    await place.send(*range(500))
    declared = {"batch": Batch(size=50, wait_ms=60_000), "concurrency": 2}
    async with working(place, in_colour(handler, asynchronous, **declared)):
        state = await place.until_settled()
    assert seen == Counter(range(500))
    assert sizes == [50] * 10
    assert state.counters is not None
    assert (state.counters["acked"], state.dead) == (500, 0)


@both
async def test_a_batch_that_does_not_fill_up_starts_when_its_first_message_has_waited(
    here: Here, asynchronous: bool
):
    place, sizes = here(work_queue()), []

    def handler(messages: list[Message]) -> None:
        sizes.append(len(messages))

    await place.send(1, 2, 3)
    async with working(place, in_colour(handler, asynchronous, batch=Batch(size=100, wait_ms=50))):
        await place.until_settled()
    assert sizes == [3]


@both
async def test_every_result_decides_about_its_own_message(here: Here, asynchronous: bool):
    place, attempts = here(work_queue(max_deliveries=2)), Counter[int]()

    def handler(messages: list[Message]) -> list[Any]:
        attempts.update(message.data["n"] for message in messages)
        fates = [None, False, Reject("never"), LookupError("no card"), Retry(after=0)]
        return [fates[message.data["n"]] for message in messages]

    await place.send(0, 1, 2, 3, 4)
    async with working(place, in_colour(handler, asynchronous, batch=Batch(size=5, wait_ms=100))):
        state = await place.until_settled()
    assert attempts == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2}
    dead = {letter.envelope.data: (letter.reason, letter.failure.type) for letter in place.dead_letters()}
    assert dead == {
        b'{"n":1}': (DeadReason.FAILED, "False"),
        b'{"n":2}': (DeadReason.REJECTED, "Reject"),
        b'{"n":3}': (DeadReason.FAILED, "LookupError"),
        b'{"n":4}': (DeadReason.FAILED, "Retry"),
    }
    assert state.counters is not None
    assert state.counters["acked"] == 1


@both
@pytest.mark.parametrize("kind", ["raises", "too many results"])
async def test_a_batch_that_fails_as_a_whole_is_retried_and_dead_lettered_as_a_whole(
    here: Here, asynchronous: bool, kind: str
):
    place, calls = here(work_queue(max_deliveries=2)), []

    def handler(messages: list[Message]) -> Any:
        calls.append([message.data["n"] for message in messages])
        if kind == "raises":
            raise LookupError("no database")
        return [None] * (len(messages) + 1)

    await place.send(0, 1, 2)
    async with working(place, in_colour(handler, asynchronous, batch=Batch(size=3, wait_ms=2_000))):
        await place.until(lambda state: state.dead == 3)
    assert Counter(number for call in calls for number in call) == {0: 2, 1: 2, 2: 2}
    expected = "LookupError" if kind == "raises" else "TypeError"
    assert {letter.failure.type for letter in place.dead_letters()} == {expected}


async def test_what_is_invalid_never_reaches_the_batch(here: Here):
    place, got = here(work_queue()), []

    async def handler(data: list[dict[str, int]]) -> None:
        got.extend(item["n"] for item in data)

    place.add_raw(id="a", type="number", data='{"n": "many"}', headers="", attempt="0", expires="")
    await place.send(1, 2)
    async with working(place, load(handler, batch=Batch(size=3, wait_ms=2_000))):
        state = await place.until_settled()
    assert got == [1, 2]
    assert state.dead == 1


@both
async def test_stopping_hands_back_what_still_gathers_and_lets_the_running_batch_end(
    here: Here, asynchronous: bool
):
    place = here(work_queue())
    started, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def in_the_loop(message: list[Message]) -> None:
        started.set()
        await asyncio.to_thread(release.wait, PATIENCE_SECONDS)

    def in_a_thread(message: list[Message]) -> None:
        loop.call_soon_threadsafe(started.set)
        release.wait(PATIENCE_SECONDS)

    handler = load(
        in_the_loop if asynchronous else in_a_thread, concurrency=1, batch=Batch(size=3, wait_ms=3_600_000)
    )
    async with working(place, handler) as running:
        await place.send(*range(5))
        await happens(started)
        await place.until(lambda state: state.in_flight == 5)
        stopping = asyncio.create_task(running.stop())
        attempts: list[int] = []

        async def note(message: Message) -> None:
            attempts.append(message.attempt)

        async with working(place, load(note)):
            await place.until(lambda state: state.in_flight == 3 and not state.ready)
            release.set()
            ended = await stopping
            await place.until_settled()
    assert ended.clean
    assert attempts == [1, 1]


async def test_a_batch_that_takes_too_long_has_failed_for_every_message(here: Here):
    place = here(work_queue(max_deliveries=1))

    async def hangs(data: list[Any]) -> None:
        await asyncio.Event().wait()

    await place.send(1, 2, 3)
    async with working(place, load(hangs, batch=Batch(size=3, wait_ms=2_000), timeout_ms=50)):
        await place.until(lambda state: state.dead == 3)
    assert {letter.failure.type for letter in place.dead_letters()} == {"TimeoutError"}


async def test_a_whole_batch_is_acknowledged_in_one_call(here: Here, monkeypatch: pytest.MonkeyPatch):
    place, acks = here(work_queue()), []

    async def handler(data: list[Any]) -> None:
        await asyncio.sleep(0)

    await place.send(*range(40))
    async with working(place, load(handler, batch=Batch(size=40, wait_ms=60_000))) as running:
        broker = running.worker._broker
        ack = broker.ack

        def count(queue: str, ids: Any, **options: Any) -> Any:
            acks.append(len(ids))
            return ack(queue, ids, **options)

        monkeypatch.setattr(type(broker), "ack", lambda self, *args, **options: count(*args, **options))
        await place.until_settled()
    assert acks == [40]

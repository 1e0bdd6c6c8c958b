"""Correlation, cause and trace, followed through handlers, retries and dead letters on real servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology import Client, Message, SyncClient
from leanmq_topology.messages.codec import decode_fields
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.topology.model import Batch, Queue
from tests.support.servers import Server
from tests.support.workers import Place, load, make_topology, work_queue, working

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path) -> Place:
    found = Place(
        server,
        make_topology(
            namespace, tmp_path, work_queue(max_deliveries=2), Queue(name="next"), Queue(name="batches")
        ),
    )
    found.apply()
    return found


def stored(place: Place, queue: str) -> list[Envelope]:
    return [decode_fields(flat) for _, flat in place.command("XRANGE", place.key("q", queue), "-", "+")]


async def passes_on(data: dict[str, int], mq: Client) -> None:
    await mq.send("next", data)


async def passes_on_from_a_task(data: dict[str, int], mq: Client) -> None:
    await asyncio.gather(mq.send("next", data))


async def passes_on_in_a_transaction(data: dict[str, int], mq: Client) -> None:
    async with mq.transaction() as tx:
        tx.send("next", data)


def passes_on_from_a_thread(data: dict[str, int], mq: SyncClient) -> None:
    mq.send("next", data)


async def answers(message: Message) -> None:
    message.send("next", message.data)


HANDLERS = [passes_on, passes_on_from_a_task, passes_on_in_a_transaction, passes_on_from_a_thread, answers]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.__name__)
async def test_what_a_handler_sends_refers_to_its_message(place: Place, handler: Any):
    async with place.client() as client:
        plain = await client.send("work", {"n": 1})
        named = await client.send("work", {"n": 2}, correlation_id="story", headers={"traceparent": TRACE})
    async with working(place, load(handler)):
        await place.until(lambda state: state.ready == 2, "next")
    first, second = sorted(stored(place, "next"), key=lambda one: one.data)
    assert (first.headers["correlationid"], first.headers["causationid"]) == (plain, plain)
    assert (second.headers["correlationid"], second.headers["causationid"]) == ("story", named)
    assert (second.headers["traceparent"], "traceparent" in first.headers) == (TRACE, False)


async def test_many_handlers_at_once_do_not_mix_their_messages(place: Place):
    async def waits_and_passes_on(data: dict[str, int], mq: Client) -> None:
        await asyncio.sleep(0)
        await mq.send("next", data)
        await asyncio.sleep(0)
        await mq.send("next", data)

    async with place.client() as client:
        sent = await client.send_many("work", [{"n": n} for n in range(40)])
    async with working(place, load(waits_and_passes_on, concurrency=8)):
        await place.until(lambda state: state.ready == 80, "next")
    found = sorted((int(one.data[5:-1]), one.headers["causationid"]) for one in stored(place, "next"))
    assert found == sorted((n, message_id) for n, message_id in enumerate(sent) for _ in range(2))


async def passes_on_a_batch(data: list[dict[str, int]], mq: Client) -> None:
    await mq.send_many("next", data)


def passes_on_a_batch_from_a_thread(data: list[dict[str, int]], mq: SyncClient) -> None:
    mq.send_many("next", data)


@pytest.mark.parametrize("wait_ms", [0, 20], ids=["at once", "when its time is up"])
@pytest.mark.parametrize(
    "handler", [passes_on_a_batch, passes_on_a_batch_from_a_thread], ids=lambda handler: handler.__name__
)
async def test_a_batch_beside_a_handler_of_single_messages_refers_to_none(
    place: Place, handler: Any, wait_ms: int
):
    async def handles(data: dict[str, int]) -> None: ...

    batches = load(handler, "batches", batch=Batch(size=10, wait_ms=wait_ms))
    async with working(place, load(handles), batches):
        for n in (1, 2):  # the second is run in the very callback that brings it
            await place.send(n)
            await place.until_settled()
        await place.send(3, queue="batches")
        await place.until(lambda state: state.ready == 1, "next")
    [only] = stored(place, "next")
    assert not {"correlationid", "causationid"} & only.headers.keys()


async def test_correlation_and_trace_survive_retries_and_death(place: Place):
    seen = []

    async def fails(message: Message) -> None:
        seen.append((message.correlation_id, message.headers["traceparent"]))
        raise LookupError("on purpose")

    async with place.client() as client:
        await client.send("work", {"n": 1}, correlation_id="story", headers={"traceparent": TRACE})
    async with working(place, load(fails)):
        await place.until(lambda state: state.dead == 1)
    assert seen == [("story", TRACE)] * 2
    [letter] = place.dead_letters()
    assert (letter.envelope.headers["correlationid"], letter.envelope.headers["traceparent"]) == (
        "story",
        TRACE,
    )


async def test_a_client_outside_a_handler_refers_to_nothing(place: Place):
    async with working(place, load(passes_on)), place.client() as client:
        await client.send("work", {"n": 1})
        await place.until(lambda state: state.ready == 1, "next")
        await client.send("next", {"n": 2})
    assert ["causationid" in one.headers for one in stored(place, "next")] == [True, False]

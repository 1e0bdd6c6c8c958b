"""Asking and being answered, on real servers."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import Decline, Discard, Message, Reject, Retry, SyncClient, connect, connect_sync
from leanmq_topology.brokers.protocol import Flush, Operation, Reply
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.client import requesting_tasks
from leanmq_topology.client.patience import LONGEST_S
from leanmq_topology.client.requesting import CLOCKS_DIFFER_S, LIFETIME_MS, LONGEST_READ_MS
from leanmq_topology.errors import (
    BrokerUnavailableError,
    InvalidMessageError,
    LeanMQError,
    QueueFullError,
    RemoteError,
    RequestTimeoutError,
    SettingError,
)
from leanmq_topology.messages.codec import encode_failure
from leanmq_topology.messages.outcome import EXPIRED, DeadReason, Failure
from leanmq_topology.topology.model import Batch, MessageType, OnFalse, Queue, RequestRoute, Topology
from tests.support.chaos_proxy import ChaosProxy
from tests.support.servers import Server
from tests.support.workers import (
    PATIENCE_SECONDS,
    Place,
    Running,
    happens,
    load,
    make_topology,
    work_queue,
    working,
)

ANSWER = MessageType(
    name="answer", schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
)
AN_OUTAGE = LONGEST_S
"""Seconds that whoever may go on goes on in one."""
A_BREAK = 5.0
"""Seconds that a connection gives a server which says nothing, where nobody says otherwise."""
LONG = 30.0
"""Seconds that no reply of these tests takes."""
Here = Callable[..., Place]


@pytest.fixture
def here(server: Server, namespace: str, tmp_path: Path) -> Here:
    """Applies `work`, and the route `ask` to it; options are those of the queue."""

    def apply(**work: Any) -> Place:
        place = Place(server, declare(namespace, tmp_path, **work))
        place.apply()
        return place

    return apply


def declare(namespace: str, folder: Path, **work: Any) -> Topology:
    plain = make_topology(namespace, folder, work_queue(**work), Queue(name="out"))
    route = RequestRoute(name="ask", request="number", reply="answer", queue="work", timeout_ms=30_000)
    return replace(plain, messages={**plain.messages, "answer": ANSWER}, routes={"ask": route})


async def double(data: dict[str, int]) -> dict[str, int]:
    return {"n": data["n"] * 2}


@asynccontextmanager
async def answering(place: Place, handler: Any = double, **declared: Any) -> AsyncIterator[Running]:
    async with working(place, load(handler, **declared)) as running:
        yield running


def put_reply(place: Place, reply: Reply) -> None:
    """As another program would that answers requests."""
    key = Keys(place.topology.broker.namespace).inbox(reply.inbox)
    error = encode_failure(reply.failure) if reply.failure else b""
    words = ("id", reply.request_id, "type", reply.type, "data", reply.data, "error", error)
    place.command("XADD", key, "*", *words)


def inboxes(place: Place) -> list[bytes]:
    return place.command("KEYS", f"{{{place.topology.broker.namespace}}}:r:*")


def ask_in_vain(place: Place, client: SyncClient) -> None:
    """Nobody answers this request in its time; it has its inbox, and lies in the queue."""
    patience = 0.05
    while not inboxes(place) or not place.state().ready:  # on a busy machine little happens in that time
        assert patience < PATIENCE_SECONDS
        with pytest.raises(RequestTimeoutError):
            client.request("ask", {"n": 1}, timeout=patience)
        patience *= 4


# -- outages -------------------------------------------------------------------------------------------------


def cut_off(proxy: ChaosProxy) -> None:
    """From now on every request is lost with its connection."""
    proxy.lose_requests(1_000_000, to=b"")


def reach_again(proxy: ChaosProxy) -> None:
    proxy.lose_requests(0, to=b"")


def get_to_know(place: Place, client: SyncClient, known: str) -> None:
    """Of what a first request asks for, so much beforehand: each step may be the one that meets an outage."""
    if known != "nothing":
        client.read_destination("ask")
    if known in ("inbox", "old inbox", "all"):
        client._requester.open(time.monotonic() + PATIENCE_SECONDS)
    if known == "old inbox":
        client._requester._box._kept_at = time.monotonic() - 3600
    if known == "all":
        ask_in_vain(place, client)


@pytest.mark.parametrize("known", ["nothing", "route", "inbox", "old inbox"])
def test_a_blocking_request_in_an_outage_ends_in_its_time_and_so_does_closing(here: Here, known: str):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        with connect_sync(place.topology, url=proxy.url) as client:
            get_to_know(place, client, known)
            cut_off(proxy)
            began = time.monotonic()
            # Told of the server as soon as another try would come too late, if its time is not up by then.
            with pytest.raises((BrokerUnavailableError, RequestTimeoutError)):
                client.request("ask", {"n": 1}, timeout=0.5)
        assert time.monotonic() - began < AN_OUTAGE / 2


@pytest.mark.parametrize("known", ["nothing", "route", "inbox", "all"])
def test_a_blocking_request_to_a_server_that_says_nothing_ends_in_its_time(here: Here, known: str):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        with connect_sync(place.topology, url=proxy.url) as client:
            get_to_know(place, client, known)
            proxy.hold_answers()
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"0\.5 s"):
                client.request("ask", {"n": 1}, timeout=0.5)
            took = time.monotonic() - began
            assert took < A_BREAK / 2
        proxy.release_answers()


async def test_a_request_to_a_server_that_says_nothing_ends_in_its_time(here: Here):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        async with connect(place.topology, url=proxy.url) as client:
            proxy.hold_answers()
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"0\.5 s"):
                await client.request("ask", {"n": 1}, timeout=0.5)
            assert time.monotonic() - began < A_BREAK / 2
        proxy.release_answers()


def test_a_blocking_request_does_not_wait_for_those_who_wait_for_the_server_longer(here: Here):
    place = here()
    with (
        ChaosProxy(place.server.socket_path) as proxy,
        ThreadPoolExecutor(1) as threads,
        connect_sync(place.topology, url=proxy.url) as client,
    ):
        client.read_destination("ask")
        cut_off(proxy)
        sent = threads.submit(client.send, "out", {"n": 1})
        while not proxy.dropped:
            time.sleep(0.01)  # from now on it has the client's connection
        began = time.monotonic()
        with pytest.raises(RequestTimeoutError, match=r"0\.5 s"):
            client.request("ask", {"n": 1}, timeout=0.5)
        assert time.monotonic() - began < AN_OUTAGE / 2
        reach_again(proxy)
        assert sent.result(PATIENCE_SECONDS)


async def test_a_request_in_an_outage_ends_in_its_time_although_its_route_was_never_read(here: Here):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        async with connect(place.topology, url=proxy.url) as client:
            cut_off(proxy)
            began = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"0\.5 s"):
                await client.request("ask", {"n": 1}, timeout=0.5)
            assert time.monotonic() - began < AN_OUTAGE / 2


async def test_an_inbox_that_cannot_be_renewed_keeps_no_reply_from_who_waits_for_it(here: Here):
    place = here()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        client._requester._box._kept_at = time.monotonic() - 3600  # as if an hour had passed
        client._requester._execute = refuse
        return data

    def refuse(operation: Operation[Any], until: float) -> Any:
        time.sleep(max(until - time.monotonic(), 0))
        raise BrokerUnavailableError("away")

    async with answering(place, handler):
        with connect_sync(place.topology, url=place.server.url) as client:
            asked = asyncio.to_thread(client.request, "ask", {"n": 1}, timeout=PATIENCE_SECONDS)
            assert await asked == {"n": 1}


# -- answers -------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_with_what_the_handler_returns(here: Here):
    place = here()
    async with answering(place), place.client() as client:
        assert await client.request("ask", {"n": 21}) == {"n": 42}
        assert await client.request("ask", {"n": 4}, timeout="20s", headers={"color": "red"}) == {"n": 8}
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"], state.dead) == (2, 0, 0)


async def test_a_blocking_client_is_answered_too_by_a_handler_in_a_thread(here: Here):
    place = here()

    def handler(data: dict[str, int]) -> dict[str, int]:
        return {"n": data["n"] + 1}

    def ask() -> list[Any]:
        with connect_sync(place.topology, url=place.server.url) as client:
            return [client.request("ask", {"n": n}, timeout=LONG) for n in range(20)]

    async with answering(place, handler):
        assert await asyncio.to_thread(ask) == [{"n": n + 1} for n in range(20)]


async def test_fifty_requests_of_one_client_get_their_own_answers_although_every_connection_is_cut(
    here: Here,
):
    place = here()
    asked, cut = asyncio.Event(), asyncio.Event()
    running: set[int] = set()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        running.add(data["n"])
        if len(running) >= 25:
            asked.set()
            await cut.wait()
        return {"n": data["n"] * 2}

    async with answering(place, handler, concurrency=50), place.client() as client:
        requests = [asyncio.create_task(client.request("ask", {"n": n}, timeout=LONG)) for n in range(50)]
        await happens(asked)
        place.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cut.set()
        assert await asyncio.gather(*requests) == [{"n": n * 2} for n in range(50)]
        assert client.reply_counts.late == 0
        await place.until_settled()


async def test_threads_that_share_a_client_get_their_own_answers_although_connections_are_cut(here: Here):
    place = here()
    started = threading.Barrier(2)

    async def handler(data: dict[str, int]) -> dict[str, int]:
        if data["n"] == 5:
            await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
        return {"n": data["n"] * 2}

    def ask_all() -> list[Any]:
        with (
            connect_sync(place.topology, url=place.server.url) as client,
            ThreadPoolExecutor(10) as threads,
        ):
            answers = threads.map(lambda n: client.request("ask", {"n": n}, timeout=LONG), range(50))
            started.wait(PATIENCE_SECONDS)
            place.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            return list(answers)

    async with answering(place, handler):
        assert await asyncio.to_thread(ask_all) == [{"n": n * 2} for n in range(50)]


async def test_a_reply_and_what_the_handler_sends_besides_leave_together(here: Here):
    place = here()

    async def handler(data: dict[str, int], message: Message) -> dict[str, int]:
        message.send("out", {"n": 7})
        return {"n": data["n"]}

    async with answering(place, handler, then="out"), place.client() as client:
        assert await client.request("ask", {"n": 1}) == {"n": 1}
    with place.link() as link:
        found = link.connection.execute(link.broker.peek("out", count=10))
    assert sorted(entry.envelope.data for entry in found) == [b'{"n":1}', b'{"n":7}']


async def test_false_is_a_reply_like_any_other_where_the_route_allows_it(
    server: Server, namespace: str, tmp_path: Path
):
    topology = declare(namespace, tmp_path)
    place = Place(
        server, replace(topology, messages={**topology.messages, "answer": replace(ANSWER, schema=True)})
    )
    place.apply()

    async def handler(data: dict[str, int]) -> Any:
        return {0: False, 1: None, 2: [1, "two"]}[data["n"]]

    async with answering(place, handler, on_false=OnFalse.DEAD_LETTER), place.client() as client:
        assert [await client.request("ask", {"n": n}) for n in range(3)] == [False, None, [1, "two"]]
        assert (await place.until_settled()).dead == 0


async def test_what_nobody_waits_for_is_handled_as_any_message(here: Here):
    place = here()
    async with answering(place), place.client() as client:
        await client.send("work", {"n": 1})
        await client.send("ask", {"n": 2})
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"]) == (2, 0)
    assert inboxes(place) == []


# -- alone -------------------------------------------------------------------------------------------------


COLOURS = ["asyncio", "blocking"]


@asynccontextmanager
async def asking(place: Place, colour: str, url: str) -> AsyncIterator[Callable[[int], Awaitable[Any]]]:
    """Asks at `ask` through a client of either colour, whose first request was answered."""
    if colour == "asyncio":
        async with connect(place.topology, url=url) as client:
            await client.request("ask", {"n": 0}, timeout=LONG)
            yield lambda n: client.request("ask", {"n": n}, timeout=LONG)
        return
    with connect_sync(place.topology, url=url) as blocking:

        def ask(n: int) -> Awaitable[Any]:
            return asyncio.to_thread(blocking.request, "ask", {"n": n}, timeout=LONG)

        await ask(0)
        yield ask


@pytest.mark.parametrize("colour", COLOURS)
async def test_the_read_of_a_reply_leaves_behind_a_request_that_is_alone_and_waits_for_no_answer(
    here: Here, colour: str
):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        async with answering(place), asking(place, colour, proxy.url) as ask:
            chunks: list[bytes] = []
            proxy.on_request = chunks.append
            proxy.hold_answers()
            asked = asyncio.ensure_future(ask(1))
            async with asyncio.timeout(LONG):
                while b"XREAD" not in b"".join(chunks):
                    await asyncio.sleep(0.005)
            proxy.release_answers()
            assert await asked == {"n": 2}
            said = b"".join(chunks)
            assert said.index(b"EVALSHA") < said.index(b"XREAD")
            assert (said.count(b"EVALSHA"), said.count(b"XREAD")) == (1, 1)


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_request_that_is_alone_is_stored_once_although_the_answer_to_it_is_lost(
    here: Here, colour: str
):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        async with answering(place), asking(place, colour, proxy.url) as ask:
            proxy.lose_answers(1, to=b"EVALSHA")
            assert await ask(1) == {"n": 2}
            assert proxy.lost == 1
            state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["sent"], state.counters["acked"]) == (2, 2)


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_request_that_is_alone_is_sent_again_if_it_was_lost(here: Here, colour: str):
    place = here()
    with ChaosProxy(place.server.socket_path) as proxy:
        async with answering(place), asking(place, colour, proxy.url) as ask:
            proxy.lose_requests(1, to=b"EVALSHA")
            assert await ask(1) == {"n": 2}
            assert proxy.dropped == 1
            assert await ask(2) == {"n": 4}


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_request_that_is_alone_waits_for_no_read_when_the_server_has_forgotten_its_scripts(
    here: Here, colour: str
):
    place = here()
    async with answering(place), asking(place, colour, place.server.url) as ask:
        place.command("SCRIPT", "FLUSH")
        began = time.monotonic()
        assert await ask(1) == {"n": 2}
        assert time.monotonic() - began < LONGEST_READ_MS / 1000 / 2


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_request_that_is_alone_follows_its_route_when_that_is_applied_anew(here: Here, colour: str):
    place = here()
    async with answering(place), asking(place, colour, place.server.url) as ask:
        work = replace(place.topology.queues["work"], ttl_ms=3_600_000)
        queues = {**place.topology.queues, "work": work}
        changed = Place(place.server, replace(place.topology, queues=queues))
        await asyncio.to_thread(changed.apply)
        began = time.monotonic()
        assert await ask(1) == {"n": 2}
        assert time.monotonic() - began < LONGEST_READ_MS / 1000 / 2


@pytest.mark.parametrize("colour", COLOURS)
async def test_a_request_that_is_alone_is_refused_at_once_where_its_queue_is_full(here: Here, colour: str):
    place = here(max_length=1)
    async with AsyncExitStack() as stack:
        async with answering(place):
            ask = await stack.enter_async_context(asking(place, colour, place.server.url))
        await place.send(7)
        for _ in range(2):
            with pytest.raises(QueueFullError):
                await ask(1)


# -- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", ["async def", "def"])
@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (ZeroDivisionError("cannot divide by zero"), "ZeroDivisionError", "cannot divide by zero"),
        (Reject("no such thing"), "Reject", "no such thing"),
        (Discard("not now"), "Discard", "not now"),
        (RuntimeError("x" * 5000), "RuntimeError", "x" * 500),
    ],
    ids=["exception", "reject", "discard", "long"],
)
async def test_a_failure_for_good_is_raised_at_the_caller(
    here: Here, colour: str, raised: Exception, kind: str, text: str
):
    place = here(max_deliveries=2)

    async def waits(data: dict[str, int]) -> None:
        raise raised

    def blocks(data: dict[str, int]) -> None:
        raise raised

    async with answering(place, waits if colour == "async def" else blocks), place.client() as client:
        with pytest.raises(RemoteError) as caught:
            await client.request("ask", {"n": 1}, timeout=LONG)
        await place.until_settled()
    assert isinstance(caught.value, ValueError)
    assert (caught.value.type, caught.value.text, caught.value.route) == (kind, text, "ask")
    assert str(caught.value) == text


async def test_a_caller_waits_while_its_request_is_tried_again(here: Here):
    place = here()

    async def handler(data: dict[str, int], message: Message) -> dict[str, int]:
        if message.attempt == 1:
            raise RuntimeError("not yet")
        if message.attempt == 2:
            raise Retry(after=0)
        return {"n": message.attempt}

    async with answering(place, handler), place.client() as client:
        assert await client.request("ask", {"n": 1}, timeout=LONG) == {"n": 3}


@pytest.mark.parametrize("value", [None, {"n": "many"}, object()], ids=["none", "wrong", "no JSON"])
async def test_a_value_that_is_no_reply_of_its_route_is_the_handlers_failure(here: Here, value: Any):
    place = here(max_deliveries=1)

    async def handler(data: dict[str, int]) -> Any:
        return value

    async with answering(place, handler), place.client() as client:
        with pytest.raises(RemoteError) as caught:
            await client.request("ask", {"n": 1}, timeout=LONG)
        await place.until_settled()
    assert caught.value.type == "InvalidMessageError"
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "InvalidMessageError")


async def test_a_request_that_breaks_its_schema_never_leaves(here: Here):
    place = here()
    async with place.client() as client:
        with pytest.raises(InvalidMessageError):
            await client.request("ask", {"n": "one"})
        with pytest.raises(SettingError, match="nobody answers"):
            await client.request("work", {"n": 1})
        with pytest.raises(SettingError, match="timeout"):
            await client.request("ask", {"n": 1}, timeout=0)
    assert place.state().ready == 0


async def test_a_reply_of_another_program_is_held_against_the_schema(here: Here):
    place = here()
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            [entry] = link.connection.execute(link.broker.peek("work", count=1))
            inbox = entry.envelope.headers["replyto"]
            put_reply(place, Reply(inbox, entry.envelope.id, "answer", b'{"n": "many"}'))
        with pytest.raises(InvalidMessageError, match="/n"):
            await asking


# -- declared errors -----------------------------------------------------------------------------------------


@pytest.fixture
def declining(server: Server, namespace: str, tmp_path: Path) -> Place:
    """As `here`, with an error that `ask` declares."""
    plain = declare(namespace, tmp_path)
    refused = {"type": "object", "required": ["why"], "properties": {"why": {"enum": ["late", "full"]}}}
    messages = {**plain.messages, "refused": MessageType(name="refused", schema=refused)}
    route = RequestRoute(
        name="ask", request="number", reply="answer", error="refused", queue="work", timeout_ms=30_000
    )
    place = Place(server, replace(plain, messages=messages, routes={"ask": route}))
    place.apply()
    return place


@pytest.mark.parametrize("colour", ["async def", "def"])
async def test_a_handler_declines_with_the_error_of_its_route_and_that_is_an_answer(
    declining: Place, colour: str
):
    async def waits(data: dict[str, int], message: Message) -> None:
        blocks(data, message)

    def blocks(data: dict[str, int], message: Message) -> None:
        message.send("out", {"n": 1})
        raise Decline({"why": "late"}, "come back tomorrow")

    handler = waits if colour == "async def" else blocks
    async with answering(declining, handler), declining.client() as client:
        with pytest.raises(RemoteError, match="come back tomorrow") as caught:
            await client.request("ask", {"n": 1}, timeout=LONG)
        state = await declining.until_settled()
    assert (caught.value.type, caught.value.data, caught.value.route) == ("refused", {"why": "late"}, "ask")
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["retried"], state.dead) == (1, 0, 0)
    assert declining.state("out").ready == 0


async def test_a_member_of_a_batch_declines_for_itself(declining: Place):
    async def handler(data: list[dict[str, int]]) -> list[Any]:
        return [Decline({"why": "full"}) if item["n"] > 1 else item for item in data]

    async def ask(client: Any, n: int) -> Any:
        try:
            return await client.request("ask", {"n": n}, timeout=LONG)
        except RemoteError as declined:
            return declined.data

    batch = Batch(size=2, wait_ms=1000)
    async with answering(declining, handler, batch=batch), declining.client() as client:
        answers = await asyncio.gather(ask(client, 1), ask(client, 2))
    assert answers == [{"n": 1}, {"why": "full"}]


async def test_data_that_the_declared_error_refuses_is_a_failure_for_good(
    declining: Place, caplog: pytest.LogCaptureFixture
):
    async def handler(data: dict[str, int]) -> None:
        raise Decline({"why": "because"})

    async with answering(declining, handler), declining.client() as client:
        with pytest.raises(RemoteError, match="/why: the handler declined with this data") as caught:
            await client.request("ask", {"n": 1}, timeout=LONG)
        state = await declining.until_settled()
    assert (caught.value.type, caught.value.data) == ("InvalidMessageError", None)
    assert state.counters is not None
    assert (state.counters["retried"], state.dead) == (0, 1)
    [dead] = declining.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "InvalidMessageError")
    assert "at /why: the handler declined" in caplog.text


async def test_who_declines_what_nobody_asked_or_no_route_declares_rejects_it(here: Here):
    place = here()

    async def handler(data: dict[str, int]) -> None:
        raise Decline({"why": "late"}, "come back tomorrow")

    async with answering(place, handler), place.client() as client:
        await client.send("work", {"n": 1})
        with pytest.raises(RemoteError, match="come back tomorrow") as caught:
            await client.request("ask", {"n": 2}, timeout=LONG)
        await place.until_settled()
    assert (caught.value.type, caught.value.data) == ("Decline", None)
    assert [(dead.reason, dead.failure.message) for dead in place.dead_letters()] == [
        (DeadReason.REJECTED, "come back tomorrow")
    ] * 2


# -- deadlines, latecomers, leaks ----------------------------------------------------------------------------


async def test_a_request_that_times_out_is_never_started_and_leaves_no_dead_letter(here: Here):
    place = here()
    ran: list[int] = []

    async def handler(data: dict[str, int]) -> dict[str, int]:
        ran.append(data["n"])
        return data

    async with place.client() as client:
        patience = 0.05
        while not place.state().ready:  # on a busy machine the time may be up before it is stored
            assert patience < PATIENCE_SECONDS
            with pytest.raises(RequestTimeoutError) as caught:
                await client.request("ask", {"n": 1}, timeout=patience)
            assert isinstance(caught.value, TimeoutError)
            assert (caught.value.route, caught.value.seconds) == ("ask", patience)
            assert caught.value.message_id
            assert client._requester.waiting == 0
            patience *= 4
        async with answering(place, handler):
            assert await client.request("ask", {"n": 2}, timeout=LONG) == {"n": 2}
            state = await place.until_settled()
    assert ran == [2]
    assert state.counters is not None
    in_vain = state.counters["sent"] - 1
    assert in_vain >= 1
    assert (state.dead, state.counters["expired"], state.counters["discarded"]) == (0, in_vain, in_vain)


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_reply_that_the_time_is_up_is_a_timeout_though_it_comes_before_the_callers_own_clock_says_so(
    here: Here, blocking: bool
):
    place = here()
    timeout = CLOCKS_DIFFER_S * 0.9
    async with place.client() as client:
        with connect_sync(place.topology, url=place.server.url) as threaded:
            asker = threaded if blocking else client
            for number in range(3):  # on a busy machine the time may be up before the reply is there

                def ask(id: str = f"r-{number}") -> Any:
                    return asker.request("ask", {"n": 1}, timeout=timeout, id=id)

                asking = asyncio.create_task(asyncio.to_thread(ask) if blocking else ask())
                await place.until(
                    lambda state, wanted=number + 1, ask=asking: state.ready == wanted or ask.done()
                )
                for inbox in inboxes(place):
                    name = inbox.rpartition(b":")[2].decode()
                    put_reply(place, Reply(name, f"r-{number}", failure=EXPIRED))
                with pytest.raises(RequestTimeoutError):
                    await asking


def test_a_request_that_expires_unread_is_swept_away_and_others_are_dead_lettered(here: Here):
    place = here()
    with connect_sync(place.topology, url=place.server.url) as client:
        ask_in_vain(place, client)
        client.send("work", {"n": 2}, ttl=0.05, headers={"x": '"replyto":'})
    deadline = time.monotonic() + PATIENCE_SECONDS
    with place.link() as link:
        while place.state().ready and time.monotonic() < deadline:
            link.connection.execute(link.broker.sweep(["work"]))
    assert [dead.envelope.headers.get("x") for dead in place.dead_letters()] == ['"replyto":']


async def test_a_reply_that_comes_too_late_is_dropped_and_counted(here: Here):
    place = here()
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        if data["n"] == 1:
            started.set()
            await goes_on.wait()
        return data

    async with answering(place, handler), place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await happens(started)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert client._requester.waiting == 0
        goes_on.set()
        await place.until_settled()
        assert await client.request("ask", {"n": 2}, timeout=LONG) == {"n": 2}
        assert (client.reply_counts.late, client.reply_counts.duplicate) == (1, 0)


async def test_of_two_replies_to_one_request_the_first_counts(here: Here):
    place = here()
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            [entry] = link.connection.execute(link.broker.peek("work", count=1))
            inbox = entry.envelope.headers["replyto"]
            for n in (1, 2):
                put_reply(place, Reply(inbox, entry.envelope.id, "answer", b'{"n": %d}' % n))
        assert await asking == {"n": 1}
        async with answering(place):
            assert await client.request("ask", {"n": 3}, timeout=LONG) == {"n": 6}
        assert (client.reply_counts.late, client.reply_counts.duplicate) == (0, 2)  # and the worker's own


async def test_a_client_that_is_gone_leaves_nothing_and_its_late_reply_is_counted(here: Here):
    place = here()
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        started.set()
        await goes_on.wait()
        return data

    async with answering(place, handler):
        async with place.client() as client:
            asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
            await happens(started)
        with pytest.raises(LeanMQError, match="closed"):
            await asking
        assert inboxes(place) == []
        goes_on.set()
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["late_replies"]) == (1, 1)
    assert inboxes(place) == []


async def test_an_inbox_that_was_deleted_is_followed_by_another(here: Here):
    place = here()
    async with answering(place), place.client() as client:
        await client.request("ask", {"n": 1}, timeout=LONG)
        [first] = inboxes(place)
        place.command("DEL", first)
        client._requester._box._kept_at = time.monotonic() - 3600  # as if an hour had passed
        assert await client.request("ask", {"n": 2}, timeout=LONG) == {"n": 4}
        [second] = inboxes(place)
    assert first != second


async def test_an_inbox_that_is_deleted_while_it_is_read_keeps_nobody_waiting(here: Here):
    place = here()
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        started.set()
        await goes_on.wait()
        return data

    async with answering(place, handler, concurrency=2), place.client() as client:
        waiting = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await happens(started)
        [first] = inboxes(place)
        place.command("DEL", first)
        client._requester._box._kept_at = time.monotonic() - 3600  # as if an hour had passed
        goes_on.set()
        began = time.monotonic()
        assert await client.request("ask", {"n": 2}, timeout=LONG) == {"n": 2}
        assert time.monotonic() - began < LONGEST_READ_MS / 1000 / 2, "it waited for the old read"
        waiting.cancel()


async def test_a_read_stays_under_way_for_those_who_ask_together_and_ends_when_there_is_none(
    here: Here, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(requesting_tasks, "LONGEST_READ_MS", 600)
    place = here()

    async def handler(data: list[dict[str, int]]) -> list[dict[str, int]]:
        return data  # one is answered at once, the two others together

    async with answering(place, handler, batch=Batch(size=3, wait_ms=20_000)), place.client() as client:

        async def ask_three() -> None:
            asked = [client.request("ask", {"n": n}, timeout=LONG) for n in (1, 2, 3)]
            assert await asyncio.gather(*asked) == [{"n": 1}, {"n": 2}, {"n": 3}]

        await ask_three()
        await asyncio.sleep(0.05)
        assert client._requester._is_reading
        await ask_three()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while client._requester._is_reading and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert not client._requester._is_reading
        await ask_three()


async def test_an_inbox_is_trimmed_behind_its_reader_and_lives_for_a_time(here: Here):
    place = here()
    async with answering(place), place.client() as client:
        for start in range(0, 300, 50):
            requests = [client.request("ask", {"n": start + n}, timeout=LONG) for n in range(50)]
            await asyncio.gather(*requests)
        [inbox] = inboxes(place)
        assert place.command("XLEN", inbox) <= 150
        assert 0 < place.command("PTTL", inbox) <= LIFETIME_MS


async def test_a_request_whose_id_was_sent_before_is_refused_at_once(here: Here):
    place = here()
    async with answering(place), place.client() as client:
        assert await client.request("ask", {"n": 1}, id="mine", timeout=LONG) == {"n": 2}
        with pytest.raises(SettingError, match="duplicate"):
            await client.request("ask", {"n": 1}, id="mine", timeout=LONG)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_asks_through_an_inbox_of_its_own(here: Here):
    place = here()
    with connect_sync(place.topology, url=place.server.url) as client:
        ask_in_vain(place, client)
        patience = 0.1
        while len(inboxes(place)) < 2:  # on a busy machine the time may be up before anything was asked
            assert patience < PATIENCE_SECONDS
            child = os.fork()
            if child == 0:
                try:
                    client.request("ask", {"n": 2}, timeout=patience)
                except RequestTimeoutError:
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
            patience *= 4
        assert len(inboxes(place)) == 2


async def test_a_hundred_clients_that_ask_once_and_close_leave_no_key(here: Here):
    place = here()

    async def ask(number: int) -> None:
        async with place.client() as client:
            assert await client.request("ask", {"n": number}, timeout=LONG) == {"n": number * 2}

    async with answering(place):
        for start in range(0, 100, 20):
            await asyncio.gather(*map(ask, range(start, start + 20)))
    assert inboxes(place) == []


# -- the inbox on the server ---------------------------------------------------------------------------------


def test_an_inbox_lives_for_a_time_and_only_its_client_makes_one(here: Here):
    place = here()
    with place.link() as link:
        execute, broker = link.connection.execute, link.broker
        execute(broker.open_inbox("mine", lifetime_ms=5000))
        execute(broker.open_inbox("mine", lifetime_ms=5000))
        key = Keys(place.topology.broker.namespace).inbox("mine")
        assert (place.command("XLEN", key), place.command("TYPE", key)) == (0, b"stream")
        failed = Reply("mine", "m", failure=Failure("ValueError", "no"))
        put_reply(place, failed)
        [arrived] = execute(broker.read_inbox("mine", "0", count=10, block_ms=0))
        assert arrived.reply == failed
        assert execute(broker.read_inbox("mine", arrived.place, count=10, block_ms=0)) == []
        assert execute(broker.keep_inbox("mine", lifetime_ms=9000, read_to=arrived.place)) is True
        assert place.command("PTTL", key) > 5000
        assert execute(broker.close_inbox("mine")) is True
        assert execute(broker.keep_inbox("mine", lifetime_ms=9000, read_to="0")) is False
        assert execute(broker.read_inbox("mine", "0", count=10, block_ms=20)) == []


async def test_an_inbox_that_nobody_reads_holds_only_so_many_replies(here: Here):
    place = here()
    most = 10_000
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            [entry] = link.connection.execute(link.broker.peek("work", count=1))
            key = Keys(place.topology.broker.namespace).inbox("unread")
            link.connection.execute(link.broker.open_inbox("unread", lifetime_ms=60_000))
            fill = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'id', n) end"
            place.command("EVAL", fill, 1, key, most + 500)
            [delivered] = link.connection.execute(link.broker.fetch(["work"], "me", count=1, block_ms=0))
            answer = Reply("unread", entry.envelope.id, "answer", b"{}")
            link.connection.execute(link.broker.ack_with_outputs("me", delivered, Flush("p", 1, ()), answer))
            assert most <= place.command("XLEN", key) < most + 500
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def test_an_inbox_that_is_no_stream_keeps_everything_as_it_was(here: Here):
    place = here()
    with connect_sync(place.topology, url=place.server.url) as client:
        ask_in_vain(place, client)
        [inbox] = inboxes(place)
    place.command("SET", inbox, "something else")
    with place.link() as link:
        execute, broker = link.connection.execute, link.broker
        [delivered] = execute(broker.fetch(["work"], "me", count=1, block_ms=0))
        answer = Reply(delivered.envelope.headers["replyto"], delivered.envelope.id, "answer", b"{}")
        with pytest.raises(LeanMQError):
            execute(broker.ack_with_outputs("me", delivered, Flush("p", 1, ()), answer))
    assert place.state().in_flight == 1

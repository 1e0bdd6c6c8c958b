"""Both colours of connection on real servers: entering, breaking, coming back, ending a wait."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from leanmq_topology.brokers.protocol import carry_out_all
from leanmq_topology.brokers.redis.address import Address, parse_address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.calls import Call, Refused, Script
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.errors import BrokerError, BrokerRefusedError, BrokerUnavailableError
from leanmq_topology.topology.model import Queue
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.processes import PATIENCE_SECONDS
from tests.support.servers import Server
from tests.support.stage import COLOURS, open_carrier

FORK = """
import os, sys
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.calls import Call, Refused, Script
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
connection = BlockingRedisConnection.open(parse_address(sys.argv[1]))
ask = Call("ask", "CLIENT", (), ("ID",), int)
os.write(1, b"%d " % connection.execute(ask))
if child := os.fork():
    os.waitpid(child, 0)
os.write(1, b"%d " % connection.execute(ask))
"""


def echo(text: str) -> Call[bytes]:
    return Call("echo", "ECHO", (), (text,), bytes)


@pytest.fixture
def admin(server: Server) -> Iterator[BlockingRedisConnection]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    yield connection
    connection.close()


@pytest.fixture
def locked(server: Server, admin: BlockingRedisConnection) -> Iterator[Server]:
    """A server that wants a password, until the test is over."""
    run(admin, "CONFIG", "SET", "requirepass", "open sesame")
    yield server
    run(admin, "CONFIG", "SET", "requirepass", "")


@pytest.mark.parametrize("colour", COLOURS)
def test_the_right_password_enters_and_names_the_connection(locked: Server, colour: str):
    url = f"unix://:open%20sesame@{locked.socket_path}?db=3&client_name=me"
    with open_carrier(colour, url) as carry:
        assert carry(Call("name", "CLIENT", (), ("GETNAME",), bytes)) == b"me"
        assert b" db=3 " in carry(Call("list", "CLIENT", (), ("LIST",), bytes))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("entrance", ["", ":wrong@", "nobody:wrong@"])
def test_a_wrong_password_is_refused_with_a_remedy_and_never_shown(
    locked: Server, colour: str, entrance: str
):
    with (
        pytest.raises(BrokerRefusedError) as caught,
        open_carrier(colour, f"unix://{entrance}{locked.socket_path}"),
    ):
        pass
    assert "wrong" not in str(caught.value)
    assert "password" in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_database_that_does_not_exist_is_an_error_of_ours(server: Server, colour: str):
    with pytest.raises(BrokerError), open_carrier(colour, f"{server.url}?db=99"):
        pass


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("url", ["unix:///nowhere/at/all", "redis://127.0.0.1:1"])
def test_a_server_that_is_not_there_is_told_with_a_hint(colour: str, url: str):
    with pytest.raises(BrokerUnavailableError, match="cannot reach") as caught, open_carrier(colour, url):
        pass
    assert caught.value.hint
    assert not caught.value.unknown


@pytest.mark.parametrize("colour", COLOURS)
def test_a_connection_comes_back_after_a_break_and_repeats_nothing(
    server: Server, colour: str, namespace: str
):
    add = Call("add", "INCR", (namespace,), (), int)
    with ChaosProxy(server.socket_path) as proxy, open_carrier(colour, proxy.url) as carry:
        assert carry(add) == 1
        proxy.lose_answers(1, to=b"INCR")
        with pytest.raises(BrokerUnavailableError) as caught:
            carry(add)
        assert caught.value.unknown
        assert carry(add) == 3


@pytest.mark.parametrize("colour", COLOURS)
def test_an_answer_that_does_not_come_in_time_ends_the_connection(server: Server, colour: str):
    with ChaosProxy(server.socket_path) as proxy, open_carrier(colour, f"{proxy.url}?timeout=200ms") as carry:
        assert carry(echo("a")) == b"a"
        proxy.hold_answers()
        with pytest.raises(BrokerUnavailableError, match="no answer") as caught:
            carry(echo("late"))
        assert caught.value.unknown
        proxy.release_answers()
        assert carry(echo("b")) == b"b"


@pytest.mark.parametrize("colour", COLOURS)
def test_an_error_reply_leaves_the_connection_in_step(server: Server, colour: str):
    with open_carrier(colour, server.url) as carry:
        for n in range(3):
            with pytest.raises(BrokerError, match="unknown command"):
                carry(Call("nonsense", "NONSENSE", (), (), int))
            assert carry(echo(str(n))) == str(n).encode()


@pytest.fixture
def reader(server: Server) -> Iterator[BlockingRedisConnection]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    yield connection
    connection.close()


def test_what_is_begun_together_is_answered_one_by_one(reader: BlockingRedisConnection):
    wait = Call("wait", "BLPOP", (), ("nothing-here", "0.05"), lambda reply: reply, block_ms=50)
    reader.begin([echo("a"), Call("nonsense", "NONSENSE", (), (), int), wait], 5)
    assert reader.finish(5) == b"a"
    with pytest.raises(BrokerError, match="unknown command"):
        reader.finish(5)
    assert reader.finish(5) is None
    with pytest.raises(BrokerUnavailableError):
        reader.finish(5)
    assert reader.execute(echo("b")) == b"b"


@pytest.mark.parametrize(
    "more",
    [
        {"otherwise": lambda: echo("b")},
        {"if_missing": lambda: echo("b")},
        {"followers": (("ECHO", "b"),)},
    ],
    ids=["otherwise", "if_missing", "followers"],
)
def test_what_may_take_more_than_one_answer_is_not_begun(
    reader: BlockingRedisConnection, more: dict[str, Any]
):
    reader.begin([echo("before")], 5)
    with pytest.raises(ValueError, match="echo may take more than one answer"):
        reader.begin([echo("a"), structs.replace(echo("a"), **more)], 5)
    assert reader.finish(5) == b"before"


def test_what_is_begun_is_not_said_again_where_executing_it_would_be(reader: BlockingRedisConnection):
    forgotten = Call("one", Script("one", b"return 'again'", "0" * 40), (), (), bytes)
    text = "return KEYS[1] == '{b}:q:work' and 'again' or {err = 'MISPLACED {b}{ns}:m:work'}"
    misplaced = Call("two", "EVAL", (text, "1", "{ns}:q:work"), (), bytes)
    for call in (forgotten, misplaced):
        reader.begin([call], 5)
        with pytest.raises(BrokerError):
            reader.finish(5)
        assert reader.execute(call) == b"again"


@pytest.mark.parametrize("next_one", ["execute", "begin"])
def test_what_is_begun_and_not_finished_is_given_up_with_its_connection(
    reader: BlockingRedisConnection, next_one: str
):
    first = reader.connection_id
    wait = Call("wait", "BLPOP", (), ("nothing-here", 30), lambda reply: reply, block_ms=30_000)
    reader.begin([echo("a"), wait], 5)
    assert reader.finish(5) == b"a"
    if next_one == "execute":
        assert reader.execute(echo("b")) == b"b"
    else:
        reader.begin([echo("b")], 5)
        assert reader.finish(5) == b"b"
    assert reader.connection_id != first


def test_what_is_begun_and_not_answered_in_time_ends_the_connection(reader: BlockingRedisConnection):
    wait = Call("wait", "BLPOP", (), ("nothing-here", 30), lambda reply: reply, block_ms=30_000)
    reader.begin([wait], 5)
    with pytest.raises(BrokerUnavailableError, match="no answer"):
        reader.finish(0.05)
    with pytest.raises(BrokerUnavailableError):
        reader.finish(5)
    assert reader.execute(echo("b")) == b"b"


def test_a_blocking_read_outlasts_the_timeout_of_other_answers(
    server: Server, admin: BlockingRedisConnection
):
    reader = BlockingRedisConnection.open(structs.replace(parse_address(server.url), timeout_ms=50))
    waiting = Call("wait", "BLPOP", (), ("nothing-here", 1), lambda reply: reply, block_ms=1000)
    assert reader.execute(waiting) is None
    reader.close()


def test_a_forked_child_gets_a_connection_of_its_own(server: Server):
    done = subprocess.run(
        [sys.executable, "-c", FORK, server.url], capture_output=True, text=True, check=True
    )
    before, child, parent = done.stdout.split()
    assert before == parent != child


@pytest.fixture
def broker(admin: BlockingRedisConnection, namespace: str) -> RedisBroker:
    write_topology(admin, make_topology(namespace, Queue(name="plain")))
    return RedisBroker(namespace)


async def wait_until_blocked(admin: BlockingRedisConnection, connection_id: int) -> None:
    """Return once the server has that connection waiting; it cannot signal that to a third one."""
    for _ in range(1000):
        listed = run(admin, "CLIENT", "LIST", "ID", connection_id)
        if b" flags=b" in listed:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the reader never blocked")


async def test_a_waiting_fetch_is_ended_with_nothing_and_the_reader_goes_on(
    server: Server, broker: RedisBroker, admin: BlockingRedisConnection
):
    reader = await AsyncRedisConnection.open(parse_address(server.url))
    fetch = broker.fetch(["plain"], "me", count=10, block_ms=60_000)
    waiting = asyncio.ensure_future(reader.execute(fetch))
    await wait_until_blocked(admin, reader.connection_id)
    assert admin.execute(broker.end_fetch(reader.connection_id)) is True
    assert await asyncio.wait_for(waiting, PATIENCE_SECONDS) == []
    assert await reader.execute(echo("still here")) == b"still here"
    assert admin.execute(broker.end_fetch(reader.connection_id)) is False
    await reader.close()


async def test_a_blocking_colours_fetch_is_ended_alike(
    server: Server, broker: RedisBroker, admin: BlockingRedisConnection
):
    reader = BlockingRedisConnection.open(parse_address(server.url))
    found: list[object] = []
    fetch = broker.fetch(["plain"], "me", count=10, block_ms=60_000)
    thread = threading.Thread(target=lambda: found.append(reader.execute(fetch)))
    thread.start()
    await wait_until_blocked(admin, reader.connection_id)
    assert admin.execute(broker.end_fetch(reader.connection_id)) is True
    await asyncio.to_thread(thread.join, 5)
    assert found == [[]]
    reader.close()


async def test_a_closed_connection_stays_closed(server: Server):
    pipe = await AsyncRedisConnection.open(parse_address(server.url))
    await pipe.close()
    await pipe.close()
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await pipe.execute(echo("x"))
    connection = BlockingRedisConnection.open(parse_address(server.url))
    connection.close()
    connection.close()
    with pytest.raises(BrokerUnavailableError, match="closed"):
        connection.execute(echo("x"))


def test_what_is_carried_out_in_place_of_a_call_has_only_what_is_left_of_its_time(server: Server):
    def wait(seconds: float, otherwise: Callable[[], Call[bytes]] | None = None) -> Call[bytes]:
        return Call("wait", "BLPOP", (), ("nothing", str(seconds)), bytes, otherwise=otherwise)

    connection = BlockingRedisConnection.open(parse_address(server.url))
    with pytest.raises(BrokerUnavailableError, match="no answer") as caught:
        connection.execute(wait(0.3, lambda: wait(60)), 1.3)
    limit = re.search(r"within ([0-9.e-]+) s", caught.value.message)
    assert limit is not None
    assert float(limit[1]) <= 1.0
    connection.close()


async def test_one_that_is_closed_while_it_connects_leaves_nothing_open(
    server: Server, admin: BlockingRedisConnection
):
    connection = AsyncRedisConnection(parse_address(server.url), client_name="too-late")
    heard: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
    connection.begin(echo("a"), heard.set_result)
    await asyncio.sleep(0)
    await connection.close()
    assert isinstance(await heard, BrokerUnavailableError)
    clients = run(admin, "CLIENT", "LIST").decode()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "name=too-late" in clients:
            await asyncio.sleep(0.01)
            clients = run(admin, "CLIENT", "LIST").decode()


async def begin(connection: AsyncRedisConnection, call: Call[bytes]) -> bytes | Exception:
    """What is told of it."""
    heard: asyncio.Future[bytes | Exception] = asyncio.get_running_loop().create_future()
    connection.begin(call, heard.set_result)
    return await asyncio.wait_for(heard, 10)


async def test_what_is_begun_needs_no_task_and_its_answer_or_error_is_told(server: Server):
    connection = await AsyncRedisConnection.open(parse_address(server.url))
    tasks = asyncio.all_tasks()
    telling = asyncio.ensure_future(begin(connection, echo("a")))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - tasks == {telling}
    assert await telling == b"a"
    refused = await begin(connection, Call("nonsense", "NONSENSE", (), (), bytes))
    assert isinstance(refused, BrokerError)
    assert "unknown command" in str(refused)
    misread = await begin(connection, Call("echo", "ECHO", (), ("a",), lambda reply: reply.nonsense))
    assert isinstance(misread, AttributeError)
    assert await begin(connection, echo("in step")) == b"in step"
    await connection.close()


async def test_several_are_carried_out_without_a_task_each_and_an_error_stands_in_its_place(server: Server):
    connection = await AsyncRedisConnection.open(parse_address(server.url))
    assert await carry_out_all(connection, []) == []
    tasks = asyncio.all_tasks()
    calls = [echo("a"), Call("nonsense", "NONSENSE", (), (), bytes), echo("b")]
    answering = asyncio.ensure_future(carry_out_all(connection, calls))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - tasks == {answering}
    first, refused, last = await answering
    assert (first, last) == (b"a", b"b")
    assert isinstance(refused, BrokerError)
    await connection.close()


async def test_what_is_begun_survives_a_forgotten_script_and_is_told_of_breaks(
    server: Server, admin: BlockingRedisConnection
):
    connection = await AsyncRedisConnection.open(parse_address(server.url))
    script = Script("one", b"return 'begun'", "0" * 40)
    assert await begin(connection, Call("one", script, (), (), bytes)) == b"begun"
    assert await begin(connection, together(echo("a"), ("ECHO", "b"))) == [b"a", b"b"]  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(begin(connection, Call("wait", "BLPOP", (), ("nothing", 0), bytes)))
    await asyncio.sleep(0)
    run(admin, "CLIENT", "KILL", "ID", connection.connection_id)
    lost = await waiting
    assert isinstance(lost, BrokerUnavailableError)
    assert lost.unknown
    assert await begin(connection, echo("back")) == b"back"
    await connection.close()
    closed = await begin(connection, echo("x"))
    assert isinstance(closed, BrokerUnavailableError)
    assert not closed.unknown


async def test_tasks_that_meet_a_break_share_one_new_connection(
    server: Server, admin: BlockingRedisConnection
):
    name = f"crowd{os.getpid()}"
    connection = await AsyncRedisConnection.open(
        Address(path=str(Path(server.socket_path))), client_name=name
    )
    run(admin, "CLIENT", "KILL", "ID", connection.connection_id)
    answers = await asyncio.gather(
        *[connection.execute(echo(str(n))) for n in range(20)], return_exceptions=True
    )
    assert all(isinstance(answer, bytes | BrokerUnavailableError) for answer in answers)
    assert await asyncio.gather(*[connection.execute(echo(str(n))) for n in range(20)]) == [
        str(n).encode() for n in range(20)
    ]
    listed = run(admin, "CLIENT", "LIST").decode()
    assert listed.count(f" name={name} ") == 1
    await connection.close()


def together(call: Call[object], *followers: tuple[str, ...]) -> Call[list[object]]:
    return Call(call.name, call.command, call.keys, call.arguments, list, followers=followers)


@pytest.mark.parametrize("colour", COLOURS)
def test_followers_leave_with_their_call_and_answer_in_order(server: Server, colour: str, namespace: str):
    call = together(Call("add", "INCR", (namespace,), (), int), ("ECHO", "a"), ("NONSENSE",), ("ECHO", "b"))
    with open_carrier(colour, server.url) as carry:
        first, a, refused, b = carry(call)
        assert (first, a, b) == (1, b"a", b"b")
        assert isinstance(refused, Refused)
        assert "unknown command" in refused.text
        assert carry(echo("in step")) == b"in step"


@pytest.mark.parametrize("colour", COLOURS)
def test_an_error_to_the_call_itself_is_raised_and_its_followers_are_heard(server: Server, colour: str):
    with open_carrier(colour, server.url) as carry:
        with pytest.raises(BrokerError, match="unknown command"):
            carry(together(Call("nonsense", "NONSENSE", (), (), int), ("ECHO", "a"), ("NONSENSE",)))
        assert carry(echo("in step")) == b"in step"


@pytest.mark.parametrize("colour", COLOURS)
def test_a_forgotten_script_is_sent_again_with_its_followers(
    server: Server, admin: BlockingRedisConnection, colour: str
):
    script = Script("one", f"return '{colour}'".encode(), "0" * 40)
    with open_carrier(colour, server.url) as carry:
        assert carry(together(Call("one", script, (), (), bytes), ("ECHO", "a"))) == [colour.encode(), b"a"]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_break_before_a_followers_answer_leaves_the_whole_call_unknown(
    server: Server, colour: str, namespace: str
):
    with ChaosProxy(server.socket_path) as proxy, open_carrier(colour, proxy.url) as carry:
        call = together(Call("add", "INCR", (namespace,), (), int), ("ECHO", "a"))
        proxy.lose_answers(1, to=b"ECHO")
        with pytest.raises(BrokerUnavailableError) as caught:
            carry(call)
        assert caught.value.unknown
        assert carry(call) == [2, b"a"]

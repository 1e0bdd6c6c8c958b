"""Lifespan and middleware of a real worker."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import Message
from leanmq_topology.brokers.connect import open_async
from leanmq_topology.errors import InvalidTopologyError, LifespanError
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.runner.worker import Worker
from leanmq_topology.topology.model import Batch, Queue
from tests.support.servers import Server
from tests.support.workers import PATIENCE_SECONDS, Place, happens, load, make_topology, work_queue, working

Here = Callable[..., Place]
both = pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])


@pytest.fixture
def here(server: Server, namespace: str, tmp_path: Path) -> Iterator[Here]:
    """Applies these queues on the server of this run, with a module of the user's beside the topology."""
    known, path = set(sys.modules), list(sys.path)

    def apply(source: str, *queues: Queue, **keys: Any) -> Place:
        module = f"m{secrets.token_hex(8)}"
        (tmp_path / f"{module}.py").write_text(source)
        named = {
            key: f"{module}:{call}" if isinstance(call, str) else tuple(f"{module}:{each}" for each in call)
            for key, call in keys.items()
        }
        place = Place(server, replace(make_topology(namespace, tmp_path, *queues), **named))
        place.apply()
        return place

    yield apply
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def module_of(place: Place) -> ModuleType:
    """The user's module, as the worker imported it."""
    call = place.topology.lifespan or place.topology.middleware[0]
    return sys.modules[call.partition(":")[0]]


# -- lifespan --------------------------------------------------------------------------------------------

LIFESPAN = """
from contextlib import asynccontextmanager
log = []
@asynccontextmanager
async def open():
    log.append("open")
    yield {"db": log, "unused": 1}
    log.append("closed")
"""


@both
async def test_what_it_yields_is_there_before_the_first_message_and_until_the_last(
    here: Here, asynchronous: bool
):
    place = here(LIFESPAN, work_queue(), lifespan="open")

    async def in_the_loop(data: Any, db: list[Any]) -> None:
        db.append(data["n"])

    def in_a_thread(data: Any, db: list[Any]) -> None:
        db.append(data["n"])

    await place.send(*range(20))
    async with working(place, load(in_the_loop if asynchronous else in_a_thread, shares=True)):
        await place.until_settled()
    log = module_of(place).log
    assert (log[0], log[-1]) == ("open", "closed")
    assert sorted(log[1:-1]) == list(range(20))


OBJECTS = """
import dataclasses
from contextlib import asynccontextmanager
@dataclasses.dataclass
class Shared:
    db: str
    @property
    def cache(self): return f"cache of {self.db}"
@asynccontextmanager
async def open():
    yield Shared("postgres")
"""


async def test_attributes_of_an_object_are_handed_over_too_and_defaults_fill_the_gaps(here: Here):
    place = here(OBJECTS, work_queue(), lifespan="open")
    got: list[Any] = []

    async def handler(cache: str, data: Any, *, db: str = "?", other: str = "default") -> None:
        got.append((db, cache, other))

    await place.send(1)
    async with working(place, load(handler, shares=True)):
        await place.until_settled()
    assert got == [("postgres", "cache of postgres", "default")]


async def test_it_is_closed_only_when_everything_that_ran_has_ended(here: Here):
    place = here(LIFESPAN, work_queue(), lifespan="open")
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(data: Any, db: list[Any]) -> None:
        started.set()
        await release.wait()
        db.append("handled")

    await place.send(1)
    async with working(place, load(handler, shares=True)) as running:
        await happens(started)
        stopping = asyncio.create_task(running.stop())
        await place.until(lambda state: state.in_flight == 1)
        assert module_of(place).log == ["open"]
        release.set()
        await stopping
    assert module_of(place).log == ["open", "handled", "closed"]


async def test_a_lifespan_that_fails_to_open_ends_the_worker_before_it_reads_anything(here: Here):
    source = "async def open():\n    raise ConnectionError('no database')\n    yield\n"
    place = here(source, work_queue(), lifespan="open")

    async def handler(data: Any) -> None: ...

    await place.send(1)
    with pytest.raises(LifespanError) as caught:
        async with working(place, load(handler, shares=True)):
            pass
    assert "failed to open: ConnectionError: no database (" in str(caught.value)
    assert ".py:2)" in str(caught.value)
    state = place.state()
    assert (state.ready, state.in_flight) == (1, 0)


async def test_what_handlers_miss_is_said_of_all_at_once_before_anything_is_read(here: Here):
    place = here(LIFESPAN, work_queue(), Queue(name="more"), lifespan="open")

    async def wants_cache(data: Any, cache: Any) -> None: ...
    async def wants_other(data: Any, db: Any, other: Any) -> None: ...

    await place.send(1)
    with pytest.raises(InvalidTopologyError) as caught:
        async with working(
            place, load(wants_cache, shares=True), load(wants_other, queue="more", shares=True)
        ):
            pass
    assert [item.code for item in caught.value.diagnostics] == ["LMQ323", "LMQ323"]
    assert "wants 'cache', and the lifespan yields db, unused" in caught.value.diagnostics[0].message
    assert place.state().ready == 1
    assert module_of(place).log == ["open", "closed"]


async def test_a_worker_can_be_stopped_while_its_lifespan_opens(here: Here):
    source = "import asyncio\nasync def open():\n    await asyncio.Event().wait()\n    yield\n"
    place = here(source, work_queue(), lifespan="open")

    async def handler(data: Any) -> None: ...

    namespace, folder = place.topology.broker.namespace, place.topology.folder
    async with await open_async(place.server.url, namespace=namespace, folder=folder) as link:
        loaded = load(handler, shares=True)
        worker = Worker(place.topology, {loaded.name: loaded}, link)
        running = asyncio.create_task(worker.run(lambda: pytest.fail("it was never ready")))
        while not any(task.get_name() == "lifespan" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.005)
        worker.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            ended = await running
    assert ended.clean


async def test_a_lifespan_that_ends_while_it_is_needed_drains_the_worker_and_fails(here: Here):
    source = """
import asyncio
from contextlib import asynccontextmanager
lost = asyncio.Event()
async def watch():
    await lost.wait()
    raise ConnectionError("the database went away")
@asynccontextmanager
async def open():
    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        yield {"lost": lost}
"""
    place = here(source, work_queue(), lifespan="open")

    async def handler(data: Any, lost: asyncio.Event) -> None:
        lost.set()

    await place.send(1)
    with pytest.raises(LifespanError) as caught:
        async with working(place, load(handler, shares=True)) as running, asyncio.timeout(PATIENCE_SECONDS):
            await running.task
    assert "ended while it was needed" in str(caught.value)
    state = place.state()
    assert (state.ready, state.in_flight, state.consumers) == (0, 0, 0)


async def test_a_lifespan_that_fails_to_close_is_logged_and_loses_nothing(
    here: Here, caplog: pytest.LogCaptureFixture
):
    place = here("async def open():\n    yield\n    raise OSError('stuck')\n", work_queue(), lifespan="open")

    async def handler(data: Any) -> None: ...

    await place.send(1)
    async with working(place, load(handler, shares=True)) as running:
        await place.until_settled()
        assert (await running.stop()).clean
    assert "failed to close: OSError: stuck" in caplog.text


# -- middleware ------------------------------------------------------------------------------------------

MIDDLEWARE = """
from contextvars import ContextVar
from leanmq_topology import Reject
log = []
tenant = ContextVar("tenant", default=None)

class Outer:
    def __init__(self):
        self.calls = 0
    async def around(self, message, call_next):
        self.calls += 1
        log.append(("outer", self.calls))
        token = tenant.set("acme")
        try:
            return await call_next(message)
        finally:
            log.append("outer left")
    def around_sync(self, message, call_next):
        self.calls += 1
        log.append(("outer", self.calls))
        tenant.set("acme")
        try:
            return call_next(message)
        finally:
            log.append("outer left")

class Inner:
    async def around(self, message, call_next):
        log.append("inner")
        return await call_next(message)
    def around_sync(self, message, call_next):
        log.append("inner")
        return call_next(message)

class Translate:
    async def around(self, message, call_next):
        try:
            return await call_next(message)
        except LookupError as failure:
            raise Reject(f"translated: {failure}")
    def around_sync(self, message, call_next):
        try:
            return call_next(message)
        except LookupError as failure:
            raise Reject(f"translated: {failure}")

class Skip:
    async def around(self, message, call_next):
        return None if message.data["n"] % 2 else await call_next(message)
    def around_sync(self, message, call_next):
        return None if message.data["n"] % 2 else call_next(message)

class Count:
    async def around(self, message, call_next):
        log.append(len(message))
        return await call_next(message)
    def around_sync(self, message, call_next):
        log.append(len(message))
        return call_next(message)

class Replace:
    async def around(self, message, call_next):
        import dataclasses
        return await call_next(dataclasses.replace(message, data={"n": message.data["n"] + 100}))
    def around_sync(self, message, call_next):
        import dataclasses
        return call_next(dataclasses.replace(message, data={"n": message.data["n"] + 100}))

class Fails:
    async def around(self, message, call_next): raise RuntimeError("in the middleware")
    def around_sync(self, message, call_next): raise RuntimeError("in the middleware")
"""


@both
async def test_the_first_named_stands_outermost_and_context_reaches_the_handler(
    here: Here, asynchronous: bool
):
    place = here(MIDDLEWARE, work_queue(), middleware=("Outer", "Inner"))
    seen: list[Any] = []

    async def in_the_loop(data: Any) -> None:
        seen.append(module_of(place).tenant.get())

    def in_a_thread(data: Any) -> None:
        seen.append(module_of(place).tenant.get())

    await place.send(1, 2)
    async with working(place, load(in_the_loop if asynchronous else in_a_thread, concurrency=1)):
        await place.until_settled()
    assert seen == ["acme", "acme"]
    once = ["inner", "outer left"]
    assert module_of(place).log == [("outer", 1), *once, ("outer", 2), *once]  # one object for all


@both
async def test_middleware_decides_like_a_handler_by_what_it_raises_or_returns(here: Here, asynchronous: bool):
    place = here(MIDDLEWARE, work_queue(), middleware=("Translate", "Skip"))

    async def in_the_loop(data: Any) -> None:
        raise LookupError("no card")

    def in_a_thread(data: Any) -> None:
        raise LookupError("no card")

    await place.send(1, 2)
    async with working(place, load(in_the_loop if asynchronous else in_a_thread)):
        state = await place.until_settled()
    [dead] = place.dead_letters()
    assert (dead.reason, dead.envelope.data) == (DeadReason.REJECTED, b'{"n":2}')
    assert "translated: no card" in dead.failure.message
    assert state.counters is not None
    assert state.counters["acked"] == 1


@both
async def test_it_may_hand_another_message_on(here: Here, asynchronous: bool):
    place = here(MIDDLEWARE, work_queue(), middleware=("Replace",))
    got: list[Any] = []

    async def in_the_loop(data: Any, message: Message) -> None:
        got.append((data["n"], message.data["n"]))

    def in_a_thread(data: Any, message: Message) -> None:
        got.append((data["n"], message.data["n"]))

    await place.send(1)
    async with working(place, load(in_the_loop if asynchronous else in_a_thread)):
        await place.until_settled()
    assert got == [(101, 101)]


@both
async def test_around_a_batch_handler_it_gets_the_whole_batch(here: Here, asynchronous: bool):
    place = here(MIDDLEWARE, work_queue(), middleware=("Count",))

    async def in_the_loop(data: list[Any]) -> None: ...
    def in_a_thread(data: list[Any]) -> None: ...

    await place.send(1, 2, 3)
    handler = load(in_the_loop if asynchronous else in_a_thread, batch=Batch(size=3, wait_ms=60_000))
    async with working(place, handler):
        await place.until_settled()
    assert module_of(place).log == [3]


@both
async def test_what_fails_in_it_is_a_failure_of_the_message(here: Here, asynchronous: bool):
    place = here(MIDDLEWARE, work_queue(max_deliveries=2), middleware=("Fails",))

    async def in_the_loop(data: Any) -> None: ...
    def in_a_thread(data: Any) -> None: ...

    await place.send(1)
    async with working(place, load(in_the_loop if asynchronous else in_a_thread)):
        await place.until(lambda state: state.dead == 1)
    [dead] = place.dead_letters()
    assert (dead.failure.type, dead.failure.message) == ("RuntimeError", "in the middleware")


async def test_one_that_cannot_be_made_is_reported_with_its_line_before_anything_is_read(here: Here):
    source = """class Trace:
    async def around(self, message, call_next): ...
    def __init__(self):
        raise OSError("no collector")
"""
    place = here(source, work_queue(), middleware=("Trace",))

    async def handler(data: Any) -> None: ...

    await place.send(1)
    with pytest.raises(InvalidTopologyError) as caught:
        async with working(place, load(handler)):
            pass
    [problem] = caught.value.diagnostics
    assert (problem.code, problem.address) == ("LMQ320", "middleware[0]")
    assert problem.span is not None
    assert problem.span.line == 4
    assert place.state().ready == 1

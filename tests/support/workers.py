"""Workers inside a test: a topology made in Python, applied for real, run by functions of the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from leanmq_topology.brokers.connect import AsyncLink, BlockingLink, open_async, open_blocking
from leanmq_topology.brokers.protocol import Part, QueueState
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.client import Client, connect
from leanmq_topology.messages.codec import DeadLetter, UndecodableError, decode_dead_letter
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.runner.binding import Binding, bind
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.worker import Ended, Worker
from leanmq_topology.topology.model import (
    BrokerSettings,
    Handler,
    Jitter,
    MessageType,
    Queue,
    Retry,
    Topology,
)
from tests.support.servers import Server

PATIENCE_SECONDS = 40
NUMBER = MessageType(
    name="number", schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
)
QUICK = Retry(delay_ms=20, max_delay_ms=200, jitter=Jitter.NONE)


def make_topology(namespace: str, folder: Path, *queues: Queue) -> Topology:
    """Queues that accept `number`, in a namespace of their own."""
    declared = {queue.name: replace(queue, accepts=queue.accepts or ("number",)) for queue in queues}
    return Topology(
        name=namespace,
        broker=BrokerSettings(namespace=namespace),
        messages={"number": NUMBER},
        queues=declared,
        folder=folder,
    )


def work_queue(**limits: Any) -> Queue:
    return Queue(name="work", **{"retry": QUICK, **limits})


@dataclass
class Place:
    """One topology on one server: applied, and looked at from outside."""

    server: Server
    topology: Topology

    def link(self) -> BlockingLink:
        return open_blocking(
            self.server.url, namespace=self.topology.broker.namespace, folder=self.topology.folder
        )

    def apply(self) -> None:
        with self.link() as link:
            apply_changes(link, self.topology, who="test", approve=lambda change: True)

    def state(self, queue: str = "work") -> QueueState:
        with self.link() as link:
            return link.connection.execute(link.broker.inspect_queues([queue]))[0]

    def dead_letters(self, queue: str = "work") -> list[DeadLetter]:
        """Those that were ours to read, by their id."""
        found = []
        for _, fields in self.command("XRANGE", self.key("d", queue), "-", "+"):
            with suppress(UndecodableError):
                found.append(decode_dead_letter(fields))
        return sorted(found, key=lambda dead: dead.envelope.id)

    def key(self, kind: str, queue: str) -> str:
        return f"{{{self.topology.broker.namespace}}}:{kind}:{queue}"

    def command(self, *words: str | bytes | int) -> Any:
        """A raw command, past everything that is being tested."""
        first, *rest = words
        with self.link() as link:
            return link.connection.execute(Call("raw", str(first), (), tuple(rest), lambda reply: reply))

    def add_raw(self, queue: str = "work", **fields: str) -> None:
        """An entry as another program might write it."""
        words = [word for pair in fields.items() for word in pair]
        self.command("XADD", self.key("q", queue), "*", *words)

    def client(self) -> Any:
        return connect(self.topology, url=self.server.url)

    async def send(self, *numbers: int, queue: str = "work", **options: Any) -> None:
        client: Client
        async with self.client() as client:
            await client.send_many(queue, [{"n": n} for n in numbers], **options)

    async def until(self, holds: Callable[[QueueState], bool], queue: str = "work") -> QueueState:
        """Wait until the queue is so; fails with what it was instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            state = await asyncio.to_thread(self.state, queue)
            if holds(state):
                return state
            assert time.monotonic() < deadline, state
            await asyncio.sleep(0.01)  # a server has no way to signal that a count changed

    async def until_settled(self, queue: str = "work") -> QueueState:
        return await self.until(lambda state: not (state.ready or state.in_flight or state.delayed), queue)


def load(
    function: Callable[..., Any], queue: str = "work", *, shares: bool = False, **declared: Any
) -> LoadedHandler:
    """A handler as the loader would give it; `shares` if the topology has a lifespan."""
    binding = bind(function, shares=shares)
    assert isinstance(binding, Binding), binding
    handler = Handler(name=f"on-{queue}", queue=queue, call="tests:function", **declared)
    return LoadedHandler(handler, binding, f"{__file__}:1")


@dataclass
class Running:
    """A worker at work."""

    worker: Worker
    link: AsyncLink
    task: asyncio.Task[Ended]

    async def stop(self) -> Ended:
        """Drain, as a signal would."""
        self.worker.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.task


@asynccontextmanager
async def working(
    place: Place, *handlers: LoadedHandler, drain_seconds: float = 10, part: Part = Part.ALL
) -> AsyncIterator[Running]:
    """A worker that reads by the time the block begins, and has ended when it is left."""
    ready = asyncio.Event()
    namespace, folder = place.topology.broker.namespace, place.topology.folder
    async with await open_async(place.server.url, namespace=namespace, folder=folder) as link:
        named = {handler.name: handler for handler in handlers}
        worker = Worker(place.topology, named, link, drain_seconds=drain_seconds, part=part)
        task = asyncio.create_task(worker.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            running = Running(worker, link, task)
            yield running
            if not task.done():
                await running.stop()
        finally:
            waiting.cancel()
            task.cancel()
            await asyncio.gather(task, waiting, return_exceptions=True)


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await event.wait()

"""A client of either colour that consumes, called the same way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from leanmq_topology import connect, connect_sync
from leanmq_topology.topology.model import Topology

COLOURS = ("blocking", "asyncio")


class Consumer:
    """`call` carries out what a verb of the client or of a delivery gives; the loop runs only meanwhile."""

    def __init__(self, mq: Any, call: Callable[[Any], Any], close: Callable[[], None]) -> None:
        self.mq, self.call, self.close = mq, call, close

    def receive(self, queue: str = "work", count: int = 1, **options: Any) -> list[Any]:
        return self.call(self.mq.receive(queue, count, **options))  # type: ignore[no-any-return]

    def one(self, queue: str = "work", *, wait: float = 20.0) -> Any:
        """The next message; the test fails if none comes."""
        found = self.receive(queue, wait=wait)
        assert found, f"nothing came from {queue!r} in {wait:g} s"
        return found[0]

    def consume(self, queue: str = "work", **options: Any) -> Any:
        return self.mq.consume(queue, **options)

    def next(self, iterator: Any) -> Any:
        """The next delivery of an iterator."""
        return self.call(iterator.__anext__()) if hasattr(iterator, "__anext__") else next(iterator)

    def end(self, iterator: Any) -> None:
        self.call(iterator.aclose() if hasattr(iterator, "aclose") else iterator.close())


@contextmanager
def open_consumer(colour: str, topology: Topology, url: str) -> Iterator[Consumer]:
    with ExitStack() as stack:
        if colour == "blocking":
            opened = stack.enter_context(connect_sync(topology, url=url))
            yield Consumer(opened, lambda made: made, opened.close)
            return
        runner = stack.enter_context(asyncio.Runner())

        def call(made: Any) -> Any:
            return runner.run(_awaited(made)) if inspect.isawaitable(made) else made

        context = connect(topology, url=url)
        client = call(context.__aenter__())
        stack.callback(lambda: call(context.__aexit__(None, None, None)))
        yield Consumer(client, call, lambda: call(client.close()))


async def _awaited(made: Any) -> Any:
    return await made

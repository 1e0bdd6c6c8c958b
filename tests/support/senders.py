"""A client of either colour, called the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from leanmq_topology import connect, connect_sync
from leanmq_topology.topology.model import Topology


@dataclass
class Sender:
    """A client of either colour, called like a function."""

    send: Callable[..., str]
    send_many: Callable[..., list[str]]


@contextmanager
def open_sender(colour: str, topology: Topology, url: str) -> Iterator[Sender]:
    if colour == "blocking":
        with connect_sync(topology, url=url) as mq:
            yield Sender(mq.send, mq.send_many)
        return
    with asyncio.Runner() as runner:
        opened = connect(topology, url=url)
        client = runner.run(opened.__aenter__())
        yield Sender(
            lambda *words, **options: runner.run(client.send(*words, **options)),
            lambda *words, **options: runner.run(client.send_many(*words, **options)),
        )
        runner.run(opened.__aexit__(None, None, None))

"""A client of either colour, called the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from leanmq_topology import Client, SyncClient, connect, connect_sync
from leanmq_topology.client.transactions import Transaction
from leanmq_topology.topology.model import Topology

Block = Callable[[Transaction], object]


@dataclass
class Sender:
    """A client of either colour, called like a function."""

    send: Callable[..., str]
    send_many: Callable[..., list[str]]
    transact: Callable[[Block], tuple[str, ...]]
    """Run a block in a transaction; returns the ids of what it stored."""


@contextmanager
def open_sender(colour: str, topology: Topology, url: str) -> Iterator[Sender]:
    if colour == "blocking":
        with connect_sync(topology, url=url) as mq:
            yield Sender(mq.send, mq.send_many, lambda block: _transact(mq, block))
        return
    with asyncio.Runner() as runner:
        opened = connect(topology, url=url)
        client = runner.run(opened.__aenter__())
        yield Sender(
            lambda *words, **options: runner.run(client.send(*words, **options)),
            lambda *words, **options: runner.run(client.send_many(*words, **options)),
            lambda block: runner.run(_transact_async(client, block)),
        )
        runner.run(opened.__aexit__(None, None, None))


def _transact(client: SyncClient, block: Block) -> tuple[str, ...]:
    with client.transaction() as tx:
        block(tx)
    return tx.ids


async def _transact_async(client: Client, block: Block) -> tuple[str, ...]:
    async with client.transaction() as tx:
        block(tx)
    return tx.ids

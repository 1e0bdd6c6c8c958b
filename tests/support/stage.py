"""A broker, a topology on a real server, and one colour of connection to carry operations out with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from leanmq_topology.brokers.protocol import Flush, Operation, QueueState, SendResult
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.async_connection import AsyncRedisConnection
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.envelope import Delivered, Envelope, Outgoing
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.specs import address_digests, resource_specs
from tests.support.factories import run, write_topology

T = TypeVar("T")
COLOURS = ("blocking", "asyncio")


class Carrier(Protocol):
    """Carries an operation out, in whichever colour."""

    def __call__(self, operation: Operation[T]) -> T: ...


@contextmanager
def open_carrier(colour: str, url: str, keys: Keys | None = None) -> Iterator[Carrier]:
    """A connection of this colour, to be called like a function; `keys` learn from it where queues lie."""
    address = parse_address(url)
    if colour == "blocking":
        connection = BlockingRedisConnection.open(address, keys=keys)
        yield connection.execute
        connection.close()
        return
    with asyncio.Runner() as runner:
        pipe = runner.run(AsyncRedisConnection.open(address, keys=keys))
        yield lambda operation: runner.run(pipe.execute(operation))
        runner.run(pipe.close())


@dataclass
class Stage:
    """What a test of delivery needs at hand."""

    topology: Topology
    broker: RedisBroker
    carry: Carrier
    admin: BlockingRedisConnection
    url: str
    sequence: int = 0
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.digests = address_digests(resource_specs(self.topology))
        write_topology(self.admin, self.topology)

    @property
    def keys(self) -> Any:
        return self.broker.keys

    def outgoing(self, target: str, message_id: str, *queues: str, **options: Any) -> Outgoing:
        """One send; straight to the queue of that name unless `queues` are given."""
        envelope = Envelope(message_id, "t", b'{"list":[],"big":9007199254740993}', {"time": "now"})
        digest = options.pop("digest", self.digests.get(target, ""))
        queues = queues or (target,)
        options.setdefault("plain", all(map(self.is_plain, queues)))
        return Outgoing(target, digest, queues, envelope, **options)

    def is_plain(self, name: str) -> bool:
        """What a client knows: nothing in the topology limits or delays what the queue gets."""
        queue = self.topology.queues.get(name)
        return queue is None or (queue.max_length is None and not queue.delay_ms)

    def flush(self, *sends: Outgoing, producer: str = "p", all_or_none: bool = False) -> Flush:
        self.sequence += 1
        return Flush(producer, self.sequence, sends, all_or_none)

    def send(self, target: str, *ids: str, **options: Any) -> list[SendResult]:
        """Send these ids to one queue, in one flush."""
        sends = [self.outgoing(target, message_id, **options) for message_id in ids]
        return self.carry(self.broker.send(self.flush(*sends)))

    def fetch(self, *queues: str, consumer: str = "me", count: int = 100) -> list[Any]:
        return self.carry(self.broker.fetch(queues, consumer, count=count, block_ms=0))

    def fetch_one(self, queue: str, consumer: str = "me") -> Delivered:
        [delivered] = self.fetch(queue, consumer=consumer)
        assert isinstance(delivered, Delivered)
        return delivered

    def fetch_own(self, queue: str, consumer: str = "me", known: Sequence[str] = ()) -> list[Any]:
        """What a consumer holds and does not know of, where one call gets it all."""
        operation = self.broker.fetch_own(queue, consumer, cursor="0-0", known=known)
        cursor, found = self.carry(operation)
        assert cursor == "0-0"
        return found

    def look(self, queue: str) -> QueueState:
        return self.carry(self.broker.inspect_queues([queue]))[0]

    def raw(self, command: str, *words: str | bytes | int) -> Any:
        """A bare command over a connection that no test breaks."""
        return run(self.admin, command, *words)

    def server_ms(self) -> int:
        seconds, micros = self.raw("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def make_due(self, queue: str) -> None:
        """Bring every delayed message of a queue to its time, without waiting for it."""
        for member in self.raw("ZRANGE", self.keys.delayed(queue), 0, -1):
            self.raw("ZADD", self.keys.delayed(queue), 0, member)
        self.raw("ZADD", self.keys.due, 0, queue)

    def add_expired(self, queue: str, *ids: str) -> None:
        """Messages of these ids, expired since 1970, at the tail of a queue."""
        for message_id in ids:
            words = ("id", message_id, "type", "t", "data", "{}", "headers", "", "attempt", "0", "expires", 1)
            self.raw("XADD", self.keys.queue(queue), "*", *words)

    def lapse(self, queue: str, *deliveries: Any) -> None:
        """Let leases lapse, without waiting for it."""
        for delivered in deliveries:
            words = ("IDLE", 10**9, "RETRYCOUNT", delivered.delivery_count, "JUSTID")
            self.raw("XCLAIM", self.keys.queue(queue), "g", "gone", 0, delivered.entry_id, *words)


def count_calls(stage: Stage) -> Counter[str]:
    """Commands that the server has carried out, those inside scripts too."""
    return count_commands(stage.admin)


def count_commands(connection: BlockingRedisConnection) -> Counter[str]:
    lines = run(connection, "INFO", "commandstats").decode().splitlines()
    found = (line.removeprefix("cmdstat_").partition(":calls=") for line in lines if ":calls=" in line)
    return Counter({name: int(rest.partition(",")[0]) for name, _, rest in found})

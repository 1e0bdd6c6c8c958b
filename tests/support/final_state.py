"""What lies on a server, read with bare commands past everything that is being tested."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from tests.support.checker import FinalState, Home, Ledger, Slot
from tests.support.factories import run

KINDS = frozenset({*("topology", "lock", "plan", "history", "due", "upkeep", "sent"), *"qdazbmcutprw"})
"""Second word of every documented key."""
PASSING = frozenset({"lock", "u", "t", "p", "r", "w"})
"""Those that must not live for ever."""
LOOKER = "looking-on"


class Onlooker:
    """A connection of its own to one namespace; it changes nothing."""

    def __init__(self, url: str, namespace: str) -> None:
        self.keys = Keys(namespace)
        self._address = parse_address(url)
        self.reconnect()

    def reconnect(self) -> None:
        """Forget the connection; the next question opens another."""
        self._connection = BlockingRedisConnection(self._address, client_name=LOOKER)

    def ask(self, command: str, *words: str | bytes | int) -> object:
        return run(self._connection, command, *words)

    def close(self) -> None:
        self._connection.close()

    def read(self, queues: Iterable[str]) -> FinalState:
        """Everything there is of these queues, and what lies about in the namespace."""
        names = list(queues)
        dead = [(queue, flat) for queue in names for flat in self._entries(self.keys.dead(queue))]
        return FinalState(
            homes={
                Home.MAIN: self._count(names, self.keys.queue),
                Home.DEAD: Counter(_slot(queue, flat) for queue, flat in dead),
                Home.DELAYED: Counter(slot for queue in names for slot in self._delayed(queue)),
                Home.KEPT: self._count(names, self.keys.acked),
                Home.TRASH: Counter(slot for queue in names for slot in self._trash(queue)),
            },
            reasons=[(_slot(queue, flat), _field(flat, b"reason")) for queue, flat in dead],
            ledgers={queue: self._ledger(queue) for queue in names},
            consumers={queue: self.consumers(queue) for queue in names},
            connections=self.connections(),
            strange_keys=[*self._strange_keys(), *self._ghosts(names)],
        )

    def waiting(self, queues: Iterable[str]) -> int:
        """Messages that are ready, in flight or delayed."""
        total = 0
        for queue in queues:
            for command, key in (("XLEN", self.keys.queue(queue)), ("ZCARD", self.keys.delayed(queue))):
                count = self.ask(command, key)
                assert isinstance(count, int)
                total += count
        return total

    def consumers(self, queue: str) -> int:
        found = self.ask("XINFO", "CONSUMERS", self.keys.queue(queue), GROUP)
        assert isinstance(found, list)
        return len(found)

    def connections(self) -> int:
        """Open connections of the product."""
        listed = self.ask("CLIENT", "LIST")
        assert isinstance(listed, bytes)
        return sum(b" name=leanmq" in line for line in listed.splitlines())

    def _count(self, queues: Iterable[str], key: object) -> Counter[Slot]:
        assert callable(key)
        return Counter(_slot(queue, flat) for queue in queues for flat in self._entries(key(queue)))

    def _entries(self, key: str) -> Iterator[list[bytes]]:
        found = self.ask("XRANGE", key, "-", "+")
        assert isinstance(found, list)
        return (flat for _, flat in found)

    def _delayed(self, queue: str) -> Iterator[Slot]:
        packed = self.ask("HVALS", self.keys.bodies(queue))
        assert isinstance(packed, list)
        for body in packed:
            data = msgspec.msgpack.decode(body, type=list[bytes | str])[2]
            yield Slot(json.loads(data)["key"], queue)

    def _trash(self, queue: str) -> Iterator[Slot]:
        for key in self.scan(f"{{{self.keys.namespace}}}:t:{queue}:*"):
            if self.ask("TYPE", key) == b"stream":
                yield from (_slot(queue, flat) for flat in self._entries(key))

    def _ledger(self, queue: str) -> Ledger:
        names = ("sent", "acked", "discarded", "dead_lettered", "dropped", "vanished")
        values = self.ask("HMGET", self.keys.meta(queue), *names)
        assert isinstance(values, list)
        return Ledger(*(int(value or 0) for value in values))

    def _strange_keys(self) -> Iterator[str]:
        for key in self.scan(f"{{{self.keys.namespace}}}:*"):
            kind = key.split(":")[1]
            if kind not in KINDS or (kind in PASSING and self.ask("PTTL", key) == -1):
                yield key

    def _ghosts(self, queues: Iterable[str]) -> Iterator[str]:
        """Bodies of delayed messages that no time belongs to, and the reverse."""
        for queue in queues:
            members = self.ask("ZRANGE", self.keys.delayed(queue), 0, -1)
            bodies = self.ask("HKEYS", self.keys.bodies(queue))
            assert isinstance(members, list)
            assert isinstance(bodies, list)
            for lonely in set(members) ^ set(bodies):
                yield f"{self.keys.bodies(queue)} {lonely.decode()}"

    def scan(self, pattern: str) -> Iterator[str]:
        cursor = b"0"
        while True:
            answer = self.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            assert isinstance(answer, list)
            cursor, found = answer
            yield from (key.decode() for key in found)
            if cursor == b"0":
                return


def _field(flat: list[bytes], name: bytes) -> str:
    return dict(zip(flat[::2], flat[1::2], strict=True)).get(name, b"").decode()


def _slot(queue: str, flat: list[bytes]) -> Slot:
    return Slot(json.loads(_field(flat, b"data"))["key"], queue)

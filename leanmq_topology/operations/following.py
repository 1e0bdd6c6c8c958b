"""Following what arrives in queues, or in their dead-letter queues. Nothing is taken, moved or counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from leanmq_topology.brokers.protocol import (
    BlockingConnection,
    Browser,
    DeadEntry,
    Inspector,
    Receiver,
    WaitingEntry,
)
from leanmq_topology.diagnostics import closest
from leanmq_topology.errors import (
    BrokerUnavailableError,
    SettingError,
    TopologyNotAppliedError,
    UnknownTargetError,
)
from leanmq_topology.topology.model import MessageType, Queue, Route
from leanmq_topology.topology.specs import read_resource, targets_of

ENTRIES_A_READ: Final = 100
"""Of each queue."""
BLOCK_MS: Final = 5_000
"""How long one read may wait on the server."""
LOOK_S: Final = 5.0
"""Between two looks whether the queues still lie where they are read."""
PAUSE_S: Final = 1.0
"""Between two tries to reach a server that went away."""

Arrival = WaitingEntry | DeadEntry


class FollowedBroker(Inspector, Browser, Receiver, Protocol):
    """What following needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> FollowedBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


def choose_followed(link: Link, named: Sequence[str], namespace: str) -> list[str]:
    """The queues named, those behind the routes named, or all that are applied.

    Raises `UnknownTargetError` for what is neither, `SettingError` for a route that stores nothing or where
    nothing does, and `TopologyNotAppliedError` where nothing is applied.
    """
    record = link.connection.execute(link.broker.read_record())
    if not record.resources:
        raise TopologyNotAppliedError([], namespace=namespace)
    behind: dict[str, list[str]] = {}
    for address, entry in sorted(record.resources.items()):
        kind, _, name = address.partition(".")
        if kind != "messages":
            behind[name] = _find_queues(read_resource(address, entry["spec"]))
    for name in named:
        if name not in behind:
            raise UnknownTargetError(name, closest=closest(name, behind))
        if not behind[name]:
            raise SettingError(
                name, "an ephemeral route stores nothing", hint=f"`leanmq sub {name}` listens to it"
            )
    found = dict.fromkeys(queue for name in named or behind for queue in behind[name])
    if not found:
        hint = "`leanmq sub NAME` listens to an ephemeral route"
        raise SettingError(namespace, "nothing here stores messages", hint=hint)
    return list(found) if named else sorted(found)


def _find_queues(resource: MessageType | Queue | Route) -> list[str]:
    """Behind a queue is the queue itself, behind an ephemeral route none."""
    if isinstance(resource, MessageType):
        return []
    return [resource.name] if isinstance(resource, Queue) else [one.queue for one in targets_of(resource)]


class Follower:
    """Reads what arrives, in order in each queue. What is done and gone sooner than it is read is missed.

    A queue that is purged, removed or made again meanwhile is followed on: its entry ids only rise, unless
    its stream is deleted and made again within a millisecond. So is one on a server that goes away: `told`
    hears that, and that it is back, and what came meanwhile is read.
    """

    def __init__(self, link: Link, queues: Sequence[str], *, dead: bool, told: Callable[[str], None]) -> None:
        self._link, self._queues, self._dead, self._told = link, queues, dead, told
        self._after: dict[str, str] = {}
        self._looks_at = 0.0
        self._is_lost = False

    def begin(self, back_ms: int | None = None) -> None:
        """From now on, or with what came so recently, by the server's clock, and still lies there."""
        if back_ms is None:
            self._after = self._look()
        else:
            now_ms = self._link.connection.execute(self._link.broker.read_time())
            self._after = dict.fromkeys(self._queues, f"{max(now_ms - back_ms, 0)}-0")

    def read(self, until: float | None = None) -> Iterator[Arrival]:
        """What arrives, as it arrives, until that time (monotonic seconds)."""
        while until is None or time.monotonic() < until:
            left_ms = BLOCK_MS if until is None else int((until - time.monotonic()) * 1000)
            for entry in self._read_some(max(min(left_ms, BLOCK_MS), 1)):
                self._after[entry.queue] = entry.entry_id
                yield entry

    def _read_some(self, block_ms: int) -> Sequence[Arrival]:
        try:
            found = self._execute(block_ms)
        except BrokerUnavailableError as failure:
            if not self._is_lost:
                self._told(f"{failure.message}; going on when the server is back")
            self._is_lost = True
            time.sleep(PAUSE_S)
            return ()
        if self._is_lost:
            self._told("the server is back")
        self._is_lost = False
        return found

    def _look(self) -> dict[str, str]:
        """Where the queues end. A read alone never hears that one of them lies elsewhere; this does."""
        ends = self._link.connection.execute(self._link.broker.read_ends(self._queues, dead=self._dead))
        self._looks_at = time.monotonic() + LOOK_S
        return dict(ends)

    def _execute(self, block_ms: int) -> Sequence[Arrival]:
        if time.monotonic() >= self._looks_at:
            self._look()
        broker, connection = self._link.broker, self._link.connection
        bounds = {"count": ENTRIES_A_READ, "block_ms": block_ms}
        if self._dead:
            return connection.execute(broker.follow_dead_letters(self._after, **bounds))
        return connection.execute(broker.follow(self._after, **bounds))

"""All that the server knows of one message: where its copies are now, and what its handling caused.

Looks, never touches. A search reads messages, so it is bounded; what it did not come to is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from leanmq_topology.brokers.protocol import (
    BlockingConnection,
    Browser,
    DeadEntry,
    Inspector,
    Operator,
    Purge,
    Searcher,
    Shelf,
    WaitingEntry,
)
from leanmq_topology.messages.causation import HEADER_CAUSE
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_CORRELATION

MOST_SEARCHED: Final = 100_000
"""Messages of one shelf of one queue: about a tenth of a second of the server's time."""
QUEUES_A_LOOK: Final = 500
"""The most a broker looks at in one call."""


class TracingBroker(Inspector, Browser, Searcher, Operator, Protocol):
    """What tracing needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> TracingBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


@dataclass(frozen=True, slots=True)
class Sighting:
    """One copy of a message, where it lies."""

    entry: WaitingEntry | DeadEntry
    purge: Purge | None = None
    """That took it; it is not handled any more unless the purge is undone."""

    @property
    def envelope(self) -> Envelope:
        if isinstance(self.entry, DeadEntry):
            return self.entry.letter.envelope
        assert self.entry.envelope is not None  # what was found by its id or headers could be read
        return self.entry.envelope


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A shelf with more on it than was looked at."""

    queue: str
    shelf: Shelf
    looked_at: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What was found, by queue, and in each as messages move: delayed, ready or in flight, dead, done."""

    copies: Sequence[Sighting]
    """Of the message; of all messages of the story, where one is traced by its correlation id."""
    caused: Sequence[Sighting]
    """What was sent while the message was handled."""
    unsearched: Sequence[Unsearched]


def trace_message(
    link: Link, queues: Sequence[str], id: str, *, correlated: bool = False, most: int = MOST_SEARCHED
) -> Trace:
    """Look for a message, or with `correlated` for all of this correlation id, in these queues.

    Of each shelf of a queue about `most` are looked at. What is not found is looked for twice: it may have
    moved meanwhile to where had been looked before.
    """
    found = _search(link, queues, id, correlated, most)
    return found if found.copies else _search(link, queues, id, correlated, most)


def _search(link: Link, queues: Sequence[str], id: str, correlated: bool, most: int) -> Trace:
    copies: list[Sighting] = []
    caused: list[Sighting] = []
    unsearched: list[Unsearched] = []
    for queue, shelf, purge in _find_shelves(link, queues):
        for sighting in _search_shelf(link, queue, shelf, purge, id, most, unsearched):
            headers = sighting.envelope.headers
            if sighting.envelope.id == id or (correlated and headers.get(HEADER_CORRELATION) == id):
                copies.append(sighting)
            elif headers.get(HEADER_CAUSE) == id:
                caused.append(sighting)
    return Trace(copies, caused, unsearched)


def _find_shelves(link: Link, queues: Sequence[str]) -> Iterator[tuple[str, Shelf, Purge | None]]:
    """Those that hold something, also in the trash."""
    for start in range(0, len(queues), QUEUES_A_LOOK):
        part = queues[start : start + QUEUES_A_LOOK]
        for state in link.connection.execute(link.broker.inspect_queues(part)):
            if state.waiting or state.parked or state.dead or state.kept:
                yield from ((state.name, shelf, None) for shelf in Shelf)
            counters = state.counters or {}
            if counters.get("purged") or counters.get("dead_discarded"):
                for purge in link.connection.execute(link.broker.list_purges(state.name)):
                    yield from ((state.name, shelf, purge) for shelf in _taken(purge))


def _taken(purge: Purge) -> tuple[Shelf, ...]:
    return (Shelf.DEAD,) if purge.of_dead_letters else (Shelf.DELAYED, Shelf.QUEUE)


def _search_shelf(
    link: Link,
    queue: str,
    shelf: Shelf,
    purge: Purge | None,
    id: str,
    most: int,
    unsearched: list[Unsearched],
) -> Iterator[Sighting]:
    after, looked_at = "", 0
    while True:
        operation = link.broker.search(
            queue, shelf, id, after=after, purge_id=purge.purge_id if purge else None
        )
        stretch = link.connection.execute(operation)
        yield from (Sighting(entry, purge) for entry in stretch.found if _is_readable(entry))
        after, looked_at = stretch.after, looked_at + stretch.looked_at
        if not after:
            return
        if looked_at >= most:
            unsearched.append(Unsearched(queue, shelf, looked_at))
            return


def _is_readable(entry: WaitingEntry | DeadEntry) -> bool:
    """A foreign entry may hold the text that was looked for."""
    return isinstance(entry, DeadEntry) or entry.envelope is not None

"""Dead letters as a work list: find them, group them, replay or discard those that are meant.

What is meant is chosen first and only then carried out, up to the last dead letter that was there by then:
one that is replayed and dies again meanwhile is not replayed a second time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Protocol

from leanmq_topology.brokers.protocol import (
    BlockingConnection,
    Browser,
    DeadEntry,
    Inspector,
    NoRoom,
    Operator,
    Replayed,
    Revival,
)
from leanmq_topology.errors import BrokerFullError
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.messages.replaying import count_replays, replayed_headers
from leanmq_topology.messages.selection import Selection

ENTRIES_A_READ = 200
ENTRIES_A_STEP = 100
"""Dead letters that are moved or forgotten in one atomic step."""


class DeadLetterBroker(Browser, Inspector, Operator, Protocol):
    """What handling dead letters needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> DeadLetterBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one queue that died of the same kind of thing."""

    queue: str
    reason: DeadReason
    error_type: str
    count: int
    first_ms: int
    last_ms: int
    again: int
    """Those among them that had been replayed before."""
    newest_id: str
    """Of the one that died last; empty if it cannot be read."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which dead letters are meant."""

    selection: Selection
    counts: Mapping[str, int]
    """By queue, only where there are some."""
    last: Mapping[str, str]
    """By queue, the last entry id that is meant."""
    unknown: tuple[str, ...]
    """Ids asked for that lie in none of these dead-letter queues."""

    @property
    def count(self) -> int:
        return sum(self.counts.values())


class Fate(StrEnum):
    """What became of one dead letter that was meant."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    GONE = "gone"
    """Somebody else was faster."""
    UNREADABLE = "unreadable"
    """Not one of our messages: nothing could handle it."""
    QUEUE_FULL = "queue_full"
    BROKER_FULL = "broker_full"
    UNKNOWN = "unknown"
    """No dead letter has this id."""

    @property
    def failed(self) -> bool:
        return self not in {Fate.REPLAYED, Fate.DISCARDED}


@dataclass(frozen=True, slots=True)
class Treated:
    queue: str
    id: str
    fate: Fate


def settle_age(link: Link, selection: Selection) -> Selection:
    """The same, with "longer ago than" counted back from now on the server's clock."""
    if selection.older_than_ms is None:
        return selection
    return selection.as_of(link.connection.execute(link.broker.read_time()))


def find_dead_letters(
    link: Link, queues: Sequence[str], selection: Selection, *, last: Mapping[str, str] | None = None
) -> Iterator[DeadEntry]:
    """Those that are meant, oldest first in each queue; in each up to the entry `last`, where it is given."""
    for queue in queues:
        for entry in _read_queue(link, queue, "" if last is None else last[queue]):
            if selection.includes(entry.letter, entry.entry_id):
                yield entry


def group_dead_letters(entries: Iterator[DeadEntry]) -> list[Group]:
    """By queue, reason and type of error; the largest group of each queue first."""
    found: dict[tuple[str, DeadReason, str], Group] = {}
    for entry in entries:
        letter = entry.letter
        key = (entry.queue, letter.reason, letter.failure.type)
        before = found.get(key)
        found[key] = Group(
            *key,
            count=(before.count if before else 0) + 1,
            first_ms=before.first_ms if before else entry.failed_at_ms,
            last_ms=entry.failed_at_ms,
            again=(before.again if before else 0) + bool(count_replays(letter.envelope.headers)),
            newest_id=letter.envelope.id,
        )
    return sorted(
        found.values(), key=lambda group: (group.queue, -group.count, group.reason, group.error_type)
    )


def choose_dead_letters(
    link: Link, queues: Sequence[str], selection: Selection, *, limit: int | None = None
) -> Chosen:
    """Count what is meant, the oldest `limit` at most. Nothing is touched yet."""
    selection = settle_age(link, selection)
    counts: dict[str, int] = {}
    last: dict[str, str] = {}
    seen: set[str] = set()
    for entry in islice(find_dead_letters(link, queues, selection), limit):
        counts[entry.queue] = counts.get(entry.queue, 0) + 1
        last[entry.queue] = entry.entry_id
        if selection.ids:
            seen |= {entry.letter.envelope.id, entry.entry_id}
    reached_limit = limit is not None and sum(counts.values()) >= limit
    unknown = [] if reached_limit else sorted(selection.ids - seen)
    return Chosen(selection, counts, last, tuple(unknown))


class Pace:
    """How fast dead letters are handled: at most `rate` a second, evenly; None: as fast as it goes."""

    def __init__(
        self,
        rate: int | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._sleep, self._clock = rate, sleep, clock
        self._started, self._done = clock(), 0
        self.step_size = ENTRIES_A_STEP if rate is None else max(min(rate // 4, ENTRIES_A_STEP), 1)

    def wait(self, count: int) -> None:
        """Until so many more may be handled."""
        if self._rate is not None:
            self._sleep(max(self._started + self._done / self._rate - self._clock(), 0))
        self._done += count


def replay_dead_letters(link: Link, chosen: Chosen, pace: Pace) -> Iterator[list[Treated]]:
    """Send them back to the queues they came from, step by step.

    Each step is atomic: all its messages go, or none. Where a queue or the server is full, the rest stays and
    its fate says why. Stopping in between loses nothing: what is left can be replayed later.
    """
    full: dict[str, Fate] = {}
    for step in _steps(link, chosen, pace):
        queue = step[0].queue
        if queue in full:
            yield [_treat(entry, full[queue]) for entry in step]
            continue
        fates = _replay_step(link, step)
        for fate in {Fate.QUEUE_FULL, Fate.BROKER_FULL} & set(fates.values()):
            full[queue] = fate
        yield [_treat(entry, fates[entry.entry_id]) for entry in step]


def discard_dead_letters(link: Link, chosen: Chosen, pace: Pace) -> Iterator[list[Treated]]:
    """Forget them for good, step by step."""
    for step in _steps(link, chosen, pace):
        operation = link.broker.discard_dead_letters(step[0].queue, [entry.entry_id for entry in step])
        went = link.connection.execute(operation)
        yield [
            _treat(entry, Fate.DISCARDED if was_there else Fate.GONE)
            for entry, was_there in zip(step, went, strict=True)
        ]


def _steps(link: Link, chosen: Chosen, pace: Pace) -> Iterator[list[DeadEntry]]:
    """What is meant, in parts of one queue each, as the pace allows."""
    for queue, count in chosen.counts.items():
        entries = islice(find_dead_letters(link, [queue], chosen.selection, last=chosen.last), count)
        while step := list(islice(entries, pace.step_size)):
            pace.wait(len(step))
            yield step


def _replay_step(link: Link, step: Sequence[DeadEntry]) -> dict[str, Fate]:
    """The fates by entry id. A queue with room for some takes these."""
    fates = {entry.entry_id: Fate.UNREADABLE for entry in step}
    readable = [entry for entry in step if entry.letter.envelope.id]
    while readable:
        answer = _try_replay(link, readable)
        if isinstance(answer, Replayed):
            for entry, moved in zip(readable, answer.moved, strict=True):
                fates[entry.entry_id] = Fate.REPLAYED if moved else Fate.GONE
            break
        room, reason = (answer.room, Fate.QUEUE_FULL) if answer else (0, Fate.BROKER_FULL)
        fates |= {entry.entry_id: reason for entry in readable[room:]}
        readable = readable[:room]
    return fates


def _try_replay(link: Link, entries: Sequence[DeadEntry]) -> Replayed | NoRoom | None:
    """None: the server is over its memory limit."""
    revivals = [Revival(entry.entry_id, replayed_headers(entry.letter, entry.entry_id)) for entry in entries]
    try:
        return link.connection.execute(link.broker.replay(entries[0].queue, revivals))
    except BrokerFullError:
        return None


def _treat(entry: DeadEntry, fate: Fate) -> Treated:
    return Treated(entry.queue, entry.letter.envelope.id or entry.entry_id, fate)


def _read_queue(link: Link, queue: str, last: str) -> Iterator[DeadEntry]:
    """Every dead letter of a queue, oldest first, a page at a time; up to `last` if it is not empty."""
    after = ""
    while True:
        operation = link.broker.read_dead_letters(queue, after=after, count=ENTRIES_A_READ)
        page = link.connection.execute(operation)
        for entry in page:
            if last and _order(entry.entry_id) > _order(last):
                return
            yield entry
        if len(page) < ENTRIES_A_READ:
            return
        after = page[-1].entry_id


def _order(entry_id: str) -> tuple[int, int]:
    first, _, second = entry_id.partition("-")
    return int(first), int(second)

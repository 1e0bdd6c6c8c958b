"""What a person does to whole queues: purge, undo a purge, pause, resume, look into."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from leanmq_topology.brokers.protocol import BlockingConnection, Browser, Inspector, Operator, Purge, Undone
from leanmq_topology.diagnostics import closest
from leanmq_topology.errors import BlockedChangeError, TopologyNotAppliedError, UnknownTargetError

UNDO_WINDOW_MS: Final = 24 * 60 * 60 * 1000
"""How long a purge can be undone."""
MESSAGES_A_STEP: Final = 100
"""How many an undone purge brings back in one atomic step, into a queue that is not empty."""


class QueueBroker(Inspector, Browser, Operator, Protocol):
    """What handling queues needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> QueueBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


class RecordLink(Protocol):
    """Enough to read what is applied."""

    @property
    def broker(self) -> Inspector: ...
    @property
    def connection(self) -> BlockingConnection: ...


def choose_queues(link: RecordLink, named: Sequence[str], namespace: str) -> list[str]:
    """The queues named, or all that are applied.

    Raises `UnknownTargetError` for one that is not, `TopologyNotAppliedError` where nothing is.
    """
    record = link.connection.execute(link.broker.read_record())
    applied = sorted(
        address.removeprefix("queues.") for address in record.resources if address.startswith("queues.")
    )
    if not applied:
        raise TopologyNotAppliedError([], namespace=namespace)
    for name in named:
        if name not in applied:
            raise UnknownTargetError(name, closest=closest(name, applied))
    return list(dict.fromkeys(named)) or applied


def purge_queue(link: Link, queue: str, *, dead: bool = False, permanent: bool = False) -> Purge:
    """Take everything out of a queue, or out of its dead-letter queue. Says how much went."""
    purge = link.broker.purge_dead_letters if dead else link.broker.purge
    purge_id = secrets.token_hex(6)
    return link.connection.execute(purge(queue, purge_id, keep_ms=0 if permanent else UNDO_WINDOW_MS))


def find_purge(link: Link, queue: str, *, dead: bool = False) -> Purge:
    """The latest purge that can still be undone. Raises `BlockedChangeError`."""
    purges = link.connection.execute(link.broker.list_purges(queue))
    wanted = [purge for purge in purges if purge.of_dead_letters == dead]
    if not wanted:
        what = "its dead letters" if dead else "it"
        raise BlockedChangeError([f"queues.{queue}"], f"no purge of {what} in the last 24 h to undo")
    return wanted[-1]


def undo_purge(link: Link, purge: Purge) -> Iterator[Undone]:
    """Bring back what a purge took, step by step; it goes on where it was interrupted."""
    while True:
        undone = link.connection.execute(link.broker.undo_purge(purge, count=MESSAGES_A_STEP))
        if undone is None:
            return
        yield undone
        if not undone.left:
            return


def pause_queues(link: Link, queues: Sequence[str]) -> list[str]:
    """Workers stop reading these queues within a second. Returns those that were not paused before."""
    return _check_states(queues, link.connection.execute(link.broker.pause(queues)), "active")


def resume_queues(link: Link, queues: Sequence[str]) -> list[str]:
    """Undo a pause. Returns those that were paused."""
    return _check_states(queues, link.connection.execute(link.broker.resume(queues)), "paused")


def _check_states(queues: Sequence[str], before: Sequence[str], changed: str) -> list[str]:
    """Raises `BlockedChangeError` for queues on their way out; the others are changed all the same."""
    states = dict(zip(queues, before, strict=True))
    stuck = {f"queues.{queue}": state for queue, state in states.items() if state not in {"active", "paused"}}
    if stuck:
        raise BlockedChangeError(list(stuck), f"on the way out ({', '.join(sorted(set(stuck.values())))})")
    return [queue for queue, state in states.items() if state == changed]

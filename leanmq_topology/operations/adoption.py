"""Take over what the package LeanMQ left under a prefix, in steps that may be repeated.

plan_adoption   which queues there are; which can be declared, and which names only a call can make
write_topology  a file that declares them
adopt_queues    move messages, pending ones and dead letters; stop it anywhere and run it again
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import (
    Adopter,
    BlockingConnection,
    Browser,
    Inspector,
    Moved,
    PairKeeper,
)
from leanmq_topology.errors import LeanMQError, TopologyNotAppliedError
from leanmq_topology.messages.adoption import Move, read_old_message
from leanmq_topology.topology.model import KeepAcked, OnExpire, Queue

ENTRIES_A_STEP: Final = 100
KEPT_ACKED: Final = 100_000
"""Acknowledged messages that a queue goes on keeping, as LeanMQ did."""
_DECLARABLE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class AdoptingBroker(Adopter, PairKeeper, Inspector, Browser, Protocol):
    """What adopting needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> AdoptingBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...


class AdoptionPlan(Struct, frozen=True):
    """What LeanMQ left under a prefix."""

    prefix: str
    declared: tuple[str, ...]
    """Queues that a topology file can name."""
    undeclared: tuple[str, ...]
    """Queues whose names it cannot: they become pairs that nobody declares."""

    @property
    def queues(self) -> tuple[str, ...]:
        return tuple(sorted(self.declared + self.undeclared))


class Adopted(Struct, frozen=True):
    """One queue, as far as it has been moved by this call."""

    queue: str
    waiting: int = 0
    kept: int = 0
    dead: int = 0
    dropped: int = 0
    done: bool = False

    def plus(self, moved: Moved) -> Adopted:
        return Adopted(
            self.queue,
            self.waiting + moved.waiting,
            self.kept + moved.kept,
            self.dead + moved.dead,
            self.dropped + moved.dropped,
        )


def plan_adoption(link: Link, prefix: str) -> AdoptionPlan:
    """Look at what is there; touches nothing."""
    names = link.connection.execute(link.broker.list_old_queues(prefix))
    declared = tuple(filter(is_declarable, names))
    return AdoptionPlan(prefix, declared, tuple(name for name in names if name not in declared))


def is_declarable(name: str) -> bool:
    """Whether a topology file can hold this name."""
    return _DECLARABLE.fullmatch(name) is not None


def write_topology(plan: AdoptionPlan, namespace: str, url: str | None) -> str:
    """The YAML that declares these queues as LeanMQ kept them."""
    lines = [
        f"# Written by `leanmq adopt --from leanmq --prefix {plan.prefix}`. It is yours to change.",
        "leanmq: 1",
        f"name: {namespace}",
        *(["broker:", f"  url: {json.dumps(url)}"] if url else []),
        "queues:" if plan.declared else "queues: {}",
    ]
    for name in plan.declared:
        lines += [
            f"  {name}:",
            f"    keep_acked: {KEPT_ACKED}   # as LeanMQ did; `none` saves the memory",
            "    on_expire: discard     # as LeanMQ did; `dead_letter` keeps what nobody read in time",
        ]
    return "\n".join(lines) + "\n"


def undeclared_queue(name: str) -> Queue:
    """What a queue becomes whose name no file can hold."""
    return Queue(name=name, keep_acked=KeepAcked(count=KEPT_ACKED), on_expire=OnExpire.DISCARD)


def adopt_queues(
    link: Link, plan: AdoptionPlan, namespace: str, format_time: Callable[[int], str]
) -> Iterator[Adopted]:
    """Move everything, queue by queue; tells of each step, and at last of the whole queue.

    Raises `TopologyNotAppliedError` for a queue that is to be declared and is not applied yet.
    """
    for name in plan.undeclared:
        link.connection.execute(
            link.broker.create_pair(undeclared_queue(name))
        )  # a declared one stays as it is
    for name in plan.queues:
        _check_is_there(link, name, namespace)
        yield from _adopt(link, plan.prefix, name, format_time)


def _check_is_there(link: Link, name: str, namespace: str) -> None:
    [state] = link.connection.execute(link.broker.inspect_queues([name]))
    if not state.exists:
        raise TopologyNotAppliedError([f"queues.{name}"], namespace=namespace)


def _adopt(link: Link, prefix: str, queue: str, format_time: Callable[[int], str]) -> Iterator[Adopted]:
    """Dead letters first: LeanMQ left an acknowledged copy of each behind, which is not kept twice."""
    adopted = Adopted(queue)
    buried: frozenset[str] = frozenset()
    for dead in (True, False):
        if not dead:
            buried = frozenset(_read_dead_ids(link, queue))
        while entries := link.connection.execute(
            link.broker.read_old(prefix, queue, dead=dead, count=ENTRIES_A_STEP)
        ):
            moves = [
                _drop_copy(
                    read_old_message(entry.entry_id, entry.fields, dead=dead, format_time=format_time), buried
                )
                for entry in entries
            ]
            step = link.broker.bury_old if dead else link.broker.move_old
            adopted = adopted.plus(link.connection.execute(step(prefix, queue, moves)))
            yield adopted
    if not link.connection.execute(link.broker.finish_old(prefix, queue)):
        raise LeanMQError(
            f"queue {queue!r} got messages while it was adopted",
            hint="stop every program that still uses LeanMQ under this prefix, then run this again",
        )
    yield replace(adopted, done=True)


def _read_dead_ids(link: Link, queue: str) -> Iterator[str]:
    after = ""
    while page := link.connection.execute(
        link.broker.read_dead_letters(queue, after=after, count=ENTRIES_A_STEP)
    ):
        yield from (entry.letter.envelope.id for entry in page)
        after = page[-1].entry_id


def _drop_copy(move: Move, buried: Collection[str]) -> Move:
    is_copy = move.envelope is not None and move.envelope.id in buried
    return replace(move, keeps_history=False) if is_copy else move

"""The Redis and Valkey broker: every verb of the seam as a value, for one namespace. No I/O here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from leanmq_topology.brokers.examination import Examination
from leanmq_topology.brokers.protocol import (
    AppliedRecord,
    ApplyLock,
    Arrived,
    DeadEntry,
    Declared,
    Dying,
    Expired,
    Flush,
    HandedBack,
    LockHeld,
    LockLost,
    Moved,
    NoRoom,
    NotEmpty,
    OldEntry,
    OutputsSent,
    OverdueStretch,
    OwnedByAnother,
    Pair,
    Part,
    Publication,
    Purge,
    QueueHealth,
    QueueState,
    Replayed,
    Reply,
    Retrying,
    Revival,
    SearchedStretch,
    SendResult,
    Shelf,
    Stale,
    Stretch,
    Swept,
    Undone,
    Upkeep,
    WaitingEntry,
    WorkerState,
    Written,
)
from leanmq_topology.brokers.redis import (
    adopting,
    broadcasting,
    browsing,
    checks,
    confirming,
    operating,
    pairing,
    receiving,
    requesting,
    searching,
    sending,
    settling,
    sweeping,
    upkeep,
    workers,
)
from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.inspect import RedisInspector
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.messages.adoption import Move
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import Failure
from leanmq_topology.topology.durability import Durability
from leanmq_topology.topology.model import Queue

if TYPE_CHECKING:
    from leanmq_topology.brokers.redis.apply import RedisApplier
    from leanmq_topology.plan.revision import PastRevision, Revision


class RedisBroker:
    """The verbs of `protocol.Broker`; what each promises stands there."""

    def __init__(self, namespace: str) -> None:
        self.keys = Keys(namespace)
        self._inspector = RedisInspector(self.keys)

    @cached_property
    def _applier(self) -> RedisApplier:
        """Made when somebody applies: workers and senders never do, and need not import planning."""
        from leanmq_topology.brokers.redis.apply import RedisApplier

        return RedisApplier(self.keys)

    @property
    def namespace(self) -> str:
        return self.keys.namespace

    # -- sending ----------------------------------------------------------------------------------------

    def send(self, flush: Flush) -> Call[list[SendResult]]:
        return sending.send(self.keys, flush)

    def attempt(self, flush: Flush) -> Call[list[SendResult] | None]:
        return sending.attempt(self.keys, flush)

    def send_confirmed(
        self, flush: Flush, level: Durability, *, within_ms: int, examination: Examination
    ) -> Call[list[SendResult]]:
        return confirming.send_confirmed(
            self.keys, flush, level, within_ms=within_ms, examination=examination
        )

    def examine(self, now_ms: int) -> Call[checks.RedisExamination]:
        return checks.examine(now_ms)

    # -- ephemeral channels -----------------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication]) -> Call[list[int | Stale]]:
        return broadcasting.publish(self.keys, publications)

    def listen(self, name: str) -> Call[None]:
        return broadcasting.listen(self.keys, name)

    def stop_listening(self, name: str) -> Call[None]:
        return broadcasting.stop_listening(self.keys, name)

    def listen_for_upkeep(self) -> Call[None]:
        return broadcasting.listen_for_upkeep(self.keys)

    def ring_for_nothing(self) -> Call[None]:
        return broadcasting.ring_for_nothing(self.keys)

    def check_line(self) -> Call[None]:
        return broadcasting.check_line()

    # -- receiving and upkeep ---------------------------------------------------------------------------

    def fetch(
        self, queues: Sequence[str], consumer: str, *, count: int, block_ms: int
    ) -> Call[receiving.Received]:
        return receiving.fetch(self.keys, queues, consumer, count=count, block_ms=block_ms)

    def read_ends(self, queues: Sequence[str], *, dead: bool = False) -> Call[Mapping[str, str]]:
        return receiving.read_ends(self.keys, queues, dead=dead)

    def await_entries(self, after: Mapping[str, str], *, block_ms: int) -> Call[bool]:
        return receiving.await_entries(self.keys, after, block_ms)

    def end_fetch(self, connection_id: int) -> Call[bool]:
        return receiving.end_fetch(connection_id)

    def fetch_own(
        self, queue: str, consumer: str, *, cursor: str, known: Sequence[str]
    ) -> Call[tuple[str, receiving.Received]]:
        return receiving.fetch_own(self.keys, queue, consumer, cursor=cursor, known=known)

    def claim(
        self,
        queue: Queue,
        consumer: str,
        *,
        cursor: str,
        count: int,
        held: Sequence[str] = (),
        part: Part = Part.ALL,
    ) -> Call[tuple[str, receiving.Received]]:
        return receiving.claim(
            self.keys, queue.name, consumer, cursor=cursor, count=count, held=held, part=part
        )

    def maintain(self, queues: Sequence[str], worker: str = "") -> Call[Upkeep]:
        return upkeep.maintain(self.keys, queues, worker)

    def survey(self, queues: Sequence[str], consumer: str) -> Call[list[QueueHealth]]:
        return upkeep.survey(self.keys, queues, consumer)

    def list_filled(self, queues: Sequence[str]) -> Call[list[str]]:
        return upkeep.list_filled(self.keys, queues)

    def take_turns(self, queues: Sequence[str], *, good_for_ms: int) -> Call[list[str]]:
        return upkeep.take_turns(self.keys, queues, good_for_ms)

    def rescue(self, queue: str, *, cursor: str = "") -> Call[Stretch]:
        return upkeep.rescue(self.keys, queue, cursor)

    def rescue_delayed(self, queue: str, *, cursor: str = "") -> Call[Stretch]:
        return upkeep.rescue_delayed(self.keys, queue, cursor)

    def rescue_group(self, queue: str) -> Call[int | None]:
        return upkeep.rescue_group(self.keys, queue)

    def repair_clock(self, queue: str, *, cursor: str = "") -> Call[Stretch]:
        return upkeep.repair_clock(self.keys, queue, cursor)

    def reap(self, queues: Sequence[str], *, idle_ms: int) -> Call[int]:
        return upkeep.reap(self.keys, queues, idle_ms)

    def sweep(self, queues: Sequence[str]) -> Call[Swept]:
        return sweeping.sweep(self.keys, queues)

    # -- settling ---------------------------------------------------------------------------------------

    def ack(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Call[int]:
        return settling.ack(self.keys, queue, entry_ids, late)

    def delete(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Call[int]:
        return settling.delete(self.keys, queue, entry_ids, late)

    def ack_with_outputs(
        self, consumer: str, delivered: Delivered, flush: Flush, reply: Reply | None = None
    ) -> Call[OutputsSent]:
        return settling.ack_with_outputs(self.keys, consumer, delivered, flush, reply)

    def retry(self, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Call[list[bool]]:
        return settling.retry(self.keys, queue, consumer, retrying)

    def dead_letter(self, queue: str, consumer: str, dying: Sequence[Dying]) -> Call[list[bool]]:
        return settling.dead_letter(self.keys, queue, consumer, dying)

    def discard(
        self,
        queue: str,
        consumer: str,
        deliveries: Sequence[Delivered],
        *,
        expired: Collection[str] = (),
        reasons: Mapping[str, str] | None = None,
    ) -> Call[list[bool]]:
        return settling.discard(self.keys, queue, consumer, deliveries, expired, reasons or {})

    def release(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Call[list[bool]]:
        return settling.release(self.keys, queue, consumer, deliveries)

    def release_held(
        self, queue: str, consumer: str, *, started: Collection[str] = (), suspect: bool = False
    ) -> Call[HandedBack]:
        return settling.release_held(self.keys, queue, consumer, started, suspect)

    def extend(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Call[list[bool]]:
        return settling.extend(self.keys, queue, consumer, deliveries)

    def crash(
        self, queue: str, consumer: str, deliveries: Sequence[Delivered | Undecodable]
    ) -> Call[list[bool]]:
        return settling.crash(self.keys, queue, consumer, deliveries)

    # -- requests ---------------------------------------------------------------------------------------

    def open_inbox(self, inbox: str, *, lifetime_ms: int) -> Call[None]:
        return requesting.open_inbox(self.keys, inbox, lifetime_ms=lifetime_ms)

    def read_inbox(self, inbox: str, after: str, *, count: int, block_ms: int) -> Call[list[Arrived]]:
        return requesting.read_inbox(self.keys, inbox, after, count=count, block_ms=block_ms)

    def keep_inbox(self, inbox: str, *, lifetime_ms: int, read_to: str) -> Call[bool]:
        return requesting.keep_inbox(self.keys, inbox, lifetime_ms=lifetime_ms, read_to=read_to)

    def close_inbox(self, inbox: str) -> Call[bool]:
        return requesting.close_inbox(self.keys, inbox)

    # -- looking ----------------------------------------------------------------------------------------

    def read_record(self) -> Call[AppliedRecord]:
        return self._inspector.read_record()

    def read_history(self, *, count: int) -> Call[list[PastRevision]]:
        from leanmq_topology.brokers.redis.history import read_history

        return read_history(self.keys, count=count)

    def read_addresses(self, names: Sequence[str]) -> Call[Mapping[str, Any]]:
        return self._inspector.read_addresses(names)  # type: ignore[return-value]  # dict is a Mapping

    def read_limits(self, queue: str) -> Call[Queue | None]:
        return self._inspector.read_limits(queue)

    def read_time(self) -> Call[int]:
        return self._inspector.read_time()

    def inspect_queues(self, names: Sequence[str]) -> Call[list[QueueState]]:
        return self._inspector.inspect_queues(names)

    def inspect_routes(self, names: Sequence[str]) -> Call[dict[str, dict[str, int]]]:
        return self._inspector.inspect_routes(names)

    def read_dead_letters(self, queue: str, *, after: str, count: int) -> Call[list[DeadEntry]]:
        return browsing.read_dead_letters(self.keys, queue, after=after, count=count)

    def count_expired(self, queue: str, *, after: str = "") -> Call[OverdueStretch]:
        return browsing.count_expired(self.keys, queue, after=after)

    def peek(self, queue: str, *, count: int) -> Call[list[WaitingEntry]]:
        return browsing.peek(self.keys, queue, count=count)

    def follow(self, after: Mapping[str, str], *, count: int, block_ms: int) -> Call[list[WaitingEntry]]:
        return browsing.follow(self.keys, after, count=count, block_ms=block_ms)

    def follow_dead_letters(
        self, after: Mapping[str, str], *, count: int, block_ms: int
    ) -> Call[list[DeadEntry]]:
        return browsing.follow_dead_letters(self.keys, after, count=count, block_ms=block_ms)

    def search(
        self, queue: str, shelf: Shelf, message_id: str, *, after: str = "", purge_id: str | None = None
    ) -> Call[SearchedStretch]:
        return searching.search(self.keys, queue, shelf, message_id, after=after, purge_id=purge_id)

    # -- operating --------------------------------------------------------------------------------------

    def replay(
        self, queue: str, revivals: Sequence[Revival], *, source: str | None = None
    ) -> Call[Replayed | NoRoom]:
        return operating.replay(self.keys, queue, revivals, source)

    def discard_dead_letters(self, queue: str, entry_ids: Sequence[str]) -> Call[list[bool]]:
        return operating.discard_dead_letters(self.keys, queue, entry_ids)

    def purge(self, queue: str, purge_id: str, *, keep_ms: int) -> Call[Purge]:
        return operating.purge(self.keys, queue, purge_id, keep_ms=keep_ms)

    def purge_dead_letters(self, queue: str, purge_id: str, *, keep_ms: int) -> Call[Purge]:
        return operating.purge_dead_letters(self.keys, queue, purge_id, keep_ms=keep_ms)

    def list_purges(self, queue: str) -> Call[list[Purge]]:
        return operating.list_purges(self.keys, queue)

    def undo_purge(self, purge: Purge, *, count: int) -> Call[Undone | None]:
        return operating.undo_purge(self.keys, purge, count=count)

    def pause(self, queues: Sequence[str]) -> Call[list[str]]:
        return operating.pause(self.keys, queues)

    def resume(self, queues: Sequence[str]) -> Call[list[str]]:
        return operating.resume(self.keys, queues)

    # -- undeclared pairs, and work by hand ---------------------------------------------------------------

    def create_pair(self, queue: Queue) -> Call[Pair | Declared]:
        return pairing.create_pair(self.keys, queue)

    def find_pair(self, name: str) -> Call[Pair | None]:
        return pairing.find_pair(self.keys, name)

    def list_pairs(self) -> Call[list[Pair]]:
        return pairing.list_pairs(self.keys)

    def delete_pair(self, name: str, *, dead_letters: bool) -> Call[bool | Declared]:
        return pairing.delete_pair(self.keys, name, dead_letters=dead_letters)

    def bury(self, queue: str, entry_ids: Sequence[str], failure: Failure) -> Call[int]:
        return pairing.bury(self.keys, queue, entry_ids, failure)

    def expire(self, queue: str, *, cursor: str) -> Call[Expired]:
        return pairing.expire(self.keys, queue, cursor)

    def forget_history(self, queue: str) -> Call[int]:
        return pairing.forget_history(self.keys, queue)

    # -- what LeanMQ left -------------------------------------------------------------------------------

    def list_old_queues(self, prefix: str) -> Call[list[str]]:
        return adopting.list_old_queues(prefix)

    def read_old(self, prefix: str, queue: str, *, dead: bool, count: int) -> Call[list[OldEntry]]:
        return adopting.read_old(prefix, queue, dead=dead, count=count)

    def move_old(self, prefix: str, queue: str, moves: Sequence[Move]) -> Call[Moved]:
        return adopting.move_old(self.keys, prefix, queue, moves)

    def bury_old(self, prefix: str, queue: str, moves: Sequence[Move]) -> Call[Moved]:
        return adopting.bury_old(self.keys, prefix, queue, moves)

    def finish_old(self, prefix: str, queue: str) -> Call[bool]:
        return adopting.finish_old(prefix, queue)

    # -- workers ----------------------------------------------------------------------------------------

    def heartbeat(
        self, worker: str, facts: Mapping[str, str], *, lifetime_ms: int, queues: Sequence[str] = ()
    ) -> Call[None]:
        return workers.heartbeat(self.keys, worker, facts, lifetime_ms, queues)

    def leave(self, worker: str, queues: Sequence[str]) -> Call[int]:
        return workers.leave(self.keys, worker, queues)

    def list_consumers(self, queues: Sequence[str]) -> Call[list[str]]:
        return workers.list_consumers(self.keys, queues)

    def inspect_workers(self, names: Sequence[str]) -> Call[list[WorkerState]]:
        return workers.inspect_workers(self.keys, names)

    # -- applying ---------------------------------------------------------------------------------------

    def take_lock(
        self, owner: str, holder: str, *, lifetime_ms: int
    ) -> Call[ApplyLock | LockHeld | OwnedByAnother]:
        return self._applier.take_lock(owner, holder, lifetime_ms=lifetime_ms)

    def renew_lock(self, lock: ApplyLock) -> Call[bool]:
        return self._applier.renew_lock(lock)

    def release_lock(self, lock: ApplyLock) -> Call[bool]:
        return self._applier.release_lock(lock)

    def write_revision(
        self, lock: ApplyLock, revision: Revision, done: Collection[str] = ()
    ) -> Iterator[Call[Written | NotEmpty | LockLost | OwnedByAnother]]:
        return self._applier.write_revision(lock, revision, done)

"""Applying, as values: the lock, and the bounded steps that write one revision."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from leanmq_topology.brokers.protocol import ApplyLock, LockHeld, LockLost, NotEmpty, OwnedByAnother, Written
from leanmq_topology.brokers.redis.calls import Call, Word, load_script
from leanmq_topology.brokers.redis.history import MOST_REVISIONS, encode_changes
from leanmq_topology.brokers.redis.keys import GROUP, Keys
from leanmq_topology.brokers.redis.record import (
    RECORD_FORMAT,
    address_field,
    encode_resource,
    queue_meta,
)
from leanmq_topology.errors import BrokerError
from leanmq_topology.plan.revision import ResourceRemoval, ResourceWrite, Revision
from leanmq_topology.topology.model import Queue
from leanmq_topology.topology.specs import read_resource

MOST_RESOURCES = 200
"""Resources a step writes: a few ms of the server's time."""
MOST_BYTES = 1024 * 1024
"""Record bytes a step writes, unless one resource alone has more."""

StepResult = Written | NotEmpty | LockLost | OwnedByAnother


@dataclass(frozen=True, slots=True)
class RedisApplier:
    """The writing verbs of the reconciler for one namespace."""

    keys: Keys

    def take_lock(
        self, owner: str, holder: str, *, lifetime_ms: int
    ) -> Call[ApplyLock | LockHeld | OwnedByAnother]:
        return Call(
            "take_lock",
            load_script("lock_take"),
            (self.keys.lock, self.keys.topology),
            (secrets.token_hex(8), holder, lifetime_ms, owner),
            lambda reply: _read_lock(reply, lifetime_ms),
        )

    def renew_lock(self, lock: ApplyLock) -> Call[bool]:
        return Call(
            "renew_lock",
            load_script("lock_renew"),
            (self.keys.lock,),
            (lock.value, lock.lifetime_ms),
            lambda reply: bool(reply[0] == b"done"),
        )

    def release_lock(self, lock: ApplyLock) -> Call[bool]:
        return Call("release_lock", load_script("lock_release"), (self.keys.lock,), (lock.value,), bool)

    def write_revision(
        self, lock: ApplyLock, revision: Revision, done: Collection[str]
    ) -> Iterator[Call[StepResult]]:
        """Begin, chunks, removals, commit, encoded one by one: many queues never lie in memory twice."""
        yield self._begin(lock, revision)
        for chunk in _split(revision):
            yield self._write_chunk(lock, revision, chunk)
        for removal in revision.removals:
            yield self._remove(lock, revision, removal)
        yield self._commit(lock, revision, done)

    def _begin(self, lock: ApplyLock, revision: Revision) -> Call[StepResult]:
        arguments = (
            lock.value,
            lock.lifetime_ms,
            revision.base_generation,
            revision.owner,
            RECORD_FORMAT,
            secrets.token_hex(8),
            revision.intent,
        )
        keys = (self.keys.lock, self.keys.topology, self.keys.plan, self.keys.history)
        return Call("apply_begin", load_script("apply_begin"), keys, arguments, _read_step)

    def _write_chunk(self, lock: ApplyLock, revision: Revision, chunk: _Chunk) -> Call[StepResult]:
        queues = chunk.queues()
        records = [queue_meta(queue) for queue in queues]
        arguments: list[Word] = [lock.value, lock.lifetime_ms, revision.base_generation, GROUP]
        arguments.append(2 * len(records[0]) if records else 0)
        for record in records:
            arguments.extend(word for pair in record.items() for word in pair)
        for pair in chunk.fields:
            arguments.extend(pair)
        made = [key for queue in queues for key in (self.keys.queue(queue.name), self.keys.meta(queue.name))]
        written = Written(tuple(resource.address for resource in chunk.resources))
        return Call(
            "apply_chunk",
            load_script("apply_chunk"),
            (self.keys.lock, self.keys.topology, self.keys.sent, *made),
            tuple(arguments),
            lambda reply: _read_step(reply, written),
        )

    def _remove(self, lock: ApplyLock, revision: Revision, removal: ResourceRemoval) -> Call[StepResult]:
        keys, (kind, _, name) = self.keys, removal.address.partition(".")
        places = [] if kind == "messages" or (kind == "routes" and removal.name_stays) else [keys.meta(name)]
        if kind == "queues":
            homes = (keys.queue, keys.dead, keys.delayed, keys.bodies, keys.crashes, keys.acked, keys.purges)
            places += [home(name) for home in homes]
        arguments = (
            lock.value,
            lock.lifetime_ms,
            revision.base_generation,
            removal.step.value,
            removal.address,
            name,
            int(removal.may_lose),
            int(removal.name_stays),
            *removal.users,
        )
        return Call(
            "apply_remove",
            load_script("apply_remove"),
            (keys.lock, keys.topology, keys.pairs, keys.due, keys.upkeep, keys.sent, *places),
            arguments,
            lambda reply: _read_step(reply, Written((removal.address,)), removal.address),
        )

    def _commit(self, lock: ApplyLock, revision: Revision, done: Collection[str]) -> Call[StepResult]:
        arguments = (
            lock.value,
            revision.base_generation,
            revision.fingerprint,
            revision.by,
            revision.at_ms,
            revision.commit or "",
            encode_changes(revision, done),
            MOST_REVISIONS,
        )
        ours = self.keys
        keys = (ours.lock, ours.topology, ours.plan, ours.history, ours.due)
        return Call("apply_commit", load_script("apply_commit"), keys, arguments, _read_step)


@dataclass(frozen=True, slots=True)
class _Chunk:
    resources: Sequence[ResourceWrite]
    fields: Sequence[tuple[str, bytes | str]]
    """Of `{ns}:topology`: the entry of each resource, then address digests."""

    def queues(self) -> list[Queue]:
        found = (read_resource(resource.address, resource.spec) for resource in self.resources)
        return [resource for resource in found if isinstance(resource, Queue)]


def _split(revision: Revision) -> Iterator[_Chunk]:
    """Resources with their own digests first; then the digests of those that did not change themselves."""
    digests = dict(revision.addresses)
    resources: list[ResourceWrite] = []
    fields: list[tuple[str, bytes | str]] = []
    size = 0
    for resource in revision.resources:
        entry = _entry(resource, revision)
        if resources and (len(resources) == MOST_RESOURCES or size + len(entry) > MOST_BYTES):
            yield _Chunk(resources, fields)
            resources, fields, size = [], [], 0
        resources.append(resource)
        fields.append((resource.address, entry))
        size += len(entry)
        kind, _, name = resource.address.partition(".")
        if kind != "messages" and name in digests:
            fields.append((address_field(name), digests.pop(name)))
    if resources:
        yield _Chunk(resources, fields)
    left = [(address_field(name), known) for name, known in digests.items()]
    for start in range(0, len(left), MOST_RESOURCES):
        yield _Chunk((), left[start : start + MOST_RESOURCES])


def _entry(resource: ResourceWrite, revision: Revision) -> bytes:
    return encode_resource(
        {
            "hash": resource.hash,
            "generation": revision.generation,
            "by": revision.by,
            "at": revision.at_ms,
            "commit": revision.commit,
            "spec": resource.spec,
        }
    )


def _read_lock(reply: Any, lifetime_ms: int) -> ApplyLock | LockHeld | OwnedByAnother:
    match reply:
        case [b"taken", bytes(value)]:
            return ApplyLock(value.decode(), lifetime_ms)
        case [b"held", bytes(value), int(left_ms)]:
            return LockHeld(_holder(value), left_ms)
        case [b"owned", bytes(owner)]:
            return OwnedByAnother(owner.decode())
    raise BrokerError(f"take_lock: unexpected answer {reply!r}")


def _read_step(reply: Any, written: Written = Written(), removed: str = "") -> StepResult:  # noqa: B008  frozen
    match reply:
        case [b"not_empty", int(messages)]:
            return NotEmpty(removed, messages)
        case [b"used"]:
            return Written()
        case [b"done"]:
            return written
        case [b"done", int(generation)]:
            return Written(generation=generation)
        case [b"lost", b""]:
            return LockLost("this one was too slow: its lock lapsed")
        case [b"lost", bytes(value)]:
            return LockLost(_holder(value))
        case [b"moved", bytes(generation)]:
            return LockLost(f"the namespace is at generation {generation.decode()} now")
        case [b"owned", bytes(owner)]:
            return OwnedByAnother(owner.decode())
        case [b"wrong_type", bytes(key), bytes(found)]:
            raise BrokerError(
                f"key {key.decode()} holds a {found.decode()} that is not ours; it was left alone",
                hint="rename or delete that key, then apply again",
            )
    raise BrokerError(f"apply: unexpected answer {reply!r}")


def _holder(value: bytes) -> str:
    """`fence:token:holder`, of which only the holder is for people."""
    return value.decode(errors="replace").split(":", 2)[-1]

"""Looking at a namespace without touching it: the applied record, and the queues as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from leanmq_topology.brokers.redis.calls import Call, load_script
from leanmq_topology.brokers.redis.failures import reply_code
from leanmq_topology.brokers.redis.keys import GROUP, NOBODY, SUSPECTS, Keys
from leanmq_topology.brokers.redis.record import (
    LIMITS,
    RECORD_FORMAT,
    decode_resource,
    is_resource_field,
    read_meta,
)
from leanmq_topology.errors import BrokerRefusedError
from leanmq_topology.plan.live_state import AppliedRecord, Damage, QueueState
from leanmq_topology.topology.model import Queue

MOST_QUEUES = 500
"""Queues a call may look at: about 10 ms of the server's time."""

COUNTERS = (
    "sent",
    "acked",
    "retried",
    "dead_lettered",
    "expired",
    "discarded",
    "dead_expired",
    "late",
    "vanished",
    "rescued",
    "duplicates",
    "conflicts",
    "dropped",
    "overflowed",
    "replayed",
    "purged",
    "dead_discarded",
    "late_replies",
)

ROUTE_COUNTERS = ("unrouted", "duplicates", "conflicts")
"""Those a route keeps for itself: messages that no queue wanted, and those sent to it before."""

_LOST = {
    Damage.MISSING: "the queue is not on the server",
    Damage.GROUP_GONE: "its consumer group is gone",
    Damage.RECORD_GONE: "the record of its limits is gone",
}


class RedisInspector(Struct, frozen=True):
    """The reading verbs of one namespace, as values."""

    keys: Keys

    def read_time(self) -> Call[int]:
        """TIME, in ms."""
        return Call("read_time", "TIME", (), (), lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000)

    def read_record(self) -> Call[AppliedRecord]:
        """The whole applied record. Raises `BrokerRefusedError` for one that a newer version wrote."""
        return Call(
            "read_record",
            load_script("inspect_record"),
            (self.keys.topology, self.keys.plan),
            (),
            _read_record,
            read_error=lambda text: _refuse_foreign_record(text, self.keys.topology),
        )

    def read_addresses(self, names: Sequence[str]) -> Call[dict[str, Any]]:
        """What sending to these queues and routes needs, of one moment.

        Resources by address (`queues.billing` -> {hash, generation, by, at, commit, spec}), digests by
        `@name`, and `owner`, `format`, `generation`, `epoch`, `fingerprint` as text. What is not applied is
        left out.
        """
        return Call(
            "read_addresses",
            load_script("inspect_addresses"),
            (self.keys.topology,),
            tuple(names),
            _read_fields,
        )

    def read_limits(self, queue: str) -> Call[Queue | None]:
        """A queue by its own record; None: it has none."""
        return Call(
            "read_limits",
            "HMGET",
            (self.keys.meta(queue),),
            LIMITS,
            lambda reply: read_meta(queue, reply),
        )

    def inspect_queues(self, names: Sequence[str]) -> Call[list[QueueState]]:
        """These queues as they are now, in the same order; at most `MOST_QUEUES`."""
        if len(names) > MOST_QUEUES:
            raise ValueError(f"{len(names)} queues are more than one call looks at ({MOST_QUEUES})")
        keys = self.keys
        return Call(
            "inspect_queues",
            load_script("inspect_queues"),
            (
                keys.sent,
                *(
                    home(name)
                    for name in names
                    for home in (keys.queue, keys.dead, keys.delayed, keys.meta, keys.acked)
                ),
            ),
            (GROUP, NOBODY, SUSPECTS, *COUNTERS),
            lambda reply: _read_states(names, reply),
        )

    def inspect_routes(self, names: Sequence[str]) -> Call[dict[str, dict[str, int]]]:
        """What each of these routes counted, by its name."""
        return Call(
            "inspect_routes",
            load_script("inspect_routes"),
            tuple(map(self.keys.meta, names)),
            ROUTE_COUNTERS,
            lambda reply: {
                name: {counter: int(count or 0) for counter, count in zip(ROUTE_COUNTERS, row, strict=True)}
                for name, row in zip(names, reply, strict=True)
            },
        )


def _read_record(reply: Any) -> AppliedRecord:
    flat, intent = reply
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    found = _check_format(fields)
    resources: dict[str, dict[str, Any]] = {}
    addresses: dict[str, str] = {}
    for raw, value in fields.items():
        field = raw.decode()
        if is_resource_field(field):
            resources[field] = decode_resource(value)
        elif field.startswith("@"):
            addresses[field[1:]] = value.decode()
    owner = fields.get(b"owner")
    return AppliedRecord(
        owner=owner.decode() if owner else None,
        format=found,
        generation=int(fields.get(b"generation", 0)),
        epoch=fields.get(b"epoch", b"").decode(),
        resources=resources,
        unfinished=None if intent is None else intent.decode(),
        addresses=addresses,
        fingerprint=fields.get(b"fingerprint", b"").decode(),
    )


def _refuse_foreign_record(text: str, key: str) -> BrokerRefusedError | None:
    if reply_code(text) != "WRONGTYPE":
        return None
    return BrokerRefusedError(
        f"key {key}, or the intent beside it, holds something that is not a topology record",
        hint="rename or delete that key, or choose another `broker.namespace`",
    )


def _check_format(fields: dict[bytes, bytes]) -> int:
    found = int(fields.get(b"format", RECORD_FORMAT))
    if found > RECORD_FORMAT:
        raise BrokerRefusedError(
            f"the server's topology record has format {found}; this version reads up to {RECORD_FORMAT}",
            hint="upgrade leanmq-topology here to the version that applied it",
        )
    return found


def _read_fields(reply: Any) -> dict[str, Any]:
    fields = ((raw.decode(), value) for raw, value in zip(reply[::2], reply[1::2], strict=True))
    return {
        field: decode_resource(value) if is_resource_field(field) else value.decode()
        for field, value in fields
    }


def _read_states(names: Sequence[str], reply: Any) -> list[QueueState]:
    now_ms = reply[0]
    return [_read_state(name, row, now_ms) for name, row in zip(names, reply[1:], strict=True)]


def _read_state(name: str, row: list[Any], now_ms: int) -> QueueState:
    damage, wrong, entries, pending, consumers, oldest, delayed, parked, dead, kept, state, *counters = row
    found = Damage(damage.decode()) if damage else None
    return QueueState(
        name=name,
        ready=max(entries - pending, 0),
        in_flight=pending,
        delayed=delayed,
        parked=parked,
        dead=dead,
        kept=kept,
        oldest_age_seconds=_age_seconds(oldest, now_ms),
        consumers=consumers,
        state=state.decode() or "active",
        exists=found is None,
        problem=None if found is None else wrong.decode() or _LOST[found],
        counters={field: int(count or 0) for field, count in zip(COUNTERS, counters, strict=False)},
        damage=found,
    )


def _age_seconds(entry_id: bytes, now_ms: int) -> float | None:
    """An entry's id begins with the server's time at which it was added."""
    if not entry_id:
        return None
    return max(now_ms - int(entry_id.partition(b"-")[0]), 0) / 1000

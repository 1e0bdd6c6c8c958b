"""Receiving, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, cast

from msgspec import structs

from leanmq_topology.brokers.protocol import Part
from leanmq_topology.brokers.redis.calls import Call, Word, load_script, pack_words
from leanmq_topology.brokers.redis.failures import reply_code, unwrap_reply
from leanmq_topology.brokers.redis.keys import GROUP, NOBODY, SUSPECTS, Keys
from leanmq_topology.errors import LeanMQError, TopologyNotAppliedError
from leanmq_topology.messages.codec import UndecodableError, decode_each, decode_fields, encode_failure
from leanmq_topology.messages.envelope import Delivered, Envelope, Undecodable
from leanmq_topology.messages.outcome import CRASHED, EXPIRED, LAPSED

MOST_OWN: Final = 1_000
"""Of its own pending entries, which a call looks at: 2.7 ms of the server's time where 10,000 are known."""

Received = list[Delivered | Undecodable]


def fetch(keys: Keys, queues: Sequence[str], consumer: str, *, count: int, block_ms: int) -> Call[Received]:
    """A bare XREADGROUP: the one operation that may wait on the server, which no script can.

    What asks one queue and does not wait is made and packed once: who asks like that does so again and again.
    """
    if block_ms or len(queues) != 1:
        return _make_fetch(keys, queues, consumer, count, block_ms)
    return keys.remember(
        (fetch, queues[0], consumer, count), lambda: _make_lone_fetch(keys, queues, consumer, count)
    )


def _make_lone_fetch(keys: Keys, queues: Sequence[str], consumer: str, count: int) -> Call[Received]:
    call = _make_fetch(keys, tuple(queues), consumer, count, 0)
    return structs.replace(call, packed=pack_words(call.words()))


def _make_fetch(
    keys: Keys, queues: Sequence[str], consumer: str, count: int, block_ms: int
) -> Call[Received]:
    names = {_name_stream(keys, name): name for name in queues}
    block: tuple[Word, ...] = ("BLOCK", block_ms) if block_ms else ()
    return Call(
        "fetch",
        "XREADGROUP",
        (),
        ("GROUP", GROUP, consumer, "COUNT", count, *block, "STREAMS", *names, *(">" for _ in names)),
        lambda reply: _read_streams(names, reply),
        block_ms=block_ms,
        read_error=not_applied(keys, queues),
        if_missing=lambda: locate(keys, queues),
    )


def _name_stream(keys: Keys, queue: str) -> bytes:
    """Remembered for each queue: a worker asks for ever other sets of many, and each would be kept."""
    return keys.remember((_name_stream, queue), lambda: keys.queue(queue).encode())


def locate(keys: Keys, queues: Sequence[str]) -> Call[Received]:
    """Nothing, once it is known where these queues lie; raises `TopologyNotAppliedError` if one is gone.

    All of them may be there by now, and lie where others of this link have heard: then they are read anew.
    """

    def read(reply: Any) -> Received:
        gone = [f"queues.{name}" for name, found in zip(queues, reply, strict=True) if not found]
        if gone:
            raise TopologyNotAppliedError(gone, namespace=keys.namespace)
        return []

    places = tuple(key for name in queues for key in (keys.queue(name), keys.meta(name)))
    return Call("locate", load_script("locate"), places, (GROUP,), read)


def read_ends(keys: Keys, queues: Sequence[str], *, dead: bool = False) -> Call[Mapping[str, str]]:
    """The last id of each stream."""
    return Call(
        "read_ends",
        load_script("read_ends"),
        (*map(keys.dead if dead else keys.queue, queues), *map(keys.meta, queues)),
        (),
        lambda reply: dict(zip(queues, (end.decode() for end in reply), strict=True)),
    )


def await_entries(keys: Keys, after: Mapping[str, str], block_ms: int) -> Call[bool]:
    """A bare XREAD, of one entry a queue at most."""
    return Call(
        "await_entries",
        "XREAD",
        (),
        ("COUNT", 1, "BLOCK", block_ms, "STREAMS", *map(keys.queue, after), *after.values()),
        bool,
        block_ms=block_ms,
    )


def end_fetch(connection_id: int) -> Call[bool]:
    """CLIENT UNBLOCK: the waiting read answers with nothing, at once (0.4 ms measured)."""
    return Call("end_fetch", "CLIENT", (), ("UNBLOCK", connection_id, "TIMEOUT"), bool)


def fetch_own(
    keys: Keys, queue: str, consumer: str, *, cursor: str, known: Sequence[str]
) -> Call[tuple[str, Received]]:
    """What the server says this consumer holds and the consumer does not know of, from `cursor` on."""
    return Call(
        "fetch_own",
        load_script("fetch_own"),
        (keys.queue(queue), keys.meta(queue)),
        (GROUP, consumer, cursor, MOST_OWN, *known),
        lambda reply: (reply[0].decode(), [read_entry(queue, *row) for row in reply[1]]),
        read_error=not_applied(keys, [queue]),
    )


def claim(
    keys: Keys, queue: str, consumer: str, *, cursor: str, count: int, held: Sequence[str], part: Part
) -> Call[tuple[str, Received]]:
    """Take over what lapsed, from `cursor` on; `0-0` starts from the front."""

    def read(reply: Any) -> tuple[str, Received]:
        if reply is None:
            raise TopologyNotAppliedError([f"queues.{queue}"], namespace=keys.namespace)
        return reply[0].decode(), [read_entry(queue, *row) for row in reply[1]]

    failures = map(encode_failure, (LAPSED, CRASHED, EXPIRED))
    return Call(
        "claim",
        load_script("claim"),
        keys.dead_letter_places(queue),
        (GROUP, consumer, cursor, count, queue, NOBODY, *failures, SUSPECTS, part, *held),
        read,
        read_error=not_applied(keys, [queue]),
    )


def not_applied(keys: Keys, queues: Sequence[str]) -> Callable[[str], LeanMQError | None]:
    """Reads NOGROUP: a queue or its group is missing. Names the one at fault where the server does."""

    def read(text: str) -> LeanMQError | None:
        if reply_code(text) != "NOGROUP":
            return None
        said = unwrap_reply(text)
        missing = [name for name in queues if f"'{keys.queue(name)}'" in said] or list(queues)
        return TopologyNotAppliedError([f"queues.{name}" for name in missing], namespace=keys.namespace)

    return read


def _read_streams(names: dict[bytes, str], reply: Any) -> Received:
    """No answer, or one without entries (a purge under a blocked reader), is simply nothing."""
    received: Received = []
    for key, entries in reply or ():
        received += _read_fresh(names[key], entries)
    return received


def _read_fresh(queue: str, entries: Sequence[tuple[bytes, list[bytes] | None]]) -> Received:
    """Entries handed out for the first time, as `read_entry` reads each: of a backlog, for half of it."""
    if len(entries) == 1:
        return [read_entry(queue, entries[0][0], 1, entries[0][1])]  # for one it takes more
    ids = [entry[0].decode() for entry in entries]
    envelopes = decode_each([entry[1] or () for entry in entries])
    if set(map(type, envelopes)) == {Envelope}:
        return list(map(Delivered, repeat(queue), ids, cast(list[Envelope], envelopes)))
    return [
        Undecodable(queue, entry_id, str(envelope))
        if isinstance(envelope, UndecodableError)
        else Delivered(queue, entry_id, envelope)
        for entry_id, envelope in zip(ids, envelopes, strict=True)
    ]


def read_entry(queue: str, entry_id: bytes, count: int, flat: list[bytes] | None) -> Delivered | Undecodable:
    """An entry as a script answers it; without fields if somebody deleted it."""
    try:
        return Delivered(queue, entry_id.decode(), decode_fields(flat or ()), count)
    except UndecodableError as failure:
        return Undecodable(queue, entry_id.decode(), str(failure), count)

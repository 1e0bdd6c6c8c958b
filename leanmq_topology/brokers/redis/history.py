"""The history of a namespace, as values: which revisions were applied, by whom, and what they changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from leanmq_topology.brokers.redis.calls import Call
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.errors import BrokerError
from leanmq_topology.plan.revision import PastRevision, Revision

MOST_REVISIONS: Final = 1000
"""About so many are kept, the oldest forgotten first: 4 MB at most."""
MOST_NAMED: Final = 50
"""Resources that a revision remembers by name; of all it remembers how many there were."""


class _Changes(msgspec.Struct, omit_defaults=True):
    """The field `changes`."""

    summary: dict[str, int]
    named: dict[str, str]
    completes: bool = False


def encode_changes(revision: Revision, done: Collection[str]) -> bytes:
    """What the history keeps of a revision that changed the resources at these addresses."""
    actions = {address: revision.actions[address] for address in done if address in revision.actions}
    named = dict(list(actions.items())[:MOST_NAMED])
    return msgspec.json.encode(_Changes(dict(Counter(actions.values())), named, revision.completes))


def read_history(keys: Keys, *, count: int) -> Call[list[PastRevision]]:
    """The latest `count`, newest first."""
    if not 0 < count <= MOST_REVISIONS:
        raise ValueError(f"a call reads 1 to {MOST_REVISIONS} revisions, not {count}")

    def read(reply: Any) -> list[PastRevision]:
        return [_read_entry(keys, entry_id, flat) for entry_id, flat in reply]

    return Call("read_history", "XREVRANGE", (keys.history,), ("+", "-", "COUNT", count), read)


def _read_entry(keys: Keys, entry_id: bytes, flat: list[bytes]) -> PastRevision:
    try:
        return _read_revision(dict(zip(flat[::2], flat[1::2], strict=True)))
    except (KeyError, ValueError) as failure:
        entry = entry_id.decode()
        raise BrokerError(
            f"entry {entry} of {keys.history} is not a revision as this version writes it",
            hint=f"another program may share the namespace; XDEL {keys.history} {entry} removes it",
        ) from failure


def _read_revision(fields: Mapping[bytes, bytes]) -> PastRevision:
    changes = msgspec.json.decode(fields[b"changes"], type=_Changes)
    return PastRevision(
        generation=int(fields[b"generation"]),
        by=fields[b"by"].decode(errors="replace"),
        at_ms=int(fields[b"at"]),
        commit=fields[b"commit"].decode() or None,
        fingerprint=fields[b"fingerprint"].decode(),
        summary=changes.summary,
        changes=changes.named,
        completes=changes.completes,
    )

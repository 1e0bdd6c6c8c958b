"""The envelope: one message as it lies in a queue, and as it is handed out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A message without its place. `data` is encoded JSON and is never looked into by the broker.

    Like the other structs here it is made for every message: a frozen dataclass costs eight times as much.
    """

    id: str
    """Stable across retries, dead-lettering and replay."""
    type: str
    data: bytes
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    attempt: int = 0
    """Settled failures so far: 0 for a message that never failed."""
    expires_ms: int | None = None
    """Absolute, by the server's clock; None means it never expires."""


class Once(msgspec.Struct, frozen=True, gc=False):
    """Store one message of this identity within the window; later ones are duplicates of it."""

    identity: bytes
    window_ms: int
    queue: str | None = None
    """Among what this queue gets under any name; None: among all that is sent to the address."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """One send: the address the sender named, the copies routing made of it, and how they are to be kept."""

    target: str
    digest: str
    """Of the address as this client knows it; a server that knows another answers `Stale`."""
    queues: tuple[str, ...]
    """One durable copy each. Empty: no target matched, the event is counted as unrouted."""
    envelope: Envelope
    ttl_ms: int | None = None
    """The send's own; the shorter of it and the queue's wins."""
    delay_ms: int | None = None
    """The send's own; None means the queue's."""
    once: tuple[Once, ...] = ()
    """What makes it a duplicate; empty: it never is one."""
    plain: bool = False
    """As far as the sender knows no queue of it limits or delays what it gets; the server looks again."""


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """One delivery handed to a consumer: it holds a lease until it is settled or the lease lapses."""

    queue: str
    entry_id: str
    """The broker's own id of the entry; the stable id is `envelope.id`."""
    envelope: Envelope
    delivery_count: int = 1
    """Hand-outs of this entry, this one included."""

    @property
    def attempt(self) -> int:
        """1 for the first run; settled failures and redeliveries both count."""
        return self.envelope.attempt + self.delivery_count

    @property
    def redelivered(self) -> bool:
        return self.delivery_count > 1


class Undecodable(msgspec.Struct, frozen=True, gc=False):
    """An entry that is not ours to read: fields missing or mangled. It is dead-lettered as it is."""

    queue: str
    entry_id: str
    reason: str
    delivery_count: int = 1

"""The desired state: frozen values, references by name, no back-pointers.

Every duration is in milliseconds, every size in bytes; the unit is in the name. A value is complete: defaults
are filled in by `builder`, so two equal topologies compare equal however they were written. Where each value
stood in a file is not part of it (`document` knows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from msgspec import Struct, field

FORMAT = 1
"""The version of the topology language this package reads."""

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


class Compatibility(StrEnum):
    NONE = "none"
    BACKWARD = "backward"
    FORWARD = "forward"
    FULL = "full"


class OnExpire(StrEnum):
    DEAD_LETTER = "dead_letter"
    DISCARD = "discard"


class Overflow(StrEnum):
    REJECT = "reject"
    DROP_OLDEST = "drop_oldest"
    DEAD_LETTER = "dead_letter"


class OnRemove(StrEnum):
    RETAIN = "retain"
    DRAIN = "drain"
    DELETE = "delete"


class OnFalse(StrEnum):
    DEAD_LETTER = "dead_letter"
    RETRY = "retry"
    ACK = "ack"


class Backoff(StrEnum):
    EXPONENTIAL = "exponential"
    FIXED = "fixed"


class Jitter(StrEnum):
    FULL = "full"
    NONE = "none"


class MessageType(Struct, frozen=True, kw_only=True):
    """A declared message: its schema is self-contained (references to other files are bundled in)."""

    name: str
    version: int = 1
    schema: dict[str, Any] | bool = True
    compatibility: Compatibility = Compatibility.BACKWARD
    examples: tuple[Any, ...] = ()


class Retry(Struct, frozen=True, kw_only=True):
    """How long to wait before the next delivery. `steps_ms`, where given, replaces the formula."""

    backoff: Backoff = Backoff.EXPONENTIAL
    delay_ms: int = SECOND_MS
    max_delay_ms: int = 5 * MINUTE_MS
    jitter: Jitter = Jitter.FULL
    steps_ms: tuple[int, ...] = ()
    never: tuple[str, ...] = ()
    """Names of exception classes that are dead-lettered at once."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    ttl_ms: int | None = None
    max_length: int | None = None
    alert_at: int = 1


class Deduplication(Struct, frozen=True, kw_only=True):
    window_ms: int
    key: str | None = None
    """JSON Pointer into the data; None means the message id."""


class KeepAcked(Struct, frozen=True, kw_only=True):
    """Acknowledged messages are kept for a time or up to a count; exactly one is set."""

    duration_ms: int | None = None
    count: int | None = None


class Lifecycle(Struct, frozen=True, kw_only=True):
    prevent_delete: bool = False
    on_remove: OnRemove = OnRemove.DELETE


class Queue(Struct, frozen=True, kw_only=True):
    """A queue pair: the main queue and its dead-letter queue."""

    name: str
    accepts: tuple[str, ...] = ()
    """Message types; empty means any JSON object."""
    ttl_ms: int | None = None
    on_expire: OnExpire = OnExpire.DEAD_LETTER
    delay_ms: int = 0
    max_deliveries: int = 5
    max_crashes: int = 3
    retry: Retry = field(default_factory=Retry)
    visibility_timeout_ms: int = 30 * SECOND_MS
    max_length: int | None = None
    overflow: Overflow = Overflow.REJECT
    keep_acked: KeepAcked | None = None
    deduplication: Deduplication | None = None
    max_message_size: int = 1024 * 1024
    dead_letter: DeadLetter = field(default_factory=DeadLetter)
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    durability: str | None = None
    """None means the broker's."""


class Target(Struct, frozen=True, kw_only=True):
    """One subscriber of a route: a queue, and what of the route's messages it gets."""

    queue: str
    match: dict[str, Any] | None = None
    topics: tuple[str, ...] = ()


class FanoutRoute(Struct, frozen=True, kw_only=True):
    name: str
    accepts: tuple[str, ...] = ()
    to: tuple[Target, ...] = ()
    """In the order of the queue names."""


class TopicRoute(Struct, frozen=True, kw_only=True):
    name: str
    accepts: tuple[str, ...] = ()
    to: tuple[Target, ...] = ()


class RequestRoute(Struct, frozen=True, kw_only=True):
    name: str
    request: str
    reply: str
    queue: str
    error: str | None = None
    timeout_ms: int = 30 * SECOND_MS


class EphemeralRoute(Struct, frozen=True, kw_only=True):
    name: str
    accepts: tuple[str, ...] = ()


Route = FanoutRoute | TopicRoute | RequestRoute | EphemeralRoute

ROUTE_TYPES: dict[str, type[FanoutRoute | TopicRoute | RequestRoute | EphemeralRoute]] = {
    "fanout": FanoutRoute,
    "topic": TopicRoute,
    "request": RequestRoute,
    "ephemeral": EphemeralRoute,
}


class Batch(Struct, frozen=True, kw_only=True):
    size: int
    wait_ms: int = 0


class Handler(Struct, frozen=True, kw_only=True):
    name: str
    queue: str
    call: str
    """`package.module:function`."""
    concurrency: int = 4
    prefetch: int | None = None
    """None is `auto`."""
    timeout_ms: int = 10 * MINUTE_MS
    on_false: OnFalse = OnFalse.DEAD_LETTER
    batch: Batch | None = None
    then: str | None = None


class BrokerSettings(Struct, frozen=True, kw_only=True):
    url: str | None = None
    """None means the file names none; the environment or `embedded:` decides."""
    namespace: str
    durability: str = "memory"

    def __repr__(self) -> str:
        """Without the password: a topology stands in logs and tracebacks of those who load it."""
        from leanmq_topology.topology.masking import mask_url

        url = self.url and mask_url(self.url)
        return f"BrokerSettings(url={url!r}, namespace={self.namespace!r}, durability={self.durability!r})"


class Topology(Struct, frozen=True, kw_only=True, eq=False):
    """A whole topology file, checked and complete."""

    name: str
    broker: BrokerSettings
    messages: Mapping[str, MessageType] = field(default_factory=dict)
    queues: Mapping[str, Queue] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    lifespan: str | None = None
    middleware: tuple[str, ...] = ()
    moved: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    """The folder of the first topology file: handlers, schemas and `.leanmq/` are found from here."""
    files: tuple[Path, ...] = ()
    """Every file that was read: topology files, includes, message schemas."""

    def __eq__(self, other: object) -> bool:
        """Whether both declare the same, wherever it was read from."""
        if not isinstance(other, Topology):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _DECLARED)

    __hash__ = None  # type: ignore[assignment]  # it holds mappings

    @classmethod
    def load(
        cls,
        *paths: str | Path,
        environment: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read and check topology files; later ones overlay earlier ones.

        `environment` chooses an entry of `environments:`. `environ` is what `${VAR}` sees, the process
        environment by default. Raises `InvalidTopologyError`, whose `diagnostics` hold every mistake at once.
        """
        from leanmq_topology.topology.loading import load_topology

        return load_topology(paths, environment=environment, environ=environ)  # type: ignore[return-value]

    def target_names(self) -> Sequence[str]:
        """What a sender may name: queues and routes share one space."""
        return [*self.queues, *self.routes]


_DECLARED = tuple(name for name in Topology.__struct_fields__ if name not in {"folder", "files"})

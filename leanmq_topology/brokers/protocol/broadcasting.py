"""Ephemeral channels: what is published reaches whoever listens right then, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from msgspec import Struct

from leanmq_topology.brokers.protocol.operation import AsyncConnection, Operation
from leanmq_topology.brokers.protocol.sending import Stale


class Publication(Struct, frozen=True):
    """One message for one channel."""

    channel: str
    digest: str
    """Of the channel as the sender knows it, empty if nobody declared it; another one answers `Stale`."""
    payload: bytes


LOOK_CALL: Final = b"look"
"""What is heard by who listens for upkeep when something changed that no message announces."""


class Heard(Struct, frozen=True):
    """What came on a channel."""

    channel: str
    pattern: str | None
    """The pattern it was heard by."""
    payload: bytes


Hear = Callable[[Heard], None]


class Broadcaster(Protocol):
    def publish(self, publications: Sequence[Publication]) -> Operation[list[int | Stale]]:
        """Publish these (at most 1,000) in one round trip; for each, how many heard it.

        To be carried out once: repeating it publishes once more.
        """
        ...

    def listen(self, name: str) -> Operation[None]:
        """From now on this connection hears the channel, or every channel that fits (`*` any text, `?` one
        character). For listening connections only."""
        ...

    def stop_listening(self, name: str) -> Operation[None]: ...
    def ring_for_nothing(self) -> Operation[None]:
        """Tell nothing to those who listen so: raises `BrokerRefusedError` where this user may not tell.

        Then delayed messages due within seconds may be up to five late, and a pause is obeyed so much later:
        nobody is told of them.
        """
        ...

    def listen_for_upkeep(self) -> Operation[None]:
        """From now on this connection hears what whoever keeps the namespace up has to know at once.

        Of delayed messages due within five seconds, if sooner than all others of the namespace: the payload
        is when, in ms of the server. Of what was paused, resumed, applied, deleted or handed back:
        `LOOK_CALL`.
        For who rests between two rounds of `maintain` and `survey`; whoever may not listen is refused.
        """
        ...

    def check_line(self) -> Operation[None]:
        """Something to be answered on a listening connection that nothing was heard on for long."""
        ...


class AsyncListener(AsyncConnection, Protocol):
    """A connection that hears; `execute` takes the verbs of a `Broadcaster` but `publish`."""

    async def lost(self) -> None:
        """Raises `BrokerUnavailableError` once the connection broke: from then on nothing is heard."""
        ...


class BlockingListener(Protocol):
    """The same for threads: one hears, any may tell it what to listen to."""

    def reopen(self) -> None:
        """Connect, anew if need be: it hears nothing until told to."""
        ...

    def tell(self, operation: Operation[None]) -> None:
        """Say it; the answer comes among what is heard."""
        ...

    def hear(self, seconds: float) -> Heard | str | None:
        """What comes next: a message, or the name whose `listen` took effect (`""`: another answer).

        None: nothing in time. Raises `BrokerUnavailableError` once the connection broke.
        """
        ...

    def close(self) -> None: ...

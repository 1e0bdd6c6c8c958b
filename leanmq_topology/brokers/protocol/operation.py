"""What an operation is, and the two kinds of connection that carry one out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Operation(Protocol[T_co]):
    """One atomic step on the broker, not yet carried out."""

    @property
    def name(self) -> str:
        """The verb, for logs and errors."""
        ...

    @property
    def read(self) -> Callable[[Any], T_co]:
        """Turns the server's raw answer into the result; pure."""
        ...


class BlockingConnection(Protocol):
    """Carries operations out, one at a time. Not for use by two threads at once."""

    @property
    def connection_id(self) -> int:
        """The server's number for this connection, which `Receiver.end_fetch` takes."""
        ...

    def execute(self, operation: Operation[T]) -> T: ...
    def close(self) -> None: ...


class AsyncConnection(Protocol):
    """Carries operations out in the order they are given; concurrent calls share one connection."""

    @property
    def connection_id(self) -> int:
        """The server's number for this connection, which `Receiver.end_fetch` takes."""
        ...

    async def execute(self, operation: Operation[T]) -> T: ...
    async def close(self) -> None: ...

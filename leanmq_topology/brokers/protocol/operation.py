"""What an operation is, and the two kinds of connection that carry one out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from leanmq_topology.errors import BrokerUnavailableError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Told = Callable[[T | Exception], None]
"""Is told what an operation gave, or what it raised. Must not raise itself."""


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

    def execute(self, operation: Operation[T], within_s: float | None = None) -> T:
        """Raises `BrokerUnavailableError` once that takes longer than `within_s`, connecting included.

        None: as long as the connection allows an answer to take.
        """
        ...

    def close(self) -> None: ...


class PipelinedConnection(BlockingConnection, Protocol):
    """Can also write several operations before it waits for the first answer."""

    def begin(self, operations: Sequence[Operation[Any]], within_s: float) -> None:
        """Write these in one go; `finish` gives their answers, one by one.

        Each is said once: none may be one that another takes the place of after some answers, nor one of
        several commands. Raises `ValueError` for such a one, before anything is written.
        What was begun before and is not finished is given up, and its connection with it, as by `execute`.
        Raises `BrokerUnavailableError` if that takes longer than `within_s`, connecting included.
        """
        ...

    def finish(self, within_s: float) -> Any:
        """The result of the first operation that was begun and is not finished, or the error it met.

        Raises what `execute` does, and also where `execute` would say the operation again: a `BrokerError` if
        the server forgot the script or a queue lies elsewhere. Raises `BrokerUnavailableError` also where
        there is none.
        """
        ...

    @property
    def has_begun(self) -> bool:
        """Whether something was begun that is not finished, and its answer may still come."""
        ...

    def can_finish(self, within_s: float) -> bool:
        """Whether its answer begins to come, or the connection ends, within that time."""
        ...


class AsyncConnection(Protocol):
    """Carries operations out in the order they are given; concurrent calls share one connection."""

    @property
    def connection_id(self) -> int:
        """The server's number for this connection, which `Receiver.end_fetch` takes."""
        ...

    async def execute(self, operation: Operation[T]) -> T: ...
    def begin(self, operation: Operation[T], told: Told[T]) -> None:
        """Carry one out without a task that waits for it: it is written in this very turn of the loop, and
        `told` is called in the turn its answer comes in.

        Each turn that an operation does not wait for is worth some microseconds of its latency.
        """
        ...

    def begin_all(self, begun: Iterable[tuple[Operation[Any], Told[Any]]]) -> None:
        """Begin several, in one write."""
        ...

    async def close(self) -> None: ...


async def carry_out_all(connection: AsyncConnection, operations: Sequence[Operation[Any]]) -> list[Any]:
    """Their answers; where one failed, its error stands in the place of its answer.

    All leave in one write in this very turn of the loop, and none costs a task.
    """
    answers: list[Any] = [None] * len(operations)
    left, over = len(operations), asyncio.get_running_loop().create_future()

    def hear(at: int, answer: Any) -> None:
        nonlocal left
        answers[at] = answer
        left -= 1
        if not left and not over.done():
            over.set_result(None)

    connection.begin_all([(operation, partial(hear, at)) for at, operation in enumerate(operations)])
    if operations:
        await over
    return answers


async def tell(answer: Awaitable[T], told: Told[T]) -> None:
    """Wait for an answer and tell it, for a `begin` that cannot do without a task."""
    result: T | Exception
    try:
        result = await answer
    except asyncio.CancelledError:
        told(BrokerUnavailableError("the client stopped while this was under way", unknown=True))
        raise
    except Exception as failure:
        result = failure
    told(result)

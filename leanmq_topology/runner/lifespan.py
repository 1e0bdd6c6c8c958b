"""What handlers share, opened once per worker before it reads and closed after it drained.

`lifespan: "shop.resources:open"` names an asynchronous context manager. What it yields is handed to handlers
by parameter name: the items of a mapping, or the attributes of an object.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.errors import LifespanError
from leanmq_topology.runner.importing import describe, find_own_span
from leanmq_topology.runner.references import Unfit, find_function, find_object, find_span

logger = logging.getLogger("leanmq.runner")

MISSING: Final = object()


class Lifespan(Struct, frozen=True):
    """A lifespan function, ready to be opened."""

    call: str
    """As the topology names it."""
    make: Callable[[], AbstractAsyncContextManager[Any]]
    names: frozenset[str] | None = None
    """What it yields, where its annotation says so; None where it does not."""


def load_lifespan(call: str, folder: Path) -> Lifespan | Unfit:
    """Import the function and see whether it can be opened, without opening it."""
    found = find_object(call, folder)
    if isinstance(found, Unfit):
        return found
    unfit = _refuse(found)
    if unfit is not None:
        reason, suggestion = unfit
        return Unfit("LMQ322", f"{call!r} cannot be the lifespan: {reason}", suggestion, find_span(found))
    make = contextlib.asynccontextmanager(found) if inspect.isasyncgenfunction(found) else found
    return Lifespan(call, make, _names_yielded(found))


def _refuse(found: Any) -> tuple[str, str] | None:
    decorate = "decorate an `async def` that yields once with @contextlib.asynccontextmanager"
    if not callable(found):
        return f"it is {type(found).__name__}, not a function", decorate
    function = find_function(found)
    if inspect.isgeneratorfunction(function):
        return "it is a blocking context manager", decorate
    if inspect.iscoroutinefunction(function):
        return "it returns instead of yielding, so nothing could be closed", decorate
    if inspect.isclass(function) and not hasattr(function, "__aenter__"):
        return "it is a class without __aenter__", decorate
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return (
            "it takes parameters, and nothing is handed to it",
            "give them defaults, or read settings inside",
        )
    return None


def _names_yielded(found: Any) -> frozenset[str] | None:
    """Of a function that is annotated to yield a dataclass, TypedDict or NamedTuple."""
    try:
        returned = typing.get_type_hints(find_function(found)).get("return")
    except Exception:
        return None  # an annotation that cannot be resolved says nothing, and harms nobody
    if typing.get_origin(returned) not in {AsyncIterator, AsyncGenerator, AbstractAsyncContextManager}:
        return None
    yielded = typing.get_args(returned)[0]
    if dataclasses.is_dataclass(yielded):
        return frozenset(name for name in dir(yielded) if not name.startswith("_")) | {
            field.name for field in dataclasses.fields(yielded)
        }
    if typing.is_typeddict(yielded):
        return frozenset(yielded.__annotations__)
    return None


class Shared(Struct, frozen=True):
    """What a lifespan yielded, by name."""

    yielded: Any = None

    def get(self, name: str) -> Any:
        """`MISSING` if there is nothing of that name."""
        if isinstance(self.yielded, Mapping):
            return self.yielded.get(name, MISSING)
        return MISSING if self.yielded is None else getattr(self.yielded, name, MISSING)

    def pick(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of these names that there are."""
        found = {name: self.get(name) for name in names}
        return {name: value for name, value in found.items() if value is not MISSING}

    def describe(self) -> str:
        """What there is, in words."""
        if isinstance(self.yielded, Mapping):
            return ", ".join(map(str, self.yielded)) or "nothing"
        return "nothing" if self.yielded is None else f"an object of class {type(self.yielded).__name__}"


class OpenLifespan:
    """Holds a lifespan open in a task of its own: what a context manager enters, the same task must leave."""

    def __init__(self, lifespan: Lifespan, folder: Path, ended: Callable[[LifespanError], None]) -> None:
        """`ended` hears of a lifespan that ends by itself while it is still needed."""
        self._lifespan, self._folder, self._ended = lifespan, folder, ended
        self._opened: asyncio.Future[Shared] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, stop: asyncio.Event) -> Shared | None:
        """What it yields; None if `stop` was set before it was there. Raises `LifespanError`."""
        self._task = asyncio.create_task(self._hold_open(), name="lifespan")
        stopping = asyncio.create_task(stop.wait())
        watched: list[asyncio.Future[Any]] = [self._task, self._opened, stopping]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            stopping.cancel()
        if self._opened.done():
            self._task.add_done_callback(self._note_end)
            return self._opened.result()
        if self._task.done():
            raise self._failure("failed to open", self._task)
        self._task.cancel()
        await asyncio.wait([self._task])
        return None

    async def close(self) -> None:
        """Close it; what goes wrong is logged, for the work is done by now."""
        self._closing.set()
        if self._task is None:
            return
        await asyncio.wait([self._task])
        if self._task.cancelled() or self._task.exception() is not None:
            logger.error(
                "%s", self._failure("failed to close", self._task), extra={"event": "lifespan_failed"}
            )

    async def _hold_open(self) -> None:
        manager = self._lifespan.make()
        if not hasattr(manager, "__aenter__"):
            raise TypeError(f"it returned {type(manager).__name__}, no asynchronous context manager")
        async with manager as yielded:
            self._opened.set_result(Shared(yielded))
            await self._closing.wait()

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not self._closing.is_set():
            self._closing.set()
            self._ended(self._failure("ended while it was needed", task))

    def _failure(self, what: str, task: asyncio.Task[None]) -> LifespanError:
        failure = None if task.cancelled() else task.exception()
        if failure is None:
            return LifespanError(f"the lifespan {self._lifespan.call} {what}")
        span = find_own_span(failure.__traceback__, self._folder)
        where = f" ({span.file}:{span.line})" if span else ""
        error = LifespanError(f"the lifespan {self._lifespan.call} {what}: {describe(failure)}{where}")
        error.__cause__ = failure
        return error

"""User middleware: code that stands around every call of a handler, outermost first.

`middleware: ["shop.tracing:Trace"]` names classes. One object of each is made per worker. Its `around` is
awaited around `async def` handlers, its `around_sync` called around `def` handlers; both get the message (of
a batch handler: the list) and `call_next`, which runs what is inside and gives what the handler returned, or
raises what it raised. Where there is none, a message pays nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from leanmq_topology.messages.message import Message
from leanmq_topology.runner.binding import Invoke, Offer
from leanmq_topology.runner.references import Unfit, find_object, find_span

Handled = Message | list[Message]
"""What a handler is called with: a message, or the messages of a batch."""

METHODS = {True: "around", False: "around_sync"}
"""What stands around a handler, by whether that is asynchronous."""


class Middleware(Protocol):
    """Stands around `async def` handlers."""

    async def around(self, message: Any, call_next: Callable[[Any], Awaitable[Any]], /) -> Any:
        """Run the handler with `await call_next(message)`, or do not.

        What this returns or raises stands for what the handler returned or raised.
        """
        ...


class SyncMiddleware(Protocol):
    """Stands around `def` handlers; called in their thread."""

    def around_sync(self, message: Any, call_next: Callable[[Any], Any], /) -> Any:
        """Run the handler with `call_next(message)`, or do not; see `Middleware.around`."""
        ...


def load_middleware(call: str, folder: Path) -> type | Unfit:
    """Import a middleware class and see whether an object of it can be made, without making one."""
    found = find_object(call, folder)
    if isinstance(found, Unfit):
        return found
    problem = _refuse(found)
    if problem is not None:
        reason, suggestion = problem
        return Unfit("LMQ320", f"{call!r} cannot be middleware: {reason}", suggestion, find_span(found))
    return found  # type: ignore[no-any-return]


def _refuse(found: Any) -> tuple[str, str] | None:
    if not inspect.isclass(found):
        return "it is not a class", "name a class with `async def around(self, message, call_next)`"
    around, around_sync = getattr(found, "around", None), getattr(found, "around_sync", None)
    if around is None and around_sync is None:
        return "it has neither around nor around_sync", "write `async def around(self, message, call_next)`"
    if around is not None and not inspect.iscoroutinefunction(inspect.unwrap(around)):
        return "its around is not `async def`", "write `async def around`; for `def` handlers, around_sync"
    if around_sync is not None and inspect.iscoroutinefunction(inspect.unwrap(around_sync)):
        return "its around_sync is `async def`", "write `def around_sync`: it runs in the handler's thread"
    for method in filter(None, (around, around_sync)):
        if not _takes(method, None, None, None):
            return f"its {method.__name__} does not take (self, message, call_next)", "give it these three"
    if not _takes(found):
        return "its __init__ wants arguments, and nothing is handed to it", "give them defaults"
    return None


def _takes(function: Any, *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # written in C, says nothing
        return True
    return True


class _Replaced:
    """What a middleware hands on instead of the message that it got."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message

    @property
    def data(self) -> Any:
        message = self.message
        return [each.data for each in message] if isinstance(message, list) else message.data


def wrap(invoke: Invoke, middleware: Sequence[Any], *, asynchronous: bool) -> Invoke:
    """`invoke` with these around it; itself if there are none."""
    if not middleware:
        return invoke
    layers = [getattr(layer, METHODS[asynchronous]) for layer in reversed(middleware)]

    def wrapped(offer: Offer, client: Any) -> Any:
        original = offer.message

        def innermost(message: Any) -> Any:
            return invoke(offer if message is original else _Replaced(message), client)

        async def innermost_async(message: Any) -> Any:
            return await innermost(message)

        call_next: Callable[[Any], Any] = innermost_async if asynchronous else innermost
        for layer in layers:
            call_next = _link(layer, call_next)
        return call_next(original)

    return wrapped


def _link(layer: Callable[..., Any], inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda message: layer(message, inner)

"""What stands around every handler of a worker: the lifespan that it shares from, and the middleware."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic, closest
from leanmq_topology.errors import InvalidTopologyError, LifespanError
from leanmq_topology.runner.binding import Invoke
from leanmq_topology.runner.importing import describe, find_own_span
from leanmq_topology.runner.lifespan import MISSING, Lifespan, OpenLifespan, Shared, load_lifespan
from leanmq_topology.runner.references import Unfit, find_span
from leanmq_topology.runner.wrapping import METHODS, load_middleware, wrap
from leanmq_topology.topology.model import Topology

if TYPE_CHECKING:
    from leanmq_topology.runner.handlers import LoadedHandler


class Surroundings(Struct, frozen=True):
    """Loaded and checked; nothing is opened or made yet."""

    lifespan: Lifespan | None = None
    middleware: tuple[type, ...] = ()

    def refuse(self, handler: LoadedHandler) -> Iterator[Unfit]:
        """What a handler wants of them and cannot get."""
        known = self.lifespan.names if self.lifespan else None
        if known is not None:
            missing = [name for name in handler.binding.needed if name not in known]
            if missing:
                yield _not_shared(handler, missing, ", ".join(sorted(known)) or "nothing", known)
        colour = handler.binding.asynchronous
        for layer in self.middleware:
            if not hasattr(layer, METHODS[colour]):
                yield _does_not_surround(handler, layer)


def load_surroundings(topology: Topology) -> tuple[Surroundings, list[Diagnostic]]:
    """Import what the topology names, and say what is wrong with it."""
    problems: list[Diagnostic] = []
    lifespan = None
    if topology.lifespan is not None:
        loaded = load_lifespan(topology.lifespan, topology.folder)
        if isinstance(loaded, Unfit):
            problems.append(loaded.at("lifespan"))
        else:
            lifespan = loaded
    layers = []
    for at, call in enumerate(topology.middleware):
        layer = load_middleware(call, topology.folder)
        if isinstance(layer, Unfit):
            problems.append(layer.at(f"middleware[{at}]"))
        else:
            layers.append(layer)
    return Surroundings(lifespan, tuple(layers)), problems


class Environment(Struct, frozen=True):
    """The surroundings of one worker, opened: what handlers are called with and in."""

    shared: Shared
    layers: Sequence[Any]

    def prepare(self, handler: LoadedHandler) -> Invoke:
        """The call of a handler, with what it shares and what stands around it."""
        binding = handler.binding
        values = self.shared.pick(parameter.name for parameter in binding.shared)
        return wrap(binding.prepare(values), self.layers, asynchronous=binding.asynchronous)

    def insist(self, handlers: Sequence[LoadedHandler]) -> None:
        """Raise `InvalidTopologyError` naming each handler that needs what the lifespan did not yield."""
        missing = [
            (handler, [name for name in handler.binding.needed if self.shared.get(name) is MISSING])
            for handler in handlers
        ]
        problems = [
            _not_shared(handler, names, self.shared.describe()).at(f"handlers.{handler.name}.call")
            for handler, names in missing
            if names
        ]
        if problems:
            raise InvalidTopologyError(problems)


async def open_surroundings(
    topology: Topology,
    handlers: Sequence[LoadedHandler],
    resources: AsyncExitStack,
    stop: asyncio.Event,
    ended: Callable[[LifespanError], None],
) -> Environment | None:
    """Open what handlers share, until `resources` are closed; None if `stop` was set meanwhile.

    Raises `LifespanError`, or `InvalidTopologyError` naming each handler that wants what is not there.
    `ended` hears of a lifespan that ends by itself.
    """
    surroundings, problems = load_surroundings(topology)
    if problems:
        raise InvalidTopologyError(problems)
    shared: Shared | None = Shared()
    if surroundings.lifespan is not None:
        lifespan = OpenLifespan(surroundings.lifespan, topology.folder, ended)
        shared = await lifespan.open(stop)
        if shared is not None:
            resources.push_async_callback(lifespan.close)
    if shared is None:
        return None
    environment = Environment(shared, _make_layers(topology, surroundings.middleware))
    environment.insist(handlers)
    return environment


def _make_layers(topology: Topology, classes: Sequence[type]) -> list[Any]:
    """One object of each middleware class; raises for all at once that could not be made."""
    layers, problems = [], []
    for at, kind in enumerate(classes):
        try:
            layers.append(kind())
        except Exception as failure:
            reason = f"{topology.middleware[at]!r} could not be made: {describe(failure)}"
            span = find_own_span(failure.__traceback__, topology.folder)
            problems.append(Unfit("LMQ320", reason, None, span).at(f"middleware[{at}]"))
    if problems:
        raise InvalidTopologyError(problems)
    return layers


def _not_shared(
    handler: LoadedHandler, names: Sequence[str], there_is: str, known: frozenset[str] = frozenset()
) -> Unfit:
    what = ", ".join(map(repr, names))
    near = closest(names[0], [*known, "data", "message", "mq"])
    return Unfit(
        "LMQ323",
        f"{handler.declared.call!r} wants {what}, and the lifespan yields {there_is}",
        f"did you mean {near!r}?"
        if near
        else f"let the lifespan yield {what}, or give the parameter a default",
        find_span(handler.binding.function),
    )


def _does_not_surround(handler: LoadedHandler, layer: type) -> Unfit:
    kind, method = ("async def", "around") if handler.binding.asynchronous else ("def", "around_sync")
    return Unfit(
        "LMQ321",
        f"{handler.declared.call!r} is `{kind}`, and middleware {layer.__name__} has no {method}",
        f"add `{'async ' if method == 'around' else ''}def {method}(self, message, call_next)` to it",
        find_span(handler.binding.function),
    )

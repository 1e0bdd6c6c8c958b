"""What a handler takes, worked out once when it is loaded: a message then pays for a call and nothing else.

A handler is a function (`def` or `async def`), a bound method, a `functools.partial` or an object with
`__call__`. It names what it wants: `data`, `message`, `mq`, and what the topology's lifespan yields.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Protocol

from msgspec import Struct

from leanmq_topology.diagnostics import closest

INJECTED = ("data", "message", "mq")
"""What a handler may ask for by parameter name: the message's data, the whole message, the client."""


class Offer(Protocol):
    """What one message has to give to a handler."""

    @property
    def data(self) -> Any: ...
    @property
    def message(self) -> Any: ...


Invoke = Callable[[Offer, Any], Any]
"""Calls a handler with a message and the client; an async handler's answer is still to be awaited."""


class Binding(Struct, frozen=True):
    """How to call one handler."""

    function: Callable[..., Any]
    asynchronous: bool
    taken: tuple[Parameter, ...]
    """The parameters that a message fills: those of `INJECTED`."""
    shared: tuple[Parameter, ...] = ()
    """The others, which the lifespan may fill; those without a default it has to."""

    @property
    def names(self) -> tuple[str, ...]:
        """Which of `INJECTED` it takes."""
        return tuple(parameter.name for parameter in self.taken)

    @property
    def needed(self) -> tuple[str, ...]:
        """What it cannot do without from the lifespan."""
        return tuple(each.name for each in self.shared if each.default is Parameter.empty)

    @property
    def wants_client(self) -> bool:
        return "mq" in self.names

    @property
    def invoke(self) -> Invoke:
        """The call for a handler that shares nothing."""
        return self.prepare({})

    def prepare(self, values: Mapping[str, Any]) -> Invoke:
        """The call, with what the lifespan yielded for its shared parameters by name."""
        by_place = {each.name for each in self.shared if each.kind is Parameter.POSITIONAL_ONLY}
        fixed = {name: value for name, value in values.items() if name not in by_place}
        function = functools.partial(self.function, **fixed) if fixed else self.function
        if not by_place & values.keys():
            return _make_invoke(function, self.taken, {})
        placed = [each for each in self.shared if each.name in values and each.name in by_place]
        order = {name: at for at, name in enumerate(inspect.signature(self.function).parameters)}
        taken = sorted([*self.taken, *placed], key=lambda parameter: order[parameter.name])
        return _make_invoke(function, taken, {each.name: values[each.name] for each in placed})


class Unusable(Struct, frozen=True):
    """Why something cannot be a handler."""

    code: str
    reason: str
    suggestion: str


def bind(found: Any, *, shares: bool = False) -> Binding | Unusable:
    """Decide how `found` is called, or say why it cannot be. `shares`: the topology has a lifespan."""
    problem = _refuse_kind(found)
    if problem is not None:
        return problem
    parameters = _parameters(found)
    if parameters is None:
        return Unusable("LMQ319", "its parameters cannot be seen", "wrap it in a `def` of your own")
    problem = _refuse_parameters(parameters, shares=shares)
    if problem is not None:
        return problem
    taken = tuple(parameter for parameter in parameters if parameter.name in INJECTED)
    shared = tuple(each for each in parameters if each.name not in INJECTED and each.kind not in _OPEN_ENDED)
    return Binding(found, is_asynchronous(found), taken, shared if shares else ())


_OPEN_ENDED = frozenset({Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD})


def is_asynchronous(found: Any) -> bool:
    """Whether calling it gives something to await, seen through partials, decorators and `__call__`."""
    function = inspect.unwrap(_unpartial(found))
    if inspect.iscoroutinefunction(function):
        return True
    return not inspect.isroutine(function) and inspect.iscoroutinefunction(type(function).__call__)


def _unpartial(found: Any) -> Any:
    while isinstance(found, functools.partial):
        found = found.func
    return found


def _refuse_kind(found: Any) -> Unusable | None:
    function = _unpartial(found)
    if inspect.isclass(function):
        return Unusable("LMQ318", "it is a class", "name a function, or an object made of the class")
    if not callable(function):
        return Unusable(
            "LMQ318", f"it is {_article(type(function).__name__)}, not a function", "name a function"
        )
    for layer in (function, inspect.unwrap(function), type(function).__call__):
        if inspect.isgeneratorfunction(layer) or inspect.isasyncgenfunction(layer):
            advice = "return instead of yielding; what it yields would never be asked for"
            return Unusable("LMQ318", "it is a generator", advice)
    return None


def _article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"


def _parameters(found: Any) -> list[Parameter] | None:
    try:
        return list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):  # some functions written in C do not say what they take
        return None


def _refuse_parameters(parameters: list[Parameter], *, shares: bool) -> Unusable | None:
    named = [parameter for parameter in parameters if parameter.kind not in _OPEN_ENDED]
    unknown = [
        parameter.name
        for parameter in named
        if parameter.name not in INJECTED and parameter.default is Parameter.empty
    ]
    if unknown and not shares:
        return _unknown_parameters(unknown)
    if any(parameter.name in INJECTED for parameter in named):
        return None
    if len(named) < len(parameters):
        advice = "name what it takes, or put @functools.wraps on its decorator"
        return Unusable("LMQ319", "it takes *args or **kwargs, so what it wants cannot be seen", advice)
    return Unusable("LMQ319", "it takes no message", "write `def handler(data)`")


def _unknown_parameters(unknown: list[str]) -> Unusable:
    names = ", ".join(repr(name) for name in unknown)
    near = closest(unknown[0], INJECTED)
    advice = (
        f"did you mean {near!r}?" if near else "a handler takes `data`, and if it wants `message` and `mq`"
    )
    return Unusable("LMQ319", f"nothing fits its parameter{'s' if len(unknown) > 1 else ''} {names}", advice)


def _make_invoke(found: Callable[..., Any], taken: Sequence[Parameter], fixed: Mapping[str, Any]) -> Invoke:
    """The cheapest call that serves these parameters."""
    if [(each.name, each.kind is Parameter.KEYWORD_ONLY) for each in taken] == [("data", False)]:
        first = next(iter(inspect.signature(found).parameters.values()), None)
        if first is not None and first.name == "data":
            return lambda offer, client: found(offer.data)
    by_place = [each.name for each in taken if each.kind is Parameter.POSITIONAL_ONLY]
    by_name = [each.name for each in taken if each.kind is not Parameter.POSITIONAL_ONLY]

    def take(name: str, offer: Offer, client: Any) -> Any:
        if name in fixed:
            return fixed[name]
        return client if name == "mq" else getattr(offer, name)

    def invoke(offer: Offer, client: Any) -> Any:
        placed = [take(name, offer, client) for name in by_place]
        return found(*placed, **{name: take(name, offer, client) for name in by_name})

    return invoke

"""From `call: "shop.billing:charge"` to something that can be called: found, imported, checked, bound.

Every problem of every handler is reported at once, with file and line, before a single message is read.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from leanmq_topology.diagnostics import Diagnostic, Span, closest
from leanmq_topology.runner.binding import Binding, Unusable, bind
from leanmq_topology.runner.importing import ImportProblem, import_module, span_at
from leanmq_topology.topology.call_reference import Reference, Refused, read_reference
from leanmq_topology.topology.model import Handler, Topology


@dataclass(frozen=True, slots=True)
class LoadedHandler:
    """A handler of the topology with its function, ready to be called."""

    declared: Handler
    binding: Binding
    place: str
    """`file:line` of the function, for logs."""

    @property
    def name(self) -> str:
        return self.declared.name


def check_handlers(topology: Topology) -> list[Diagnostic]:
    """Import every handler and say what is wrong with it; empty when all can run."""
    return load_handlers(topology, topology.handlers)[1]


def load_handlers(
    topology: Topology, names: Iterable[str]
) -> tuple[dict[str, LoadedHandler], list[Diagnostic]]:
    """The named handlers by name, and what keeps the others from being loaded."""
    loaded: dict[str, LoadedHandler] = {}
    problems: list[Diagnostic] = []
    for name in names:
        found = _load(topology.handlers[name], topology.folder)
        if isinstance(found, LoadedHandler):
            loaded[name] = found
        else:
            problems.append(found)
    return loaded, problems


def _load(handler: Handler, folder: Path) -> LoadedHandler | Diagnostic:
    reference = read_reference(handler.call)
    if isinstance(reference, Refused):
        return _problem(handler, reference.code, reference.reason, reference.suggestion)
    module = import_module(reference.module, folder)
    if isinstance(module, ImportProblem):
        return _problem(handler, module.code, module.reason, module.suggestion, module.span)
    try:
        function = functools.reduce(getattr, reference.attribute.split("."), module)
    except AttributeError:
        return _missing(handler, reference, module)
    binding = bind(function)
    span = _span(function)
    if isinstance(binding, Unusable):
        reason = f"{str(reference)!r} cannot be a handler: {binding.reason}"
        return _problem(handler, binding.code, reason, binding.suggestion, span)
    return LoadedHandler(handler, binding, f"{span.file}:{span.line}" if span else str(reference))


def _missing(handler: Handler, reference: Reference, module: ModuleType) -> Diagnostic:
    public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    near = closest(reference.attribute, public)
    reason = f"module {reference.module!r} has no {reference.attribute!r}"
    suggestion = f"did you mean {near!r}?" if near else f"write it in {module.__file__ or reference.module}"
    return _problem(handler, "LMQ317", reason, suggestion)


def _problem(
    handler: Handler, code: str, message: str, suggestion: str | None, span: Span | None = None
) -> Diagnostic:
    return Diagnostic(code, message, f"handlers.{handler.name}.call", suggestion, span=span)


def _span(found: Any) -> Span | None:
    """Where a callable is defined, as far as Python knows."""
    while isinstance(found, functools.partial):
        found = found.func
    function = inspect.unwrap(found) if callable(found) else found
    if not inspect.isroutine(function) and not inspect.isclass(function) and callable(function):
        function = type(function).__call__
    code = getattr(function, "__code__", None)
    return span_at(code.co_filename, code.co_firstlineno) if code is not None else None

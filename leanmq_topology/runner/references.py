"""From `shop.billing:charge` to the object of that name: found, imported, looked up."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic, Span, closest
from leanmq_topology.runner.importing import ImportProblem, import_module, span_at
from leanmq_topology.topology.call_reference import Reference, Refused, read_reference


class Unfit(Struct, frozen=True):
    """Why what a reference names cannot be used."""

    code: str
    reason: str
    suggestion: str | None = None
    span: Span | None = None

    def at(self, address: str) -> Diagnostic:
        """As a finding about the key of the file at this address."""
        return Diagnostic(self.code, self.reason, address, self.suggestion, span=self.span)


def find_object(call: str, folder: Path) -> Any | Unfit:
    """What `module:attribute` names, the module looked for in `folder` first; imports it."""
    reference = read_reference(call)
    if isinstance(reference, Refused):
        return Unfit(reference.code, reference.reason, reference.suggestion)
    module = import_module(reference.module, folder)
    if isinstance(module, ImportProblem):
        return Unfit(module.code, module.reason, module.suggestion, module.span)
    try:
        return functools.reduce(getattr, reference.attribute.split("."), module)
    except AttributeError:
        return _missing(reference, module)


def _missing(reference: Reference, module: ModuleType) -> Unfit:
    public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    near = closest(reference.attribute, public)
    reason = f"module {reference.module!r} has no {reference.attribute!r}"
    suggestion = f"did you mean {near!r}?" if near else f"write it in {module.__file__ or reference.module}"
    return Unfit("LMQ317", reason, suggestion)


def find_span(found: Any) -> Span | None:
    """Where a callable is defined, as far as Python knows."""
    function = find_function(found)
    code = getattr(function, "__code__", None)
    if code is not None:
        return span_at(code.co_filename, code.co_firstlineno)
    try:
        file, (_, line) = inspect.getsourcefile(function), inspect.getsourcelines(function)
    except (TypeError, OSError):
        return None
    return span_at(file, line) if file else None


def find_function(found: Any) -> Any:
    """The function that really runs: below partials, decorators that say what they wrap, and `__call__`."""
    while isinstance(found, functools.partial):
        found = found.func
    function = inspect.unwrap(found) if callable(found) else found
    if not inspect.isroutine(function) and not inspect.isclass(function) and callable(function):
        function = inspect.unwrap(type(function).__call__)
    return function

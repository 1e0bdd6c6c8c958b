"""From `call: "shop.billing:charge"` to something that can be called: found, imported, checked, bound.

Every problem of every handler is reported at once, with file and line, before a single message is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.runner.binding import Binding, Unusable, bind
from leanmq_topology.runner.data_classes import Conversion
from leanmq_topology.runner.parameters import check_annotations
from leanmq_topology.runner.references import Unfit, find_object, find_span
from leanmq_topology.runner.surroundings import Surroundings, load_surroundings
from leanmq_topology.topology.model import Handler, Topology


class LoadedHandler(Struct, frozen=True):
    """A handler of the topology with its function, ready to be called."""

    declared: Handler
    binding: Binding
    place: str
    """`file:line` of the function, for logs."""
    conversion: Conversion | None = None
    """How its data becomes the class that it is annotated with, if it is."""

    @property
    def name(self) -> str:
        return self.declared.name


def check_handlers(topology: Topology) -> list[Diagnostic]:
    """Import every handler and say what is wrong with it; empty when all can run."""
    return load_handlers(topology, topology.handlers)[1]


def load_handlers(
    topology: Topology, names: Iterable[str]
) -> tuple[dict[str, LoadedHandler], list[Diagnostic]]:
    """The named handlers by name, and what keeps them from being run.

    What stands around all of them, lifespan and middleware, is loaded and checked too.
    """
    surroundings, problems = load_surroundings(topology)
    loaded: dict[str, LoadedHandler] = {}
    for name in names:
        found = _load(topology.handlers[name], topology, surroundings)
        if isinstance(found, LoadedHandler):
            loaded[name] = found
        else:
            problems += [unfit.at(f"handlers.{name}.call") for unfit in found]
    return loaded, [_as_typed(problem, topology.folder) for problem in problems]


def _as_typed(found: Diagnostic, folder: Path) -> Diagnostic:
    """Below the topology's folder a place is named as one would type it, like places in the file itself."""
    span, root = found.span, folder.resolve()
    if span is None or not Path(span.file).is_relative_to(root):
        return found
    return replace(found, span=replace(span, file=str(folder / Path(span.file).relative_to(root))))


def _load(handler: Handler, topology: Topology, surroundings: Surroundings) -> LoadedHandler | list[Unfit]:
    function = find_object(handler.call, topology.folder)
    if isinstance(function, Unfit):
        return [function]
    binding = bind(function, shares=topology.lifespan is not None)
    span = find_span(function)
    if isinstance(binding, Unusable):
        reason = f"{handler.call!r} cannot be a handler: {binding.reason}"
        return [Unfit(binding.code, reason, binding.suggestion, span)]
    conversion, misplanned = check_annotations(handler, binding, topology)
    place = f"{span.file}:{span.line}" if span else handler.call
    loaded = LoadedHandler(handler, binding, place, conversion)
    refused = f"{handler.call!r} cannot handle queue {handler.queue!r}: "
    problems = [Unfit(each.code, refused + each.reason, each.suggestion, span) for each in misplanned]
    problems += surroundings.refuse(loaded)
    return problems or loaded

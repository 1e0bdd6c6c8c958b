"""Node tree to plain values: scalars get their type, variables are filled in, `x-` keys go.

What cannot be read is reported and left out, and its path remembered, so that one mistake is not reported a
second time as a missing key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.confinement import OutsideError, resolve_below
from leanmq_topology.document.interpolation import Interpolated, MalformedError, UnsetError, interpolate
from leanmq_topology.document.nodes import MappingNode, Node, ScalarNode, SequenceNode
from leanmq_topology.document.scalars import OutOfRangeError, Scalar, resolve_plain
from leanmq_topology.document.source import read_source

ValuePath = tuple[str | int, ...]

MAX_SECRET_LENGTH = 64 * 1024


class Content(Struct):
    """The values of a tree, and what was learnt while reading them."""

    values: Any = None
    secrets: set[ValuePath] = field(default_factory=set)
    broken: set[ValuePath] = field(default_factory=set)
    """Where a value was left out because it could not be read; the reason is in `found`."""
    found: list[Diagnostic] = field(default_factory=list)


class _BrokenError(Exception):
    """This value cannot be read, and it was said why."""


class ContentReader:
    """Reads the values of one tree.

    `span_of` finds a node's place, `folders_of` the folder of its file and the one its paths stay below.
    Without an `environ` variables are left as they are written. `at` is the path of the tree's root.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None,
        *,
        span_of: Callable[[Node], Span],
        folders_of: Callable[[Node], tuple[Path, Path]],
        at: ValuePath = (),
        keeps_extensions: bool = False,
    ) -> None:
        self._environ = environ
        self._span_of, self._folders_of = span_of, folders_of
        self._content = Content()
        self._path: list[str | int] = list(at)
        self._plain: dict[str, Scalar] = {}
        self._unset: dict[str, list[tuple[Span, ValuePath, str | None]]] = defaultdict(list)
        self._fills_variables = environ is not None
        self._keeps_extensions = keeps_extensions

    def read(self, root: Node) -> Content:
        try:
            self._content.values = self._read(root)
        except _BrokenError:
            self._content.broken.add(())
        self._report_unset()
        return self._content

    def _read(self, node: Node) -> Any:
        if type(node) is ScalarNode:
            return self._read_scalar(node)
        if type(node) is MappingNode:
            return self._read_mapping(node)
        return self._read_sequence(node)  # type: ignore[arg-type]

    def _read_mapping(self, node: MappingNode) -> dict[str, Any]:
        values, path, read = {}, self._path, self._read
        for name, (_, value) in node.entries.items():
            if name.startswith("x-") and not self._keeps_extensions:
                continue
            path.append(name)
            try:
                values[name] = self._read_special(value) if name in _SPECIAL else read(value)
            except _BrokenError:
                self._content.broken.add(tuple(path))
            path.pop()
        return values

    def _read_sequence(self, node: SequenceNode) -> list[Any]:
        """All items, or none: leaving one out would move the places of those behind it."""
        values, path, is_whole = [], self._path, True
        for at, item in enumerate(node.items):
            path.append(at)
            try:
                values.append(self._read(item))
            except _BrokenError:
                is_whole = False
            path.pop()
        if not is_whole:
            raise _BrokenError
        return values

    def _read_special(self, node: Node) -> Any:
        """A value whose key may open somebody else's data: a schema, examples, a match."""
        before = self._fills_variables, self._keeps_extensions
        place = self._path if self._path[0] != "environments" else self._path[2:]
        match place:
            case ["messages", _, "schema" | "examples"]:
                self._fills_variables, self._keeps_extensions = False, True
            case ["routes", _, "to", _, "match"]:
                self._keeps_extensions = True
        try:
            return self._read(node)
        finally:
            self._fills_variables, self._keeps_extensions = before

    def _read_scalar(self, node: ScalarNode) -> Scalar:
        text = node.text
        if "$" in text and self._fills_variables:
            return self._read_variables(node)
        if not node.is_plain:
            return text
        known = self._plain
        if text in known:
            return known[text]
        value = known[text] = self._resolve(text, node)
        return value

    def _resolve(self, text: str, node: ScalarNode) -> Scalar:
        try:
            return resolve_plain(text)
        except OutOfRangeError as error:
            hint = "put it in quotes if it is meant as a string"
            raise self._broken("LMQ113", str(error), node, hint) from None

    def _read_variables(self, node: ScalarNode) -> Scalar:
        filled = self._interpolate(node)
        if filled.is_secret:
            self._content.secrets.add(tuple(self._path))
        if not node.is_plain or filled.is_secret or not filled.text:
            return filled.text
        return self._resolve(filled.text, node)

    def _interpolate(self, node: ScalarNode) -> Interpolated:
        try:
            return interpolate(node.text, self._environ or {}, lambda path: self._read_secret(path, node))
        except MalformedError as error:
            raise self._broken("LMQ115", str(error), node, error.hint) from None
        except UnsetError as error:
            for name in error.names:
                place = (self._span_of(node), tuple(self._path), error.message)
                self._unset[name].append(place)
            raise _BrokenError from None

    def _read_secret(self, named: str, node: ScalarNode) -> str:
        base, folder = self._folders_of(node)
        try:
            path = resolve_below(named, base=base, folder=folder)
        except OutsideError as error:
            hint = "name a file below the topology's folder"
            raise self._broken("LMQ116", f"{named!r} {error}", node, hint) from None
        source = read_source(path)
        if isinstance(source, Diagnostic):
            raise self._broken("LMQ116", source.message, node, source.suggestion)
        if len(source.text) > MAX_SECRET_LENGTH:
            limit = f"a secret may have at most {MAX_SECRET_LENGTH:,} characters"
            raise self._broken("LMQ116", f"{path} is too long: {limit}", node, None)
        return source.text.removesuffix("\n").removesuffix("\r")

    def _broken(self, code: str, message: str, node: Node, hint: str | None) -> _BrokenError:
        address = format_address(self._path)
        self._content.found.append(Diagnostic(code, message, address, hint, span=self._span_of(node)))
        return _BrokenError()

    def _report_unset(self) -> None:
        for name, places in self._unset.items():
            span, path, message = places[0]
            more = f" (used in {len(places)} places)" if len(places) > 1 else ""
            what = f"the variable {name} is not set{more}" + (f": {message}" if message else "")
            hint = f"set it, or give a default: ${{{name}:-value}}"
            self._content.found.append(Diagnostic("LMQ114", what, format_address(path), hint, span=span))


_SPECIAL = frozenset({"schema", "examples", "match"})


def format_address(path: list[str | int] | ValuePath) -> str:
    """`("queues", "billing", "accepts", 0)` as `queues.billing.accepts[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text

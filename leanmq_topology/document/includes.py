"""Several files as one tree: `include:` inside a file, and overlays named one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.composer import compose
from leanmq_topology.document.confinement import OutsideError, resolve_below
from leanmq_topology.document.nodes import MappingNode, Node, ScalarNode, SequenceNode
from leanmq_topology.document.source import Source, read_source
from leanmq_topology.document.tree import copy_mapping, overlay

_SECTIONS = frozenset({"messages", "queues", "routes", "handlers", "defaults", "environments", "moved"})
"""What several files may each hold a part of; anything else is declared in one."""

_REPEATABLE = frozenset({"leanmq", "name"})
"""What every file may say, if all say the same."""

MAX_FILES = 1000


class FileSet:
    """Reads files into one tree and remembers each one's text."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._sources: dict[str, Source] = {}
        self._folders: dict[str, Path] = {}
        """File -> the folder that nothing it names may lead out of."""

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(name) for name in self._sources)

    def span_of(self, node: Node) -> Span:
        source = self._sources[node.file]
        return source.span(node.start, node.end)

    def folders_of(self, node: Node) -> tuple[Path, Path]:
        """The folder of the node's file, and the one that its paths must stay below."""
        name = node.file
        return Path(name).parent, self._folders[name]

    def read(self, paths: Sequence[Path]) -> MappingNode | None:
        """All files as one tree, later ones over earlier ones. None where the first cannot be read at all."""
        merged: Node | None = None
        for path in paths:
            node = self._read_with_includes(path, folder=path.parent, chain=(), place=None)
            if node is not None:
                merged = node if merged is None else overlay(merged, node)
        return merged if isinstance(merged, MappingNode) else None

    def _read_with_includes(
        self, path: Path, *, folder: Path, chain: tuple[Path, ...], place: Span | None
    ) -> MappingNode | None:
        node = self._read_file(path, folder, place)
        if node is None:
            return None
        included = self._included_paths(node, path.parent, folder)
        if included is None:
            return node
        whole = copy_mapping(node, without="include")
        for part, span in included:
            if self._is_new(part, (*chain, path), span):
                added = self._read_with_includes(part, folder=folder, chain=(*chain, path), place=span)
                whole = self._join(whole, added) if added else whole
        return whole

    def _read_file(self, path: Path, folder: Path, place: Span | None) -> MappingNode | None:
        source = read_source(path)
        if isinstance(source, Diagnostic):
            self.found.append(source if source.span or not place else _at(source, place))
            return None
        self._sources[source.name], self._folders[source.name] = source, folder
        node, found = compose(source)
        self.found += found
        if isinstance(node, MappingNode):
            return node
        if not found:
            self._refuse_root(source, node)
        return None

    def _refuse_root(self, source: Source, node: Node | None) -> None:
        is_empty = node is None or (isinstance(node, ScalarNode) and node.text in {"", "~", "null"})
        kind = (
            "is empty"
            if is_empty
            else "holds a list"
            if isinstance(node, SequenceNode)
            else "holds a single value"
        )
        span = source.span(0, 1) if node is None else self.span_of(node)
        message = f"expected a mapping at the top level, but the file {kind}"
        self.found.append(Diagnostic("LMQ201", message, suggestion="start it with `leanmq: 1`", span=span))

    def _included_paths(self, node: MappingNode, base: Path, folder: Path) -> list[tuple[Path, Span]] | None:
        """The files of `include:`; None where it is absent or no list of strings, which is reported later."""
        entry = node.entries.get("include")
        if entry is None or not isinstance(entry[1], SequenceNode):
            return None
        items = entry[1].items
        if not all(isinstance(item, ScalarNode) for item in items):
            return None
        return [found for item in items if (found := self._included_path(item, base, folder))]

    def _included_path(self, item: Node, base: Path, folder: Path) -> tuple[Path, Span] | None:
        assert isinstance(item, ScalarNode)
        span = self.span_of(item)
        if "${" in item.text:
            self._refuse(item.text, "holds a variable; includes are fixed", span, "use -f to choose files")
            return None
        try:
            return resolve_below(item.text, base=base, folder=folder), span
        except OutsideError as error:
            hint = "copy the file below the topology's folder, or name it with -f"
            self._refuse(item.text, str(error), span, hint)
            return None

    def _is_new(self, part: Path, chain: tuple[Path, ...], span: Span) -> bool:
        real = part.resolve()
        for at, path in enumerate(chain):
            if path.resolve() == real:
                cycle = " -> ".join(str(step) for step in (*chain[at:], part))
                self.found.append(
                    Diagnostic(
                        "LMQ118",
                        f"files include each other: {cycle}",
                        "include",
                        "remove one of them",
                        span=span,
                    )
                )
                return False
        if len(self._sources) >= MAX_FILES:
            self._refuse(str(part), f"is one file too many (at most {MAX_FILES})", span, "join some of them")
            return False
        return all(real != Path(name).resolve() for name in self._sources)

    def _join(self, whole: MappingNode, added: MappingNode) -> MappingNode:
        """Both files' declarations side by side; nothing may be declared twice."""
        joined = copy_mapping(whole)
        for name, (key, value) in added.entries.items():
            earlier = joined.entries.get(name)
            if earlier is None:
                joined.entries[name] = (key, value)
            elif name in _SECTIONS and isinstance(earlier[1], MappingNode) and isinstance(value, MappingNode):
                joined.entries[name] = (earlier[0], self._join_section(name, earlier[1], value))
            elif not (name in _REPEATABLE and _same_scalar(earlier[1], value)):
                self._refuse_second(name, key, earlier[0])
        return joined

    def _join_section(self, section: str, whole: MappingNode, added: MappingNode) -> MappingNode:
        joined = copy_mapping(whole)
        for name, (key, value) in added.entries.items():
            if name in joined.entries:
                self._refuse_second(f"{section}.{name}", key, joined.entries[name][0])
            else:
                joined.entries[name] = (key, value)
        return joined

    def _refuse_second(self, address: str, second: ScalarNode, first: ScalarNode) -> None:
        place = self.span_of(first)
        message = f"{address} is declared in two files; first in {place.file}:{place.line}:{place.column}"
        hint = "keep one of the two, or lay the files over each other with -f"
        self.found.append(Diagnostic("LMQ119", message, address, hint, span=self.span_of(second)))

    def _refuse(self, named: str, why: str, span: Span, hint: str) -> None:
        shown = named if len(named) <= 100 else named[:100] + "…"
        self.found.append(Diagnostic("LMQ117", f"include {shown!r} {why}", "include", hint, span=span))


def _same_scalar(one: Node, other: Node) -> bool:
    return isinstance(one, ScalarNode) and isinstance(other, ScalarNode) and one.text == other.text


def _at(found: Diagnostic, place: Span) -> Diagnostic:
    return Diagnostic(found.code, found.message, "include", found.suggestion, span=place)

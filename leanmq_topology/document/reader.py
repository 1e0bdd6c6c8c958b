"""What a file says, as plain values that can still be found in its text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.composer import compose, node_span
from leanmq_topology.document.content import ContentReader, ValuePath
from leanmq_topology.document.includes import FileSet
from leanmq_topology.document.nodes import MappingNode, Node
from leanmq_topology.document.source import Source, read_source
from leanmq_topology.document.tree import find_key, find_node
from leanmq_topology.garbage import paused_collection


@dataclass(frozen=True)
class Document:
    """Topology files after includes, overlays, environment and variables; `x-` keys are gone.

    Places are looked up in the node tree when asked for, so that a valid file pays nothing for them.
    """

    values: dict[str, Any]
    folder: Path
    """The folder of the first file."""
    files: tuple[Path, ...]
    secrets: frozenset[ValuePath] = frozenset()
    """Paths of values that came from `${file:…}`: never print them."""
    broken: frozenset[ValuePath] = frozenset()
    """Paths of values that were left out because they could not be read; that was reported."""
    environments: Any = None
    """All of `environments:` as it is written, variables not filled in; None if there is none."""
    _root: MappingNode | None = field(default=None, repr=False, compare=False)
    _file_set: FileSet | None = field(default=None, repr=False, compare=False)

    def span(self, path: Sequence[str | int]) -> Span | None:
        """Where the value at `path` stands; None if no file holds it (a default, for instance)."""
        return self._place(find_node(self._root, path) if self._root else None)

    def key_span(self, path: Sequence[str | int]) -> Span | None:
        """Where the key that ends `path` stands; for a list item, the item itself."""
        key = find_key(self._root, path) if self._root else None
        return self._place(key) if key is not None else self.span(path)

    def nearest_span(self, path: Sequence[str | int]) -> Span | None:
        """The key of `path`, or of the nearest thing above it that a file holds."""
        for end in range(len(path), 0, -1):
            found = self.key_span(path[:end])
            if found:
                return found
        return self.span(())

    def folder_of(self, path: Sequence[str | int]) -> Path:
        """The folder of the file in which `path` is written: paths in it are relative to that."""
        node = find_node(self._root, path) if self._root else None
        if node is None or self._file_set is None:
            return self.folder
        return self._file_set.folders_of(node)[0]

    def _place(self, node: Node | None) -> Span | None:
        return None if node is None or self._file_set is None else self._file_set.span_of(node)


def read_data(path: Path) -> tuple[Any, list[Diagnostic]]:
    """A JSON or YAML file as plain values: same limits as a topology file, nothing interpolated.

    A file whose name ends in `.json` must be JSON. The value is None where anything was wrong.
    """
    source = read_source(path)
    if isinstance(source, Diagnostic):
        return None, [source]
    if path.suffix == ".json":
        found = _check_json(source)
        if found:
            return None, [found]
        source = _join_escapes(source)
    root, problems = compose(source)
    if root is None or problems:
        return None, problems or [Diagnostic("LMQ105", f"{path} is empty", span=source.span(0, 1))]
    with paused_collection():
        content = ContentReader(
            None,
            span_of=lambda node: node_span(source, node),
            folders_of=lambda _: (path.parent, path.parent),
            keeps_extensions=True,
        ).read(root)
    return (None if content.found else content.values), content.found


def locate(path: Path, pointer: Sequence[str | int]) -> Span | None:
    """Where a value stands in a data file: at its key, or at itself for a list item or the whole."""
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        return None
    source, root = _compose_file(path, stamp)
    if source is None or root is None:
        return None
    node = find_key(root, pointer) or find_node(root, pointer)
    return None if node is None else node_span(source, node)


@lru_cache(maxsize=8)
def _compose_file(path: Path, _stamp: int) -> tuple[Source | None, Node | None]:
    source = read_source(path)
    return (None, None) if isinstance(source, Diagnostic) else (source, compose(source)[0])


def _check_json(source: Source) -> Diagnostic | None:
    """Why a text is not JSON. Numbers, nesting and repeated keys are judged with the node tree."""
    try:
        json.loads(source.text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        message = f"this is not JSON: {error.msg[0].lower()}{error.msg[1:]}"
        return Diagnostic("LMQ105", message, span=source.span(error.pos, error.pos + 1))
    except _ConstantError as error:
        at = max(0, source.text.find(str(error)))
        message = f"{error} is not a finite number"
        return Diagnostic("LMQ113", message, span=source.span(at, at + len(str(error))))
    except RecursionError:  # said better by the limits on nesting
        return None
    return None


class _ConstantError(ValueError):
    """NaN or Infinity, which Python's reader takes and JSON does not have."""


def _refuse_constant(name: str) -> None:
    raise _ConstantError(name)


def _join_escapes(source: Source) -> Source:
    """JSON writes an emoji as two escapes, which YAML does not know: put the character there instead."""

    def join(found: re.Match[str]) -> str:
        pair = bytes.fromhex(found[2] + found[3]).decode("utf-16-be")
        return found[1] + pair

    return Source(source.name, _ESCAPED_PAIR.sub(join, source.text))


_ESCAPED_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)

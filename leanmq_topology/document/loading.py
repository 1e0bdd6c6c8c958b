"""Topology files, from paths to one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leanmq_topology.diagnostics import Diagnostic, did_you_mean, sort_diagnostics
from leanmq_topology.document.content import Content, ContentReader
from leanmq_topology.document.includes import FileSet
from leanmq_topology.document.nodes import MappingNode
from leanmq_topology.document.reader import Document
from leanmq_topology.document.tree import copy_mapping, overlay
from leanmq_topology.garbage import paused_collection


def read_document(
    paths: Sequence[str | Path], *, environ: Mapping[str, str], environment: str | None = None
) -> tuple[Document | None, list[Diagnostic]]:
    """Read files into one document: includes, then overlays in order, then the environment, then variables.

    The document is None where nothing could be made of the files. Otherwise it holds everything that could be
    read, so that later checks can go on; what was wrong is in the list, in file order.
    """
    with paused_collection():
        return _read_document([Path(path) for path in paths], environ, environment)


def _read_document(
    paths: Sequence[Path], environ: Mapping[str, str], environment: str | None
) -> tuple[Document | None, list[Diagnostic]]:
    files = FileSet()
    root = files.read(paths)
    if root is None:
        return None, sort_diagnostics(files.found)
    root = _lay_environment(root, environment, files)
    content = _read_content(copy_mapping(root, without="environments"), environ, files)
    document = Document(
        values=content.values,
        folder=paths[0].parent,
        files=files.files,
        secrets=frozenset(content.secrets),
        broken=frozenset(content.broken),
        environments=_read_environments(root, files),
        _root=root,
        _file_set=files,
    )
    return document, sort_diagnostics([*files.found, *content.found])


def _lay_environment(root: MappingNode, environment: str | None, files: FileSet) -> MappingNode:
    if environment is None:
        return root
    entry = root.entries.get("environments")
    declared = entry[1] if entry and isinstance(entry[1], MappingNode) else None
    names = [name for name in declared.entries if not name.startswith("x-")] if declared else []
    if declared is None or environment not in names:
        files.found.append(_unknown_environment(environment, names, entry and files.span_of(entry[0])))
        return root
    chosen = declared.entries[environment][1]
    merged = overlay(root, chosen) if isinstance(chosen, MappingNode) else root
    assert isinstance(merged, MappingNode)
    return merged


def _unknown_environment(name: str, known: list[str], span: Any) -> Diagnostic:
    there_are = f"there are {', '.join(known)}" if known else "the file declares none"
    hint = did_you_mean(name, known) or "choose one of them, or declare it under `environments:`"
    return Diagnostic(
        "LMQ120", f"no environment is named {name!r}; {there_are}", "environments", hint, span=span
    )


def _read_content(root: MappingNode, environ: Mapping[str, str], files: FileSet) -> Content:
    return ContentReader(environ, span_of=files.span_of, folders_of=files.folders_of).read(root)


def _read_environments(root: MappingNode, files: FileSet) -> Any:
    """As they are written: a variable of one that is not chosen need not be set."""
    entry = root.entries.get("environments")
    if entry is None:
        return None
    reader = ContentReader(None, span_of=files.span_of, folders_of=files.folders_of, at=("environments",))
    raw = reader.read(entry[1])
    files.found += raw.found
    return raw.values

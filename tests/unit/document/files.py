"""Files and documents for the tests of the reading side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from leanmq_topology.diagnostics import Diagnostic, sort_diagnostics
from leanmq_topology.document.json_schema import check_shape
from leanmq_topology.document.loading import read_document
from leanmq_topology.document.reader import Document

HEADER = "leanmq: 1\nname: shop\n"


def write(folder: Path, text: str | bytes, name: str = "topology.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    return path


def read(*paths: Path, environ: Mapping[str, str] | None = None, environment: str | None = None) -> Document:
    """The document of files that have nothing wrong with them."""
    document, found = read_document(paths, environ=environ or {}, environment=environment)
    assert found == []
    assert document is not None
    return document


def find_mistakes(
    *paths: Path, environ: Mapping[str, str] | None = None, environment: str | None = None
) -> list[Diagnostic]:
    """Everything wrong with the text and the shape of files, in file order."""
    document, found = read_document(paths, environ=environ or {}, environment=environment)
    return sort_diagnostics([*found, *(check_shape(document) if document else [])])


def place(found: Diagnostic) -> tuple[str, int, int] | tuple[str]:
    """Code, line and column; the code alone where there is no place."""
    return (found.code, found.span.line, found.span.column) if found.span else (found.code,)

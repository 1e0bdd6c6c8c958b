"""Topology files as text, and what checking them says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.topology.loading import check_topology
from leanmq_topology.topology.model import Topology

HEADER = "leanmq: 1\nname: shop\n"
TYPES = HEADER + "messages: {placed: {schema: {type: object}}, paid: {schema: {type: object}}}\n"
"""Two message types, for files that only need some."""


def check(
    folder: Path,
    text: str,
    *,
    files: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    environment: str | None = None,
    strict: bool = False,
) -> list[Diagnostic]:
    """Every finding about one file, which may have others beside it."""
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "topology.yaml").write_text(dedent(text), encoding="utf-8")
    return check_topology(
        [folder / "topology.yaml"], environ=environ or {}, environment=environment, strict=strict
    )[1]


def load(folder: Path, text: str, *, environ: Mapping[str, str] | None = None) -> Topology:
    """The topology of a file that has no error."""
    (folder / "topology.yaml").write_text(dedent(text), encoding="utf-8")
    topology, found = check_topology([folder / "topology.yaml"], environ=environ or {})
    assert topology is not None, found
    return topology


def shorten(found: Diagnostic) -> tuple[str, str, str]:
    """Code, address, and the very text the caret underlines."""
    return found.code, found.address, underlined(found)


def underlined(found: Diagnostic) -> str:
    span = found.span
    return span.source[span.column - 1 : span.column - 1 + span.length] if span else ""


def errors(found: list[Diagnostic]) -> list[tuple[str, str, str]]:
    return [shorten(item) for item in found if item.is_error]


def warnings(found: list[Diagnostic]) -> list[tuple[str, str, str]]:
    return [shorten(item) for item in found if not item.is_error]

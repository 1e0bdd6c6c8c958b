"""Findings with their place in a document."""

from __future__ import annotations

from leanmq_topology.diagnostics import Diagnostic, Severity, Span
from leanmq_topology.document.content import format_address
from leanmq_topology.document.reader import Document
from leanmq_topology.topology.fields import ValuePath


def nearest_span(document: Document, path: ValuePath, *, at_key: bool = False) -> Span | None:
    """Where `path` stands; for what was left out, the key of the nearest thing around it."""
    span = document.key_span(path) if at_key else document.span(path)
    return span or document.nearest_span(path)


def diagnose(
    document: Document,
    code: str,
    message: str,
    path: ValuePath,
    *,
    suggestion: str | None = None,
    severity: Severity = Severity.ERROR,
    at_key: bool = False,
) -> Diagnostic:
    """A finding about what stands at `path`."""
    span = nearest_span(document, path, at_key=at_key)
    return Diagnostic(code, message, format_address(path), suggestion, severity, span)

"""What the rules look at: a topology as far as it could be built, and the document it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from leanmq_topology.contracts.schemas import MessageSchema
from leanmq_topology.diagnostics import Diagnostic, Severity, did_you_mean
from leanmq_topology.document.content import format_address
from leanmq_topology.document.reader import Document
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.places import diagnose, nearest_span


class Spelling:
    """Closest matches, for as many words as a person would read; looking through 10,000 names is not free."""

    MOST = 50

    def __init__(self) -> None:
        self._answers: dict[str, str | None] = {}

    def suggest(self, word: str, known: Mapping[str, Any]) -> str | None:
        if word not in self._answers and len(self._answers) < self.MOST:
            self._answers[word] = did_you_mean(word, known)
        return self._answers.get(word)


class Draft(Struct, frozen=True):
    """A topology in the making, with what the rules ask about it."""

    document: Document
    topology: Topology
    contracts: Mapping[str, MessageSchema] = field(default_factory=dict)
    """Message type -> its compiled schema, for the types whose schema is sound."""
    broken: frozenset[str] = frozenset()
    """Addresses of values that could not be used; the topology has their defaults."""
    strict: bool = False
    spelling: Spelling = field(default_factory=Spelling)

    def entries(self, *section: str) -> Mapping[str, Any]:
        """A section as it was written: also what could not be built has a name others may refer to."""
        value: Any = self.document.values
        for key in section:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def given(self, *path: str) -> bool:
        """Whether the file itself says something at this path."""
        value: Any = self.document.values
        for key in path:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True

    def is_broken(self, *paths: ValuePath) -> bool:
        """Whether a value a rule is about to compare stands at its default only because it was unusable."""
        return bool(self.broken) and any(format_address(path) in self.broken for path in paths)

    def settled(self, *path: str) -> ValuePath:
        """Where the value of a queue or handler was decided: at itself, in `defaults`, or nowhere."""
        section, _, *rest = path
        fallback = ("defaults", section.removesuffix("s"), *rest)
        return fallback if not self.given(*path) and self.given(*fallback) else path

    def where(self, *path: str | int) -> str:
        """`line 7`, or `file:7` where there are several files, for a message that names a second place."""
        span = nearest_span(self.document, path, at_key=True)
        if span is None:
            return "elsewhere"
        return f"{span.file}:{span.line}" if len(self.document.files) > 1 else f"line {span.line}"

    def error(
        self, code: str, message: str, path: ValuePath, *, suggestion: str | None = None, at_key: bool = False
    ) -> Diagnostic:
        return diagnose(self.document, code, message, path, suggestion=suggestion, at_key=at_key)

    def warning(
        self, code: str, message: str, path: ValuePath, *, suggestion: str | None = None, at_key: bool = False
    ) -> Diagnostic:
        return diagnose(
            self.document,
            code,
            message,
            path,
            suggestion=suggestion,
            severity=Severity.WARNING,
            at_key=at_key,
        )


Findings = Iterator[Diagnostic]

"""What is wrong with a file, where, and how to mend it.

A `Diagnostic` is one finding. Findings are collected, never raised one by one, so that a reader sees all
mistakes at once. What a code means at length stands in `codes/*.toml`; `leanmq explain` prints
it. Codes are never reused: 1xx reading, 2xx schema, 3xx references, 4xx policy, 5xx plan hazards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file. Lines and columns count from 1, columns in code points."""

    file: str
    line: int
    column: int
    length: int = 1
    """How many code points the caret underlines."""
    source: str = field(default="", compare=False)
    """The text of that line, for the caret."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: `code` is stable, `address` names the resource (`queues.billing.ttl`)."""

    code: str
    message: str
    address: str = ""
    suggestion: str | None = None
    severity: Severity = Severity.ERROR
    span: Span | None = None

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def where(self) -> str:
        """`file:line:column`, or the address where no file is known."""
        if self.span is None:
            return self.address or "topology"
        return f"{self.span.file}:{self.span.line}:{self.span.column}"

    def to_dict(self) -> dict[str, Any]:
        """The shape that `validate -o json` prints."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "address": self.address,
            "message": self.message,
            "suggestion": self.suggestion,
            "file": self.span.file if self.span else None,
            "line": self.span.line if self.span else None,
            "column": self.span.column if self.span else None,
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `leanmq explain CODE` prints."""

    code: str
    title: str
    text: str
    mend: str


def explain_code(code: str) -> Explanation | None:
    """The documentation of a code, or None if there is no such code."""
    entry = _read_codes().get(code.upper())
    if entry is None:
        return None
    text, mend = (
        entry[key].strip("\n").rstrip() for key in ("text", "mend")
    )  # a first line keeps its indent
    return Explanation(code.upper(), entry["title"], text, mend)


def list_codes() -> list[str]:
    return sorted(_read_codes())


@cache
def _read_codes() -> dict[str, dict[str, str]]:
    import tomllib  # who runs handlers never asks

    tables = sorted(Path(__file__).with_name("codes").iterdir())
    return {
        code: entry
        for table in tables
        for code, entry in tomllib.loads(table.read_text(encoding="utf-8")).items()
    }


def sort_diagnostics(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """In file order; what has no place comes last."""

    def place(item: Diagnostic) -> tuple[bool, str, int, int, str]:
        span = item.span
        return (
            span is None,
            span.file if span else "",
            span.line if span else 0,
            span.column if span else 0,
            item.code,
        )

    return sorted(found, key=place)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a mistyped one most likely meant, or None if none is near."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    match = closest(word, known)
    return f"did you mean {match!r}?" if match else None


def count_errors(found: Sequence[Diagnostic]) -> int:
    return sum(1 for item in found if item.is_error)

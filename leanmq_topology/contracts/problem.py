"""What is wrong with a schema or a `match`, before its place in a file is known."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from leanmq_topology.contracts.violation import Pointer
from leanmq_topology.diagnostics import Severity


class SchemaProblem(Struct, frozen=True):
    """One finding; `topology` turns its pointer into file, line and column."""

    code: str
    message: str
    pointer: Pointer = ()
    """From the root of the schema, or of `file` where that is given."""
    suggestion: str | None = None
    severity: Severity = Severity.ERROR
    file: Path | None = None
    """The file that the pointer leads into, or None for the schema that was handed in."""

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

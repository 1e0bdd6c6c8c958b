"""The schemas of all message types: read, bundled, checked and compiled, each file once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from leanmq_topology.contracts.schema_rules import check_bundle
from leanmq_topology.contracts.schemas import (
    Bundled,
    MessageSchema,
    Schema,
    SchemaProblem,
    bundle_file,
    bundle_schema,
    compile_schema,
)
from leanmq_topology.diagnostics import Diagnostic, Span
from leanmq_topology.document.content import format_address
from leanmq_topology.document.reader import Document, locate, read_data
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.places import nearest_span

_MISSING_FILE = "LMQ101"


class MessageSchemas(Struct):
    """What came of them. A type whose schema has an error stands in neither mapping."""

    schemas: dict[str, Schema] = field(default_factory=dict)
    contracts: dict[str, MessageSchema] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    found: list[Diagnostic] = field(default_factory=list)


def read_message_schemas(document: Document) -> MessageSchemas:
    """Every `messages.*.schema` of a document, wherever it stands, and all that is wrong with them."""
    return _Collector(document).collect()


class _Checked(Struct, frozen=True):
    schema: Any
    files: tuple[Path, ...]
    problems: tuple[SchemaProblem, ...]
    is_sound: bool


class _Collector:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.result = MessageSchemas()
        self.data: dict[Path, Any] = {}
        self.shared: dict[tuple[Path, str], _Checked] = {}
        self.is_whole = True

    def collect(self) -> MessageSchemas:
        files: dict[Path, None] = {}
        for name, given in self._given():
            checked = self._check(("messages", name, "schema"), given)
            files |= dict.fromkeys(checked.files)
            self.result.found += [self._report(name, problem) for problem in checked.problems]
            if checked.is_sound:
                self.result.schemas[name] = checked.schema
                self.result.contracts[name] = compile_schema(checked.schema)
        self.result.files = tuple(files)
        return self.result

    def _given(self) -> Iterator[tuple[str, Any]]:
        messages = self.document.values.get("messages")
        for name, entry in messages.items() if isinstance(messages, dict) else ():
            if isinstance(entry, dict) and isinstance(entry.get("schema"), str | dict | bool):
                yield name, entry["schema"]

    def _check(self, place: ValuePath, given: Any) -> _Checked:
        # References are relative to the file they stand in; any name in its folder will do.
        base = self.document.folder_of(place) / "topology"
        if not isinstance(given, str):
            return self._bundle(bundle_schema, given, base)
        if (base, given) not in self.shared:
            self.shared[base, given] = self._bundle(bundle_file, given, base)
        return self.shared[base, given]

    def _bundle(self, bundle: Callable[..., Bundled], given: Any, base: Path) -> _Checked:
        self.is_whole = True
        bundled = bundle(given, base=base, folder=self.document.folder, read=self._read)
        # A stand-in for what could not be read is not judged: the file's own problems are reported.
        problems = check_bundle(bundled) if self.is_whole else list(bundled.problems)
        is_sound = self.is_whole and not any(problem.is_error for problem in problems)
        return _Checked(bundled.schema, bundled.files, tuple(problems), is_sound)

    def _read(self, path: Path) -> Any:
        """A file for the bundler, which wants exceptions; what is wrong inside it is reported here, once."""
        if path not in self.data:
            value, problems = read_data(path)
            if any(problem.code == _MISSING_FILE for problem in problems):
                raise FileNotFoundError(str(path))
            self.result.found += problems
            self.data[path] = ValueError("") if problems else value
        value = self.data[path]
        if isinstance(value, ValueError):
            self.is_whole = False
            raise value
        return value

    def _report(self, name: str, problem: SchemaProblem) -> Diagnostic:
        place = ("messages", name, "schema")
        span = self._span(place, problem)
        return Diagnostic(
            problem.code, problem.message, format_address(place), problem.suggestion, problem.severity, span
        )

    def _span(self, place: ValuePath, problem: SchemaProblem) -> Span | None:
        """Where a problem stands: in its schema file, or in the topology for an inline schema."""
        if problem.file is None:
            return nearest_span(self.document, (*place, *problem.pointer), at_key=bool(problem.pointer))
        pointer = problem.pointer
        while (span := locate(problem.file, pointer)) is None and pointer:
            pointer = pointer[:-1]
        return span or nearest_span(self.document, place)

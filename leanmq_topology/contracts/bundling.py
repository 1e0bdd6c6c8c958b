"""Make one self-contained schema of a schema and the files it refers to.

What a reference names in another file is embedded under `$defs` (`definitions` in draft 7) as `FILE#POINTER`,
and the reference then points there; a recursive one points back. The result needs no file and no network, so
the record of an applied topology can keep it, and `locate` leads from any place in it to where that stands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from leanmq_topology.contracts.engine import DRAFT_7, DRAFT_2020_12, read_dialect
from leanmq_topology.contracts.keywords import walk_schemas
from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.references import (
    MISSING,
    find_reference_fault,
    find_target,
    locate_file,
    report_missing,
    split_reference,
    write_reference,
)
from leanmq_topology.contracts.violation import Pointer, format_pointer, parse_pointer, printable

MAX_FILES = 200
"""Files that one message schema may draw together."""

Read = Callable[[Path], Any]
"""Reads a JSON or YAML file. Raises OSError or ValueError; a ValueError without text was already reported."""


class Bundled(Struct, frozen=True):
    """A self-contained schema, and where its parts came from."""

    schema: Any
    files: tuple[Path, ...] = ()
    """Every file that was read, for hot reload."""
    problems: tuple[SchemaProblem, ...] = ()
    file: Path | None = None
    """The file whose root the schema is, or None for one that was handed in."""
    origins: dict[Pointer, tuple[Path, Pointer]] = field(default_factory=dict)
    """Where each embedded part stands: its pointer here to file and pointer there."""

    def locate(self, pointer: Pointer) -> tuple[Path | None, Pointer]:
        """The file and the place in it that a place in the bundled schema came from."""
        origin = self.origins.get(pointer[:2])
        return (self.file, pointer) if origin is None else (origin[0], (*origin[1], *pointer[2:]))

    def place(self, problem: SchemaProblem) -> SchemaProblem:
        """A problem of the bundled schema, at the place where its reader finds it."""
        if problem.file is not None:
            return problem
        file, pointer = self.locate(problem.pointer)
        return replace(problem, file=file, pointer=pointer)


def bundle_schema(raw: Any, *, base: Path, folder: Path, read: Read) -> Bundled:
    """Bundle a schema that stands inside the file `base`; references are relative to that file."""
    return _Bundler(base=base, folder=folder, read=read, own_file=None).bundle(raw)


def bundle_file(reference: str, *, base: Path, folder: Path, read: Read) -> Bundled:
    """Bundle what a reference names, seen from the file `base`: `order.json`, `common.json#/$defs/order`."""
    bundler = _Bundler(base=base, folder=folder, read=read, own_file=None)
    found = bundler.open(reference)
    if isinstance(found, SchemaProblem):
        return Bundled(True, bundler.list_files(), (found,) if found.message else ())
    path, tokens, document = found
    if tokens:
        wrapped = {"$schema": _dialect(document), "$ref": reference}
        return _Bundler(base=base, folder=folder, read=read, own_file=None).bundle(wrapped)
    return replace(_Bundler(base=path, folder=folder, read=read, own_file=path).bundle(document), file=path)


def _dialect(document: Any) -> str:
    return read_dialect(document) or DRAFT_2020_12


class _Bundler:
    """One run; it remembers what it has read and embedded."""

    def __init__(self, *, base: Path, folder: Path, read: Read, own_file: Path | None) -> None:
        self.base, self.folder, self.read, self.own_file = base, folder, read, own_file
        self.documents: dict[Path, Any] = {}
        self.parts: dict[tuple[Path, Pointer], str] = {}
        self.waiting: deque[tuple[Path, Pointer, Any]] = deque()
        self.problems: list[SchemaProblem] = []
        self.container, self.dialect, self.taken = "$defs", DRAFT_2020_12, frozenset[str]()

    def bundle(self, raw: Any) -> Bundled:
        if self.own_file is not None:
            self.documents[self.own_file] = raw
        try:
            schema = _unshare(raw)
        except RecursionError:
            # `check_schema` reports the depth.
            return Bundled(raw, self.list_files())
        if not isinstance(schema, dict):
            return Bundled(schema, self.list_files())
        self._prepare(schema)
        self._rewrite(schema, file=None, start=(), base=self.base)
        embedded = self._embed_waiting()
        return Bundled(
            self._join(schema, embedded), self.list_files(), tuple(self.problems), origins=self._origins()
        )

    def list_files(self) -> tuple[Path, ...]:
        return tuple(self.documents)

    def open(self, reference: Any) -> tuple[Path, Pointer, Any] | SchemaProblem:
        """File, pointer and root document of a reference, seen from `base`."""
        return find_reference_fault(reference) or self._open_from(reference, self.base)

    def _prepare(self, schema: dict[str, Any]) -> None:
        self.dialect = _dialect(schema)
        self.container = "definitions" if self.dialect == DRAFT_7 else "$defs"
        own = schema.get(self.container)
        self.taken = frozenset(own) if isinstance(own, dict) else frozenset()

    def _embed_waiting(self) -> dict[str, Any]:
        embedded: dict[str, Any] = {}
        while self.waiting:
            file, tokens, target = self.waiting.popleft()
            part = _unshare(target)
            if isinstance(part, dict) and not tokens:
                part.pop("$schema", None)
                part.pop("$id", None)
            self._rewrite(part, file=file, start=tokens, base=file)
            embedded[self.parts[file, tokens]] = part
        return embedded

    def _join(self, schema: dict[str, Any], embedded: dict[str, Any]) -> dict[str, Any]:
        if not embedded:
            return schema
        own = schema.get(self.container)
        return schema | {self.container: (own if isinstance(own, dict) else {}) | embedded}

    def _origins(self) -> dict[Pointer, tuple[Path, Pointer]]:
        return {(self.container, key): place for place, key in self.parts.items()}

    def _rewrite(self, schema: Any, *, file: Path | None, start: Pointer, base: Path) -> None:
        """Point every reference of one document to its place in the bundle."""
        for at, current in walk_schemas(schema, self.dialect):
            if isinstance(current, dict) and "$ref" in current:
                rewritten = self._follow(current["$ref"], file=file, base=base)
                if isinstance(rewritten, str):
                    current["$ref"] = rewritten
                elif rewritten is not None:
                    self._report(rewritten, current, (*start, *at, "$ref"), file or self.own_file)

    def _report(self, problem: SchemaProblem, schema: dict[str, Any], at: Pointer, file: Path | None) -> None:
        if problem.message:
            self.problems.append(replace(problem, pointer=at, file=file))
        else:
            # The reader has told it; that the reference leads nowhere is no second mistake.
            del schema["$ref"]

    def _follow(self, reference: Any, *, file: Path | None, base: Path) -> str | SchemaProblem | None:
        fault = find_reference_fault(reference)
        if fault is not None:
            return fault
        path, _ = split_reference(reference)
        if not path and file is None:
            return None
        found = self._open_from(reference, base)
        if isinstance(found, SchemaProblem):
            return found
        target_file, tokens, document = found
        if target_file == self.own_file:
            return write_reference(tokens)
        return self._embed(target_file, tokens, document)

    def _open_from(self, reference: str, base: Path) -> tuple[Path, Pointer, Any] | SchemaProblem:
        path, fragment = split_reference(reference)
        target = locate_file(path, base=base, folder=self.folder) if path else base
        if isinstance(target, SchemaProblem):
            return target
        problem = self._read(target)
        if problem is not None:
            return problem
        return target, parse_pointer(fragment) or (), self.documents[target]

    def _read(self, path: Path) -> SchemaProblem | None:
        if path in self.documents:
            return None
        if len(self.documents) >= MAX_FILES:
            return SchemaProblem("LMQ234", f"one schema may draw on at most {MAX_FILES} files")
        try:
            self.documents[path] = self.read(path)
        except (OSError, ValueError) as error:
            return self._report_unreadable(path, error)
        return None

    def _report_unreadable(self, path: Path, error: Exception) -> SchemaProblem:
        name = printable(self._name(path))
        if isinstance(error, FileNotFoundError):
            return SchemaProblem("LMQ226", f"there is no file {name!r}")
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        return SchemaProblem("LMQ236", f"{name} cannot be read: {printable(reason)}" if reason else "")

    def _embed(self, file: Path, tokens: Pointer, document: Any) -> str | SchemaProblem:
        key = self.parts.get((file, tokens))
        if key is None:
            target = find_target(document, tokens)
            if target is MISSING:
                return report_missing(document, tokens, where=self._name(file))
            if (
                isinstance(document, dict)
                and "$schema" in document
                and read_dialect(document) != self.dialect
            ):
                return self._report_dialect(file)
            key = self.parts[file, tokens] = self._choose_key(file, tokens)
            self.waiting.append((file, tokens, target))
        return write_reference((self.container, key))

    def _report_dialect(self, file: Path) -> SchemaProblem:
        return SchemaProblem(
            "LMQ229",
            f"{self._name(file)} is written in another dialect than the schema that refers to it",
            suggestion=f"give both `$schema: {self.dialect}`",
        )

    def _choose_key(self, file: Path, tokens: Pointer) -> str:
        key = self._name(file) + (f"#{format_pointer(tokens)}" if tokens else "")
        while key in self.taken:
            key += "'"
        return key

    def _name(self, file: Path) -> str:
        root = self.folder.resolve()
        resolved = file.resolve()
        return resolved.relative_to(root).as_posix() if resolved.is_relative_to(root) else file.name


def _unshare(value: Any) -> Any:
    """A copy in which nothing is shared: YAML aliases would be rewritten twice."""
    if isinstance(value, dict):
        return {key: _unshare(item) for key, item in value.items()}
    return [_unshare(item) for item in value] if isinstance(value, list) else value

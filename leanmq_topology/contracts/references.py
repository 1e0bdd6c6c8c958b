"""`$ref`: what it may point to, and what stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from leanmq_topology.contracts.problem import SchemaProblem
from leanmq_topology.contracts.violation import Pointer, parse_pointer, printable
from leanmq_topology.diagnostics import did_you_mean

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

MISSING = object()
"""Nothing stands there; `None` may."""


def split_reference(reference: str) -> tuple[str, str]:
    """File part and fragment, both with percent escapes undone."""
    path, _, fragment = reference.partition("#")
    return unquote(path), unquote(fragment)


def find_reference_fault(reference: Any) -> SchemaProblem | None:
    """Why a reference is refused before anything is opened."""
    if not isinstance(reference, str):
        return SchemaProblem("LMQ221", "`$ref` must be a string")
    path, fragment = split_reference(reference)
    if _SCHEME.match(path) or path.startswith("//"):
        return SchemaProblem(
            "LMQ224",
            f"remote references are not allowed: {printable(reference)!r}",
            suggestion="copy the schema beside the topology file and name it by its relative path",
        )
    if path.startswith("/") or "\\" in path or "\0" in path:
        return _outside(reference)
    if fragment and parse_pointer(fragment) is None:
        return SchemaProblem(
            "LMQ228",
            f"anchors are not supported: {printable(reference)!r}",
            suggestion="point with a path such as '#/$defs/NAME'",
        )
    return None


def locate_file(path: str, *, base: Path, folder: Path) -> Path | SchemaProblem:
    """The file that a relative path names, seen from the file `base`; never one outside, even by a link."""
    root = folder.resolve()
    target = (base.parent / path).resolve()
    return target if target.is_relative_to(root) else _outside(path)


def _outside(reference: str) -> SchemaProblem:
    return SchemaProblem(
        "LMQ225",
        f"a reference must stay below the folder of the topology file: {printable(reference)!r}",
        suggestion="use a relative path with `/` to a file below that folder",
    )


def find_target(document: Any, tokens: Pointer) -> Any:
    """What stands at a pointer, or `MISSING`."""
    for token in tokens:
        document = step(document, token)
        if document is MISSING:
            return MISSING
    return document


def step(value: Any, token: str | int) -> Any:
    """One token further down, or `MISSING`."""
    if isinstance(value, dict):
        return value.get(token, MISSING)
    index = _read_index(token)
    if isinstance(value, list) and index is not None and index < len(value):
        return value[index]
    return MISSING


def _read_index(token: str | int) -> int | None:
    if isinstance(token, int):
        return token
    return int(token) if token.isascii() and token.isdigit() and len(token) < 10 else None


def report_missing(document: Any, tokens: Pointer, *, where: str) -> SchemaProblem:
    """There is nothing at this pointer; the closest name on the way is suggested."""
    for depth, token in enumerate(tokens):
        here = find_target(document, tokens[:depth])
        if step(here, token) is MISSING:
            known = list(here) if isinstance(here, dict) else []
            break
    else:
        known, token = [], ""
    pointer = "#" + "".join(f"/{part}" for part in tokens)
    return SchemaProblem(
        "LMQ226",
        f"nothing stands at {printable(pointer)!r} in {where}",
        suggestion=did_you_mean(str(token), known),
    )


def write_reference(tokens: Pointer) -> str:
    """A local `$ref` to these tokens."""
    escaped = (str(token).replace("~", "~0").replace("/", "~1") for token in tokens)
    return "#" + "".join("/" + quote(token, safe="~!$&'()*+,;=:@") for token in escaped)

"""The text of one file, and how a place in it becomes a span."""

from __future__ import annotations

import os
import re
import stat
from bisect import bisect_right
from functools import cached_property
from pathlib import Path

from leanmq_topology.diagnostics import Diagnostic, Span

MAX_FILE_SIZE = 16 * 1024 * 1024
"""Bytes. A larger file is refused before it is read."""

_LINE_END = re.compile(r"\r\n|\n|\r")
_UNPRINTABLE = (
    re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]"),
    re.compile("[\ufffe\uffff]"),
)
"""What YAML does not call printable; surrogates are not UTF-8. One class of all takes 4 ms to compile."""
_WIDE_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",  # before UTF-16, whose mark it begins with
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class Source:
    """One file's text as it was read. `name` is the path as the user would type it."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text
        self._lines: dict[int, str] = {}
        """Line texts that spans were made from, so that many findings in one long line share its text."""

    def span(self, start: int, end: int) -> Span:
        """The span of the code points from `start` up to `end`, cut off where the first line ends."""
        start = min(start, len(self.text))
        at = bisect_right(self._line_starts, start) - 1
        first = self._line_starts[at]
        line = self._line(at)
        # A place inside or behind a line break is shown at the end of its line.
        column = min(start - first, len(line))
        length = max(1, min(end - start, len(line) - column))
        return Span(self.name, at + 1, column + 1, length, line)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_END.finditer(self.text))]

    def _line(self, at: int) -> str:
        if at not in self._lines:
            starts = self._line_starts
            end = starts[at + 1] if at + 1 < len(starts) else len(self.text)
            self._lines[at] = self.text[starts[at] : end].rstrip("\r\n")
        return self._lines[at]


def read_source(path: Path, *, name: str | None = None) -> Source | Diagnostic:
    """The text of a file, or why it cannot be had. Never opens a pipe, a socket or a device."""
    name = name or str(path)
    refused = _refuse_kind(path, name)
    if refused:
        return refused
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        return _unreadable(name, f"cannot be read: {_reason(error)}")
    if len(raw) > MAX_FILE_SIZE:
        return _too_large(name, len(raw))
    return decode_source(name, raw)


def decode_source(name: str, raw: bytes) -> Source | Diagnostic:
    """UTF-8 text with or without a byte order mark; anything else is refused with its byte offset."""
    for mark, encoding in _WIDE_ENCODINGS.items():
        if raw.startswith(mark):
            return _undecodable(
                name, 0, f"the file is {encoding}, not UTF-8 (byte offset 0)", Source(name, "")
            )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = Source(name, raw[: error.start].decode("utf-8").removeprefix("\ufeff"))
        what = f"byte 0x{raw[error.start]:02x} at byte offset {error.start} is not UTF-8"
        return _undecodable(name, len(before.text), what, before)
    source = Source(name, text.removeprefix("\ufeff"))
    found = _find_unprintable(source.text)
    if found is None:
        return source
    offset = len(source.text[: found.start()].encode()) + 3 * text.startswith("\ufeff")
    what = f"control character U+{ord(found[0]):04X} at byte offset {offset} is not allowed in a file"
    return _undecodable(name, found.start(), what, source)


def _find_unprintable(text: str) -> re.Match[str] | None:
    found = [match for kind in _UNPRINTABLE if (match := kind.search(text))]
    return min(found, key=re.Match.start, default=None)


def _refuse_kind(path: Path, name: str) -> Diagnostic | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return Diagnostic(
            "LMQ101",
            f"there is no file {name}",
            suggestion="check the path; `leanmq demo --keep DIR` leaves one to start from",
        )
    except (OSError, ValueError) as error:
        return _unreadable(name, f"cannot be read: {_reason(error)}")
    kind = _name_kind(found.st_mode)
    if kind:
        return _unreadable(name, f"is {kind}, not a file", "name a plain file")
    if not os.access(path, os.R_OK):
        return _unreadable(name, "cannot be read: permission denied", "give yourself read permission")
    return _too_large(name, found.st_size) if found.st_size > MAX_FILE_SIZE else None


def _name_kind(mode: int) -> str | None:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode))


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _unreadable(name: str, what: str, suggestion: str | None = None) -> Diagnostic:
    return Diagnostic("LMQ102", f"{name} {what}", suggestion=suggestion)


def _too_large(name: str, size: int) -> Diagnostic:
    limit = MAX_FILE_SIZE // (1024 * 1024)
    return Diagnostic(
        "LMQ103",
        f"{name} has {size:,} bytes; a file may have at most {limit} MiB",
        suggestion="split it and join the parts with `include:`",
    )


def _undecodable(name: str, at: int, what: str, source: Source) -> Diagnostic:
    return Diagnostic("LMQ104", what, suggestion="save the file as UTF-8 text", span=source.span(at, at + 1))

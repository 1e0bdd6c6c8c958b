"""Findings as text for people, and as annotations for GitHub.

What a file holds is never printed raw: control and direction characters, which could rewrite the terminal or
swap what is read, appear as escapes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import click

from leanmq_topology.diagnostics import Diagnostic, Severity, Span, count_errors

MAX_WIDTH = 100
"""Columns of a source line that are shown; a longer line is cut around the caret."""

_TAB = " " * 4
_ELLIPSIS = "…"
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def render_diagnostics(found: Sequence[Diagnostic], *, color: bool = False) -> str:
    """Every finding with its place, source line, caret and help, and a last line that counts them."""
    if not found:
        return ""
    blocks = [_render_one(item, color=color) for item in found]
    return "\n\n".join([*blocks, summarise(found)])


def render_github(found: Sequence[Diagnostic]) -> str:
    """One workflow command a line, which GitHub shows beside the changed lines of a pull request."""
    return "\n".join(_render_annotation(item) for item in found)


def summarise(found: Sequence[Diagnostic]) -> str:
    """`3 errors, 1 warning`."""
    errors = count_errors(found)
    counts = [(errors, "error"), (len(found) - errors, "warning")]
    return ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in counts if count)


def escape_text(text: str) -> str:
    """Text from a file, safe to print: one line, nothing invisible."""
    return text if text.isascii() and text.isprintable() else "".join(_show(letter) for letter in text)


def _render_one(item: Diagnostic, *, color: bool) -> str:
    severity = item.severity.value
    label = click.style(f"{severity} {item.code}", fg=_COLORS[item.severity], bold=True) if color else None
    where = f"{escape_text(item.where())}: " if item.span or item.address else ""
    lines = [f"{where}{label or f'{severity} {item.code}'}: {escape_text(item.message)}"]
    if item.address and item.span:
        lines.append(f"  {escape_text(item.address)}")
    if item.span and item.span.source:
        lines += _render_source(item.span, color=color)
    if item.suggestion:
        help_label = click.style("help", fg="cyan", bold=True) if color else "help"
        lines.append(f"  {help_label}: {escape_text(item.suggestion)}")
    return "\n".join(lines)


def _render_source(span: Span, *, color: bool) -> list[str]:
    """The source line behind its number, and the caret below the right columns of it."""
    letters, start, end = _cut(span)
    before = sum(_measure(letter) for letter in letters[:start])
    width = max(1, sum(_measure(letter) for letter in letters[start:end]))
    number = str(span.line)
    caret = "^" * width
    caret = click.style(caret, fg="red", bold=True) if color else caret
    text = "".join(letters).rstrip()
    return [f"  {number} | {text}", f"  {' ' * len(number)} | {' ' * before}{caret}"]


def _cut(span: Span) -> tuple[list[str], int, int]:
    """The letters to show, and where among them the span begins and ends."""
    letters = [_show(letter) for letter in span.source[: span.column + MAX_WIDTH]]
    start = min(span.column - 1, len(letters))
    end = min(start + span.length, len(letters))
    whole = len(letters) == len(span.source)
    if whole and sum(map(_measure, letters)) <= MAX_WIDTH:
        return letters, start, end
    first = _fit_before(letters, start)
    last = _fit_after(letters, start, MAX_WIDTH - sum(map(_measure, letters[first:start])))
    head = [_ELLIPSIS] if first else []
    tail = [_ELLIPSIS] if last < len(span.source) else []
    shift = len(head) - first
    return [*head, *letters[first:last], *tail], start + shift, min(end, last) + shift


def _fit_before(letters: list[str], start: int) -> int:
    """The first letter to show so that about a third of the width stands before the caret."""
    room, first = MAX_WIDTH // 3, start
    while first and room >= _measure(letters[first - 1]):
        first -= 1
        room -= _measure(letters[first])
    return first


def _fit_after(letters: list[str], start: int, room: int) -> int:
    last = start
    while last < len(letters) and room >= _measure(letters[last]):
        room -= _measure(letters[last])
        last += 1
    return last


def _show(letter: str) -> str:
    if letter == "\t":
        return _TAB
    if unicodedata.category(letter) not in _UNSAFE:
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _measure(shown: str) -> int:
    """Columns on a terminal: wide letters take two, marks that combine take none."""
    if shown.isascii():
        return len(shown)
    if unicodedata.category(shown[0]) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(shown[0]) in {"W", "F"} else 1


def _render_annotation(item: Diagnostic) -> str:
    facts = {"title": f"{item.code} {item.address}".strip()}
    if item.span:
        place = {"file": item.span.file, "line": str(item.span.line), "col": str(item.span.column)}
        facts = {**place, **facts}
    listed = ",".join(f"{name}={_quote_fact(value)}" for name, value in facts.items())
    text = item.message if item.suggestion is None else f"{item.message}\nhelp: {item.suggestion}"
    return f"::{item.severity.value} {listed}::{_quote(text)}"


def _quote(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _quote_fact(text: str) -> str:
    return _quote(text).replace(":", "%3A").replace(",", "%2C")

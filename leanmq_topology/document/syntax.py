"""What the YAML parser complains about, in words that help."""

from __future__ import annotations

from typing import Any

import yaml

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.document.source import Source

_QUOTE_IT = "put the value in quotes if this character belongs to it"
_INDENT = "indent keys of one mapping alike, with spaces"

# What both parsers say (libyaml, then PyYAML's own) -> our words, what mends it, and whether the place to
# show is where the construct began rather than where the parser gave up.
_WORDS: tuple[tuple[tuple[str, ...], str, str | None, bool], ...] = (
    (("unexpected end of stream",), "this quote is never closed", "close it on the same line", True),
    (("',' or ']'",), "this [ is never closed, or a comma is missing", "close it with ]", True),
    (("',' or '}'",), "this { is never closed, or a comma is missing", "close it with }", True),
    (
        ("could not find expected ':'",),
        "this line is not a `key: value`",
        "write a colon after the key",
        True,
    ),
    (
        ("block sequence entries are not allowed", "sequence entries are not allowed"),
        "a list item cannot start here",
        "start the list in a line of its own, or write it as [a, b]",
        False,
    ),
    (("unknown escape character",), "this escape is unknown in double quotes", "write \\\\ for \\", False),
    (("Unicode character escape",), "this escape names no character", "write the character itself", False),
    (("hexdecimal number", "hexadecimal number"), "this escape is incomplete", None, False),
    (("undefined tag handle", "expected '>'", "scanning a tag"), "tags are not allowed", "remove it", False),
    (("alphabetic or numeric",), "a name must follow & or *", _QUOTE_IT, False),
    (
        ("comment or line break", "chomping or indentation"),
        "only a line break can follow | or >",
        None,
        False,
    ),
    (("node content",), "a value is missing here", None, False),
    (("expected '-' indicator",), "this list goes on with something that is no item", _INDENT, False),
    (("directive",), "directives (% at the start of a line) are not allowed", "remove the line", False),
    (("incompatible YAML document",), "only YAML 1.2 is read", "remove the %YAML line", False),
    (("<document start>",), "the document has ended before this", "remove what follows `...`", False),
)


def explain_syntax(error: yaml.YAMLError, source: Source) -> Diagnostic:
    """The parser's complaint as a diagnostic."""
    problem, context = str(getattr(error, "problem", "") or error), str(getattr(error, "context", "") or "")
    at = _index(getattr(error, "problem_mark", None))
    began = _index(getattr(error, "context_mark", None))
    if at and source.text[at - 1 : at + 1] == "${":
        return _explain_variable(source, at - 1)
    message, hint, from_start = _choose_words(f"{context} {problem}", source.text, at or 0)
    place = began if from_start and began is not None else at
    span = None if place is None else source.span(place, place + 1)
    return Diagnostic("LMQ105", message, suggestion=hint, span=span)


def _explain_variable(source: Source, at: int) -> Diagnostic:
    """Inside `{ }` and `[ ]` a brace always opens a mapping, also after a dollar sign."""
    end = source.text.find("}", at) + 1 or at + 2
    message = "a variable inside { } or [ ] needs quotes"
    hint = f'write "{source.text[at:end]}"' if end - at < 60 and "\n" not in source.text[at:end] else None
    return Diagnostic("LMQ105", message, suggestion=hint, span=source.span(at, end))


def _choose_words(said: str, text: str, at: int) -> tuple[str, str | None, bool]:
    if text[at : at + 1] == "\t" and ("token" in said or "tab" in said):
        return "a tab cannot indent a line", "indent with spaces", False
    if "cannot start any token" in said:
        return f"a value cannot start with {text[at : at + 1]!r}", "put the value in quotes", False
    if "mapping values" in said:
        return "a colon is not expected here", _explain_colon(text, at), False
    for needles, message, hint, from_start in _WORDS:
        if any(needle in said for needle in needles):
            return message, hint, from_start
    if "expected key" in said or "<block end>" in said:
        return (*_explain_stray(text, at), False)
    return f"this is not YAML: {said.strip()}", None, False


def _explain_colon(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    if ":" in line:
        return "put the value in quotes if the colon belongs to it, else start a new line"
    return "check the indentation of this line and whether the line above misses its colon"


def _explain_stray(text: str, at: int) -> tuple[str, str | None]:
    if text[at : at + 1] in {"]", "}"}:
        return f"this {text[at]} closes nothing", "remove it"
    if text[text.rfind("\n", 0, at) + 1 : at].strip():
        return "nothing can follow this value on its line", "put the whole value in one pair of quotes"
    if text[at : at + 2] == "- ":
        return "a list item stands among the keys of a mapping", "give the list a key, and indent it below"
    return "the indentation of this line fits no line above", _INDENT


def _index(mark: Any) -> int | None:
    return None if mark is None else int(mark.index)

from __future__ import annotations

import pytest

from leanmq_topology.cli.diagnostics_text import (
    MAX_WIDTH,
    render_diagnostics,
    render_github,
)
from leanmq_topology.diagnostics import Diagnostic, Severity, Span


def _finding(source: str, column: int = 1, length: int = 1, **facts: object) -> Diagnostic:
    span = Span("topology.yaml", 12, column, length, source)
    given = {"code": "LMQ203", "message": "unknown key 'tll'", "span": span, **facts}
    return Diagnostic(**given)  # type: ignore[arg-type]


def test_finding_shows_place_reason_address_line_caret_and_help() -> None:
    found = _finding("    tll: 1d", 5, 3, address="queues.billing.tll", suggestion="did you mean 'ttl'?")
    assert render_diagnostics([found]) == (
        "topology.yaml:12:5: error LMQ203: unknown key 'tll'\n"
        "  queues.billing.tll\n"
        "  12 |     tll: 1d\n"
        "     |     ^^^\n"
        "  help: did you mean 'ttl'?\n"
        "\n"
        "1 error"
    )


def test_last_line_counts_errors_and_warnings() -> None:
    warning = _finding("x", severity=Severity.WARNING)
    text = render_diagnostics([_finding("a"), _finding("b"), _finding("c"), warning])
    assert text.endswith("\n\n3 errors, 1 warning")
    assert render_diagnostics([warning]).endswith("\n\n1 warning")
    assert render_diagnostics([]) == ""


def test_finding_without_a_place_still_names_its_address() -> None:
    found = Diagnostic("LMQ101", "there is no file a.yaml")
    assert render_diagnostics([found]).startswith("error LMQ101: there is no file a.yaml\n")
    found = Diagnostic("LMQ301", "not a name", address="queues.A")
    assert render_diagnostics([found]).startswith("queues.A: error LMQ301: not a name\n")


def test_caret_stands_below_its_text_after_tabs() -> None:
    source, caret = _source_lines(_finding("\tttl: 10", 7, 2))
    assert source.index("10") == caret.index("^^")


def test_caret_counts_wide_letters_as_two_columns_and_combining_marks_as_none() -> None:
    source, caret = _source_lines(_finding("漢字e\u0301: 10", 7, 2))
    assert caret.count("^") == 2
    assert caret.index("^") - caret.index("|") - 2 == 4 + 1 + 2  # two wide, one letter, ": "
    assert source.endswith("10")
    _, caret = _source_lines(_finding("k: 漢字", 4, 2))
    assert caret.count("^") == 4


@pytest.mark.parametrize("column", [1, 150, 299])
def test_long_line_is_cut_around_the_caret(column: int) -> None:
    line = "".join(chr(ord("a") + at % 26) for at in range(300))
    source, caret = _source_lines(_finding(line, column, 1))
    assert len(source) < MAX_WIDTH + 12
    assert source[caret.index("^")] == line[column - 1]
    assert ("…" in source[:10]) == (column > MAX_WIDTH // 3)


def test_long_span_is_cut_with_its_line() -> None:
    source, caret = _source_lines(_finding("a" * 500, 1, 500))
    assert len(caret) <= len(source)


def test_span_behind_the_end_of_its_line_is_still_shown() -> None:
    source, caret = _source_lines(_finding("ttl:", 5, 1))
    assert caret.index("^") == len(source)


@pytest.mark.parametrize(
    ("letter", "shown"), [("\x1b", "\\x1b"), ("\u202e", "\\u202e"), ("\u200b", "\\u200b"), ("\x07", "\\x07")]
)
def test_control_and_direction_characters_are_escaped_everywhere(letter: str, shown: str) -> None:
    found = _finding(
        f"a: {letter}b",
        4,
        1,
        message=f"bad {letter}",
        address=f"queues.{letter}",
        suggestion=f"not {letter}",
    )
    text = render_diagnostics([found])
    assert letter not in text
    assert text.count(shown) == 4
    assert _source_lines(found)[1].count("^") == len(shown)


def test_message_stays_on_its_line() -> None:
    text = render_diagnostics([_finding("a", message="one\ntwo")])
    assert text.splitlines()[0].endswith("one\\x0atwo")


def test_color_marks_the_label_and_plain_text_has_no_escapes() -> None:
    assert "\x1b[" in render_diagnostics([_finding("a")], color=True)
    assert "\x1b[" not in render_diagnostics([_finding("a")])


def test_github_annotation_escapes_what_would_end_it() -> None:
    span = Span("a,b:c.yaml", 3, 7, 1, "x")
    found = Diagnostic("LMQ203", "100% wrong\nreally", "queues.a", "try: this, or that", span=span)
    assert render_github([found]) == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=7,title=LMQ203 queues.a"
        "::100%25 wrong%0Areally%0Ahelp: try: this, or that"
    )
    warning = Diagnostic("LMQ401", "hm", severity=Severity.WARNING)
    assert render_github([warning]) == "::warning title=LMQ401::hm"


def _source_lines(found: Diagnostic) -> tuple[str, str]:
    lines = render_diagnostics([found]).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  12 |"))
    return lines[at], lines[at + 1]

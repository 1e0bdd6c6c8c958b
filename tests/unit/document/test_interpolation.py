from __future__ import annotations

import time

import pytest

from leanmq_topology.document.interpolation import (
    MAX_LENGTH,
    Interpolated,
    MalformedError,
    UnsetError,
    interpolate,
)

_ENVIRON = {"A": "one", "B": "two", "EMPTY": "", "TRICK": "${A}", "file": "f"}


def _fill(text: str) -> str:
    return _interpolate(text).text


def _interpolate(text: str) -> Interpolated:
    return interpolate(text, _ENVIRON, lambda path: f"<{path}>")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("${A}", "one"),
        ("a${A}b${B}c", "aonebtwoc"),
        ("${EMPTY}", ""),
        ("${GONE:-b}", "b"),
        ("${GONE:-}", ""),
        ("${EMPTY:-b}", "b"),
        ("${A:-b}", "one"),
        ("${GONE:-${ALSO_GONE:-${B}}}", "two"),
        ("${GONE:-a $$ b}", "a $ b"),
        ("${A:-${GONE}}", "one"),
        ("${A:?must be there}", "one"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("$A costs $5", "$A costs $5"),
        ("a$", "a$"),
        ("} ${A} }", "} one }"),
        ("${file:secrets/token}", "<secrets/token>"),
        ("${file}", "f"),
        ("${GONE:-embedded:}", "embedded:"),
        ("${GONE:-redis://u:p@h/0?a=b}", "redis://u:p@h/0?a=b"),
    ],
)
def test_variables_are_filled_in(text: str, filled: str) -> None:
    assert _fill(text) == filled


def test_what_a_variable_holds_is_never_read_again() -> None:
    assert _fill("${TRICK}") == "${A}"


def test_value_with_a_secret_file_in_it_is_secret() -> None:
    assert _interpolate("redis://:${file:pw}@host").is_secret
    assert not _interpolate("${A}").is_secret
    assert not _interpolate("${A:-${file:pw}}").is_secret


def test_all_unset_variables_are_named_at_once() -> None:
    with pytest.raises(UnsetError) as unset:
        _fill("${X} ${A} ${Y:-${Z}} ${X}")
    assert unset.value.names == ("X", "Z")


@pytest.mark.parametrize("text", ["${X:?say which server}", "${EMPTY:?say which server}"])
def test_required_variable_says_what_its_author_wrote(text: str) -> None:
    with pytest.raises(UnsetError) as unset:
        _fill(text)
    assert unset.value.message == "say which server"


@pytest.mark.parametrize(
    ("text", "at", "words"),
    [
        ("a${", 1, "name must follow"),
        ("${}", 0, "name must follow"),
        ("${1A}", 0, "name must follow"),
        ("${ A}", 0, "name must follow"),
        ("${A", 0, "never closed"),
        ("x${A:-b", 1, "never closed"),
        ("${file:x", 0, "never closed"),
        ("${A-b}", 3, "a default starts with :-"),
        ("${A!}", 3, "cannot follow the name A"),
        ("${A B}", 3, "cannot follow the name A"),
        ("${A:-${B:-${}}}", 10, "name must follow"),
        ("${X:-" * 11 + "}" * 11, 50, "nested more than 10 deep"),
    ],
)
def test_malformed_variable_is_refused_where_it_stands(text: str, at: int, words: str) -> None:
    with pytest.raises(MalformedError, match=words) as refused:
        _fill(text)
    assert refused.value.at == at
    assert refused.value.hint


def test_value_cannot_grow_without_end() -> None:
    started = time.process_time()
    with pytest.raises(MalformedError, match="grows to more than"):
        interpolate("${A}" * 1_000_000, {"A": "x" * 100_000}, str)
    assert time.process_time() - started < 1
    assert len(interpolate("${A}", {"A": "x" * MAX_LENGTH}, str).text) == MAX_LENGTH

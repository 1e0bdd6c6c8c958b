"""What holds for every file, whatever is in it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanmq_topology.cli.diagnostics_text import render_diagnostics, render_github
from leanmq_topology.diagnostics import Diagnostic, explain_code
from leanmq_topology.document.json_schema import check_shape
from leanmq_topology.document.loading import read_document
from leanmq_topology.document.source import Source, decode_source
from tests.unit.document.test_json_schema import EXAMPLE

# libyaml still takes U+2028 and U+2029 for ends of lines, as YAML 1.1 did; nobody writes them in a topology.
_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co", "Zl", "Zp"], exclude_characters="$\ufeff"),
    max_size=8,
)
_keys = _text.filter(lambda key: not key.startswith("x-"))
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=20,
)
_documents = st.dictionaries(
    _keys.filter(lambda key: key not in {"include", "environments"}), _values, min_size=1
)
_one_file = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)

_PIECES = ["\t", "  ", "- ", ": ", "{", "}", "[", "]", "'", '"', "&a ", "*a", "<<: ", "!!str ", "|", "?", "#"]
_PIECES += [
    "\n",
    "\r\n",
    "---\n",
    "${A}",
    "${",
    "😀",
    "\u2028",
    "\x85",
    "\ufeff",
    "\0",
    ".nan",
    "9" * 30,
    "x-",
]


@_one_file
@given(seed=st.integers(min_value=0, max_value=2**32), edits=st.integers(min_value=1, max_value=8))
def test_every_finding_lies_inside_its_file_and_can_be_shown(seed: int, edits: int, tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    text = _mutate(EXAMPLE, random.Random(seed), edits)
    path.write_bytes(text.encode())
    document, found = read_document([path], environ={})
    found += check_shape(document) if document else []
    decoded = decode_source(str(path), text.encode())
    for item in found:
        _check_place(item, decoded)
    render_diagnostics(found)
    render_github(found)


@_one_file
@given(values=_documents, is_block=st.booleans())
def test_file_without_variables_reads_as_plain_yaml_1_2(
    values: dict[str, Any], is_block: bool, tmp_path: Path
) -> None:
    path = tmp_path / "topology.yaml"
    text = _write_block(values, "") if is_block else json.dumps(values, ensure_ascii=False)
    path.write_bytes(text.encode())
    document, found = read_document([path], environ={})
    assert found == []
    assert document
    assert document.values == values
    assert _shape(document.values) == _shape(values)


@given(text=st.text(max_size=60), start=st.integers(0, 80), end=st.integers(0, 80))
def test_every_place_in_a_text_becomes_a_span_inside_it(text: str, start: int, end: int) -> None:
    span = Source("f", text).span(start, end)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert span.source == lines[span.line - 1]
    assert 1 <= span.column <= len(span.source) + 1
    assert span.length == 1 or span.column - 1 + span.length <= len(span.source)


def _check_place(item: Diagnostic, decoded: Source | Diagnostic) -> None:
    assert explain_code(item.code)
    assert item.message
    assert item.span
    if isinstance(decoded, Source):
        lines = decoded.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert item.span.source == lines[item.span.line - 1]
    assert 1 <= item.span.column <= len(item.span.source) + 1
    assert item.span.length == 1 or item.span.column - 1 + item.span.length <= len(item.span.source)


def _mutate(text: str, dice: random.Random, edits: int) -> str:
    for _ in range(edits):
        at = dice.randrange(len(text) + 1)
        until = min(len(text), at + dice.choice([0, 0, 1, 1, 5, 40]))
        text = text[:at] + dice.choice(["", *_PIECES]) + text[until:]
    return text


def _write_block(value: Any, indent: str) -> str:
    if isinstance(value, dict) and value:
        return "\n" * bool(indent) + "".join(
            f"{indent}{json.dumps(key, ensure_ascii=False)}: {_write_block(item, indent + '  ')}"
            for key, item in value.items()
        )
    if isinstance(value, list) and value:
        return "\n" + "".join(f"{indent}- {_write_block(item, indent + '  ')}" for item in value)
    return json.dumps(value, ensure_ascii=False) + "\n"


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return type(value), isinstance(value, float) and math.copysign(1, value)

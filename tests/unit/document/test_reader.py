"""Data files: message schemas and what they refer to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from leanmq_topology.document.composer import compose
from leanmq_topology.document.reader import locate, read_data
from leanmq_topology.document.source import Source
from tests.unit.document.files import place, write


def test_json_and_yaml_files_are_read_without_variables(tmp_path: Path) -> None:
    values = {"a": ["${A}", 1, 2.5, None, True], "x-b": {"c": "on"}}
    as_json = write(tmp_path, '{"a": ["${A}", 1, 2.5, null, true], "x-b": {"c": "on"}}', "a.json")
    as_yaml = write(tmp_path, "a: ['${A}', 1, 2.5, ~, true]\nx-b: {c: on}\n", "a.yaml")
    assert read_data(as_json) == (values, [])
    assert read_data(as_yaml) == (values, [])


def test_json_escapes_tabs_and_tight_colons_are_read(tmp_path: Path) -> None:
    text = '{\n\t"a": "\\ud83d\\ude00\\/\\u00e9",\n\t"b":[1,{"c":"\\\\ud83d\\\\ude00"}]\n}'
    data, found = read_data(write(tmp_path, text, "a.json"))
    assert found == []
    assert data == {"a": "😀/é", "b": [1, {"c": "\\ud83d\\ude00"}]}


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ('{"a": 1,}', ("LMQ105", 1, 9), "this is not JSON"),
        ("{a: 1}", ("LMQ105", 1, 2), "this is not JSON"),
        ('{"a": NaN}', ("LMQ113", 1, 7), "NaN is not a finite number"),
        ('{"a": -Infinity}', ("LMQ113", 1, 7), "-Infinity is not a finite number"),
        ('{"a": 1e999}', ("LMQ113", 1, 7), "out of range"),
        ('{"a": ' + "9" * 5000 + "}", ("LMQ113", 1, 7), "an integer of 5,000 digits"),
        ('{"a": 1,\n "a": 2}', ("LMQ107", 2, 2), "'a' is written twice"),
        ('{"a": "\\ud800"}', ("LMQ105", 1, 10), "names no character"),
        ("[" * 100_000, ("LMQ111", 1, 33), "nested more than 32 deep"),
        ("[" * 40 + "]" * 40, ("LMQ111", 1, 33), "nested more than 32 deep"),
        ("", ("LMQ105", 1, 1), "this is not JSON"),
    ],
)
def test_bad_json_is_refused_with_its_place(text: str, where: object, words: str, tmp_path: Path) -> None:
    data, (found,) = read_data(write(tmp_path, text, "a.json"))
    assert data is None
    assert place(found) == where
    assert words in found.message


def test_value_of_a_data_file_is_located(tmp_path: Path) -> None:
    path = write(tmp_path, '{"type": "object",\n "required": ["a", "b"]}', "a.json")
    span, item = locate(path, ["required"]), locate(path, ["required", 1])
    assert span
    assert item
    assert (span.file, span.line, span.column, span.length) == (str(path), 2, 2, 10)
    assert (item.line, item.column) == (2, 20)
    assert locate(path, ["gone"]) is None
    assert locate(tmp_path / "gone.json", []) is None


def test_pure_python_parser_gives_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: {b: [1, 'x']}\nc: 2\nb: |\n  text\n  more\nc: &d 3\n😀: *d\n? e\n"
    by_c = _dump(compose(Source("f.yaml", text)))
    monkeypatch.delattr(yaml, "CLoader")
    assert _dump(compose(Source("f.yaml", text))) == by_c
    _, (found,) = compose(Source("f.yaml", "[" * 100_000))
    assert found.code == "LMQ111"


def _dump(composed: tuple[object, object]) -> tuple[object, object]:
    def walk(node: object) -> object:
        entries, items = getattr(node, "entries", None), getattr(node, "items", None)
        here = (node.start, node.end)  # type: ignore[attr-defined]
        if entries is not None:
            return here, {name: (walk(key), walk(value)) for name, (key, value) in entries.items()}
        if items is not None:
            return here, [walk(item) for item in items]
        return here, node.text, node.is_plain  # type: ignore[attr-defined]

    return walk(composed[0]), composed[1]

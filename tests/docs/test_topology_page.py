"""`docs/topology.md` names every key of the topology's schema, with the values and defaults that hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.topology.support import UNSUPPORTED

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas" / "topology.schema.json").read_text(encoding="utf-8"))
PAGE = ROOT / "docs" / "topology.md"

KEY = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"\b[A-Z]+\b")
REFUSED = re.compile(r"\*Not supported yet\*(?::(?P<values>[^|]*))?")
SAME_AS_ELSEWHERE = {
    "defaults.queue",
    "defaults.handler",
    *(f"environments.*.{name}" for name in SCHEMA["properties"]),
}
"""Their keys are those of another section."""


@dataclass(frozen=True)
class Row:
    """One line of a table: what the page says about a key."""

    values: str
    default: str
    text: str


def read_rows() -> dict[str, Row]:
    """By path, with `*` for a name of the user's."""
    rows: dict[str, Row] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            titled = KEY.search(line)
            section = f"{titled[1]}." if titled else ""
        elif line.startswith("| `"):
            key, values, default, text = (cell.strip() for cell in line.strip("|").split("|"))
            found = KEY.fullmatch(key)
            assert found, line
            path = PLACEHOLDER.sub("*", section + found[1])
            assert path not in rows, f"{path} stands there twice"
            rows[path] = Row(values, default, text)
    return rows


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key of the schema with its own schema."""
    if path in SAME_AS_ELSEWHERE:
        return
    for part in parts(schema):
        for key, below in part.get("properties", {}).items():
            yield f"{path}{'.' if path else ''}{key}", below
            yield from walk(below, f"{path}{'.' if path else ''}{key}")
        named = part.get("additionalProperties")
        if isinstance(named, dict):
            yield from walk(named, f"{path}.*")


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all it is put together from; conditions only ask, so they are left out."""
    yield schema
    if "$ref" in schema:
        yield from parts(SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]])
    for word in ("allOf", "anyOf"):
        for part in schema.get(word, ()):
            yield from parts(part)
    if "then" in schema:
        yield from parts(schema["then"])


ROWS = read_rows()
KEYS: dict[str, list[dict[str, Any]]] = {}
for found_path, found_schema in walk(SCHEMA):
    KEYS.setdefault(found_path, []).append(found_schema)


def test_the_walk_sees_the_schema():
    assert {"leanmq", "queues.*.retry.steps", "routes.*.to.*.topics", "environments.*.queues"} <= set(KEYS)
    assert len(KEYS) > 60


def test_every_key_is_on_the_page_and_none_that_does_not_exist():
    assert set(KEYS) - set(ROWS) == set(), "missing in docs/topology.md"
    assert set(ROWS) - set(KEYS) == set(), "on the page, not in the schema"


@pytest.mark.parametrize("path", sorted(KEYS))
def test_values_and_default_are_those_of_the_schema(path: str):
    row = ROWS[path]
    for part in (part for schema in KEYS[path] for part in parts(schema)):
        for value in part.get("enum", ()):
            assert f"`{value}`" in row.values
        if "maximum" in part:
            assert f"{part['minimum']} to {part['maximum']}" in row.values
        if bounds := re.search(r"From (\w+) to (\w+)\.", part.get("description", "")):
            assert f"{bounds[1]} to {bounds[2]}" in row.values
    defaults = {json.dumps(schema["default"]).strip('"') for schema in KEYS[path] if "default" in schema}
    assert all(f"`{default}`" == row.default for default in defaults), defaults


@pytest.mark.parametrize("path", sorted(KEYS))
def test_a_key_is_marked_as_not_supported_yet_exactly_if_it_is_refused(path: str):
    refused = [entry for entry in UNSUPPORTED if f"{path}.".startswith(f"{'.'.join(entry.path)}.")]
    mark = REFUSED.search(ROWS[path].text)
    why = "docs/topology.md and topology/support.py disagree"
    if not refused:
        assert mark is None, why
        return
    assert mark is not None, why
    values = {value for entry in refused for value in entry.values or ()}
    assert set(KEY.findall(mark["values"] or "")) == values, why

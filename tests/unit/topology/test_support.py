"""The table of what does not work yet: it means real keys, it refuses each of them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.document.json_schema import topology_schema
from leanmq_topology.topology.support import ANY, UNSUPPORTED, Unsupported, without_unsupported
from tests.unit.topology.drafts import HEADER, check, errors, load


def describe(entry: Unsupported) -> str:
    return ".".join(entry.path) + (f"={'|'.join(sorted(entry.values))}" if entry.values else "")


def branches(schema: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and everything it is made of, references followed."""
    found, waiting = [], [schema]
    while waiting:
        current = waiting.pop()
        if "$ref" in current:
            current = definitions[current["$ref"].rpartition("/")[2]]
        found.append(current)
        waiting += [*current.get("allOf", []), *current.get("anyOf", [])]
        waiting += [current["then"]] if "then" in current else []
    return found


def descend(schemas: list[dict[str, Any]], key: str, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    below = []
    for schema in schemas:
        inner = schema.get("additionalProperties") if key == ANY else schema.get("properties", {}).get(key)
        below += branches(inner, definitions) if isinstance(inner, dict) else []
    return below


@pytest.mark.parametrize("entry", UNSUPPORTED, ids=describe)
def test_every_entry_is_a_key_of_the_published_schema(entry: Unsupported):
    schema = topology_schema()
    found = branches(schema, schema["definitions"])
    for key in entry.path:
        found = descend(found, key, schema["definitions"])
    assert found, f"{describe(entry)} is not a key of the language"

    words = {word for branch in found for word in branch.get("enum", [])}
    patterns = "".join(branch.get("pattern", "") for branch in found)
    for value in entry.values or ():
        assert value in words or value in patterns


REFUSED = {
    ("queues", ANY, "lifecycle", "on_remove"): "queues: {q: {lifecycle: {on_remove: retain}}}",
    ("moved",): "queues: {new: {}}\nmoved: {queues.old: queues.new}",
}
"""A file for each key that is refused. Whoever makes one work takes out its row there and here."""


def own_path(entry: Unsupported) -> tuple[str, ...]:
    """The entry's path at the resource itself, for those in `defaults`."""
    if entry.path[0] == "defaults":
        return (f"{entry.path[1]}s", ANY, *entry.path[2:])
    return entry.path


def test_there_is_a_file_for_every_entry_and_none_too_many():
    assert {own_path(entry) for entry in UNSUPPORTED} == set(REFUSED)


@pytest.mark.parametrize("path", REFUSED, ids=".".join)
def test_a_key_that_does_not_work_yet_is_refused_and_nothing_else_is(path: tuple[str, ...], tmp_path: Path):
    found = errors(check(tmp_path, HEADER + REFUSED[path]))

    address = ".".join("q" if step == ANY else step for step in path)
    assert [(code, where) for code, where, _ in found] == [("LMQ401", address)]


@pytest.mark.parametrize(
    "path", [entry.path for entry in UNSUPPORTED if entry.path[0] == "defaults"], ids=".".join
)
def test_a_default_that_does_not_work_yet_is_refused_where_it_stands(path: tuple[str, ...], tmp_path: Path):
    values = {
        "on_remove": "retain",
    }
    text = values[path[-1]]
    for key in reversed(path):
        text = f"{{{key}: {text}}}"
    found = errors(check(tmp_path, f"{HEADER}queues: {{a: {{}}}}\n{text[1:-1]}"))

    assert [(code, where) for code, where, _ in found] == [("LMQ401", ".".join(path))]


def test_values_that_do_work_are_not_refused(tmp_path: Path):
    text = """
broker: {durability: replicated:1}
queues:
  a: {overflow: drop_oldest, max_length: 5, deduplication: {window: 1m}}
  b: {keep_acked: 1d, dead_letter: {ttl: 1d, max_length: 5}}
routes: {r: {type: fanout, to: {a: {}}}}
"""
    assert errors(check(tmp_path, HEADER + text)) == []


def test_only_the_chosen_environment_is_judged(tmp_path: Path):
    text = "queues: {a: {}}\nenvironments: {prod: {queues: {a: {lifecycle: {on_remove: drain}}}}}"

    assert errors(check(tmp_path, HEADER + text)) == []
    found = errors(check(tmp_path, HEADER + text, environment="prod"))
    assert found == [("LMQ401", "queues.a.lifecycle.on_remove", "on_remove")]


def test_what_is_left_out_of_a_copy_is_exactly_what_is_refused():
    values = {
        "broker": {"namespace": "shop"},
        "moved": {"queues.b": "queues.a"},
        "queues": {"a": {"ttl": "1d", "lifecycle": {"on_remove": "drain"}}},
    }

    assert without_unsupported(values) == {
        "broker": {"namespace": "shop"},
        "queues": {"a": {"ttl": "1d", "lifecycle": {}}},
    }
    assert values["queues"]["a"]["lifecycle"], "the original must stay as it was"


def test_a_supported_file_loads(tmp_path: Path):
    assert load(tmp_path, HEADER + "queues: {a: {}}").queues["a"].max_crashes == 3

"""The table of what does not work yet: it means real keys, it refuses each of them, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.document.json_schema import topology_schema
from leanmq_topology.topology import support
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
    ("moved",): "queues: {new: {}}\nmoved: {queues.old: queues.new}",
}
"""A file for each key that is refused. Whoever makes one work takes out its row there and here."""


def test_there_is_a_file_for_every_entry_and_none_too_many():
    assert {entry.path for entry in UNSUPPORTED} == set(REFUSED)


@pytest.mark.parametrize("path", REFUSED, ids=".".join)
def test_a_key_that_does_not_work_yet_is_refused_and_nothing_else_is(path: tuple[str, ...], tmp_path: Path):
    found = errors(check(tmp_path, HEADER + REFUSED[path]))

    address = ".".join("q" if step == ANY else step for step in path)
    assert [(code, where) for code, where, _ in found] == [("LMQ401", address)]


def test_values_that_do_work_are_not_refused(tmp_path: Path):
    text = """
broker: {durability: replicated:1}
queues:
  a: {overflow: drop_oldest, max_length: 5, deduplication: {window: 1m}}
  b: {keep_acked: 1d, lifecycle: {on_remove: drain}, dead_letter: {ttl: 1d, max_length: 5}}
routes: {r: {type: fanout, to: {a: {}}}}
"""
    assert errors(check(tmp_path, HEADER + text)) == []


@pytest.fixture
def without_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that does not know one value of one key, in whatever queue."""
    missing = Unsupported(("queues", ANY, "lifecycle", "on_remove"), "leave it out", frozenset({"drain"}))
    monkeypatch.setattr(support, "UNSUPPORTED", (*UNSUPPORTED, missing))


@pytest.mark.usefixtures("without_drain")
def test_only_the_chosen_environment_is_judged(tmp_path: Path):
    text = "queues: {a: {}}\nenvironments: {prod: {queues: {a: {lifecycle: {on_remove: drain}}}}}"

    assert errors(check(tmp_path, HEADER + text)) == []
    found = errors(check(tmp_path, HEADER + text, environment="prod"))
    assert [(code, where) for code, where, _ in found] == [("LMQ401", "queues.a.lifecycle.on_remove")]


@pytest.mark.usefixtures("without_drain")
def test_what_is_left_out_of_a_copy_is_exactly_what_is_refused():
    values = {
        "broker": {"namespace": "shop"},
        "moved": {"queues.b": "queues.a"},
        "queues": {
            "a": {"ttl": "1d", "lifecycle": {"on_remove": "drain"}},
            "b": {"lifecycle": {"on_remove": "retain"}},
        },
    }

    assert without_unsupported(values) == {
        "broker": {"namespace": "shop"},
        "queues": {"a": {"ttl": "1d", "lifecycle": {}}, "b": {"lifecycle": {"on_remove": "retain"}}},
    }
    assert values["queues"]["a"]["lifecycle"], "the original must stay as it was"


def test_a_supported_file_loads(tmp_path: Path):
    assert load(tmp_path, HEADER + "queues: {a: {}}").queues["a"].max_crashes == 3

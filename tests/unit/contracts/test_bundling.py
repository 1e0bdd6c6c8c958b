"""Bundling: files become one schema, and every place in it still knows where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.contracts.schemas import (
    Bundled,
    bundle_file,
    bundle_schema,
    check_bundle,
    check_schema,
    compile_schema,
)

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


class Folder:
    """A folder of schema files, and what was read from it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topology = path / "topology.yaml"
        self.opened: list[str] = []

    def write(self, name: str, schema: Any) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(schema), encoding="utf-8")

    def read(self, path: Path) -> Any:
        self.opened.append(path.name)
        return json.loads(path.read_text(encoding="utf-8"))

    def bundle(self, raw: Any) -> Bundled:
        return bundle_schema(raw, base=self.topology, folder=self.path, read=self.read)

    def bundle_file(self, reference: str) -> Bundled:
        return bundle_file(reference, base=self.topology, folder=self.path, read=self.read)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_references_to_files_become_one_schema_that_needs_none(folder: Folder) -> None:
    folder.write(
        "schemas/order.json", {"type": "object", "properties": {"total": {"$ref": "../common/money.json"}}}
    )
    folder.write(
        "common/money.json",
        {
            "type": "object",
            "required": ["cents"],
            "$ref": "#/$defs/base",
            "$defs": {"base": {"properties": {"cents": {"type": "integer"}}}},
        },
    )

    bundled = folder.bundle_file("schemas/order.json")

    assert check_bundle(bundled) == []
    assert {path.name for path in bundled.files} == {"order.json", "money.json"}
    judge = compile_schema(bundled.schema)
    assert judge.is_valid({"total": {"cents": 5}})
    assert not judge.is_valid({"total": {"cents": "5"}})
    assert not judge.is_valid({"total": {}})


def test_inline_schema_refers_to_files_relative_to_the_file_it_stands_in(folder: Folder) -> None:
    folder.write("common.json", {"definitions": {"sku": {"type": "string"}}})

    bundled = folder.bundle({"properties": {"sku": {"$ref": "common.json#/definitions/sku"}}})

    assert bundled.schema == {
        "properties": {"sku": {"$ref": "#/$defs/common.json%23~1definitions~1sku"}},
        "$defs": {"common.json#/definitions/sku": {"type": "string"}},
    }
    assert not compile_schema(bundled.schema).is_valid({"sku": 1})


def test_reference_with_a_fragment_names_a_part_of_a_file(folder: Folder) -> None:
    folder.write("all.json", {"$schema": DRAFT_7, "definitions": {"order": {"required": ["id"]}}})

    bundled = folder.bundle_file("all.json#/definitions/order")

    assert check_bundle(bundled) == []
    assert bundled.schema["$schema"] == DRAFT_7.removesuffix("#")
    assert not compile_schema(bundled.schema).is_valid({})


def test_files_that_refer_to_each_other_are_bundled_once(folder: Folder) -> None:
    folder.write(
        "tree.json",
        {"type": "object", "properties": {"leaves": {"type": "array", "items": {"$ref": "leaf.json"}}}},
    )
    folder.write(
        "leaf.json", {"type": "object", "required": ["name"], "properties": {"tree": {"$ref": "tree.json"}}}
    )

    bundled = folder.bundle_file("tree.json")

    assert check_bundle(bundled) == []
    assert sorted(folder.opened) == ["leaf.json", "tree.json"]
    judge = compile_schema(bundled.schema)
    assert judge.is_valid({"leaves": [{"name": "a", "tree": {"leaves": [{"name": "b"}]}}]})
    violation = judge.find_violation({"leaves": [{"name": "a", "tree": {"leaves": [{}]}}]})
    assert violation is not None
    assert violation.path == "/leaves/0/tree/leaves/0"


def test_shared_parts_of_a_document_are_rewritten_once(folder: Folder) -> None:
    folder.write("a.json", {"type": "string"})
    shared = {"$ref": "a.json"}

    bundled = folder.bundle({"properties": {"x": shared, "y": shared}})

    assert check_bundle(bundled) == []
    assert shared == {"$ref": "a.json"}
    assert not compile_schema(bundled.schema).is_valid({"y": 1})


def test_own_definitions_and_embedded_ones_live_side_by_side(folder: Folder) -> None:
    folder.write("a.json", {"type": "string"})
    raw = {
        "$defs": {"a.json": {"type": "integer"}},
        "properties": {"x": {"$ref": "a.json"}, "y": {"$ref": "#/$defs/a.json"}},
    }

    judge = compile_schema(folder.bundle(raw).schema)

    assert judge.is_valid({"x": "text", "y": 1})
    assert not judge.is_valid({"x": 1})
    assert not judge.is_valid({"y": "text"})


def test_what_only_looks_like_a_reference_is_left_alone(folder: Folder) -> None:
    raw = {"const": {"$ref": "nowhere.json"}, "properties": {"$ref": {"type": "string"}}}

    assert folder.bundle(raw).schema == raw
    assert folder.opened == []


def test_mistake_in_an_embedded_file_is_placed_in_that_file(folder: Folder) -> None:
    folder.write("schemas/order.json", {"properties": {"total": {"$ref": "money.json#/$defs/money"}}})
    folder.write("schemas/money.json", {"$defs": {"money": {"properties": {"cents": {"type": "integr"}}}}})

    (problem,) = check_bundle(folder.bundle_file("schemas/order.json"))

    assert problem.code == "LMQ221"
    assert problem.file == folder.path / "schemas/money.json"
    assert problem.pointer == ("$defs", "money", "properties", "cents", "type")


def test_mistake_in_the_root_file_is_placed_in_it_and_inline_ones_have_no_file(folder: Folder) -> None:
    folder.write("order.json", {"type": "objct"})

    (in_file,) = check_bundle(folder.bundle_file("order.json"))
    (inline,) = check_bundle(folder.bundle({"type": "objct"}))

    assert (in_file.file, in_file.pointer) == (folder.path / "order.json", ("type",))
    assert (inline.file, inline.pointer) == (None, ("type",))


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("https://example.com/a.json", "LMQ224"),
        ("file:///etc/passwd", "LMQ224"),
        ("urn:example:a", "LMQ224"),
        ("//example.com/a.json", "LMQ224"),
        ("/etc/passwd", "LMQ225"),
        ("../outside.json", "LMQ225"),
        ("%2e%2e/outside.json", "LMQ225"),
        ("schemas/../../outside.json", "LMQ225"),
        ("link.json", "LMQ225"),
        ("linked/a.json", "LMQ225"),
        ("a\\b.json", "LMQ225"),
        ("missing.json", "LMQ226"),
        ("good.json#/$defs/stirng", "LMQ226"),
        ("good.json#anchor", "LMQ228"),
        ("broken.json", "LMQ236"),
        ("folder", "LMQ236"),
        ("old.json", "LMQ229"),
    ],
)
def test_reference_that_cannot_be_followed_is_one_error_at_its_place(
    folder: Folder, reference: str, code: str
) -> None:
    inner = Folder(folder.path / "project")
    folder.write("outside.json", {"type": "string"})
    inner.write("good.json", {"$defs": {"string": {"type": "string"}}})
    inner.write("old.json", {"$schema": DRAFT_7, "type": "string"})
    (inner.path / "broken.json").write_text("{", encoding="utf-8")
    (inner.path / "folder").mkdir()
    (inner.path / "link.json").symlink_to(folder.path / "outside.json")
    (inner.path / "linked").symlink_to(folder.path)

    problems = check_bundle(inner.bundle({"properties": {"a": {"$ref": reference}}}))

    assert [(problem.code, problem.pointer) for problem in problems] == [(code, ("properties", "a", "$ref"))]
    assert "outside.json" not in inner.opened


@pytest.mark.parametrize(
    ("reference", "code"),
    [("https://example.com/a", "LMQ224"), ("../a.json", "LMQ225"), ("a.json", "LMQ226")],
)
def test_file_that_a_message_names_is_guarded_in_the_same_way(
    folder: Folder, reference: str, code: str
) -> None:
    bundled = folder.bundle_file(reference)

    assert [problem.code for problem in bundled.problems] == [code]


def test_reader_that_has_reported_a_file_itself_is_not_doubled(folder: Folder) -> None:
    def read(path: Path) -> Any:
        raise ValueError

    raw = {"properties": {"a": {"$ref": "a.json"}, "b": {"type": "strng"}}}
    bundled = bundle_schema(raw, base=folder.topology, folder=folder.path, read=read)

    assert [problem.code for problem in check_bundle(bundled)] == ["LMQ221"]


def test_bundle_without_files_is_the_schema_itself(folder: Folder) -> None:
    for raw in (True, {"type": "string"}, {"$ref": "#/$defs/a", "$defs": {"a": {}}}):
        assert folder.bundle(raw).schema == raw
    assert folder.opened == []


def test_loop_through_two_files_is_found(folder: Folder) -> None:
    folder.write("a.json", {"$ref": "b.json"})
    folder.write("b.json", {"$ref": "a.json"})

    problems = check_bundle(folder.bundle_file("a.json"))

    assert [problem.code for problem in problems] == ["LMQ227"]


def test_bundled_schema_reads_the_same_wherever_the_project_lies(tmp_path: Path) -> None:
    bundled = []
    for place in ("here", "elsewhere/deep"):
        folder = Folder(tmp_path / place)
        folder.write("schemas/a.json", {"items": {"$ref": "b.json"}})
        folder.write("schemas/b.json", {"type": "string"})
        bundled.append(folder.bundle_file("schemas/a.json").schema)

    assert bundled[0] == bundled[1]
    assert check_schema(bundled[0]) == []

"""Message schemas as a topology has them: in a file or in place, each mistake where its author wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from leanmq_topology.diagnostics import Severity
from leanmq_topology.topology import message_schemas
from tests.unit.topology.drafts import HEADER, check, errors, shorten, underlined, warnings


class Row(NamedTuple):
    name: str
    schema: str
    code: str
    underlined: str
    severity: Severity = Severity.ERROR


SCHEMAS = [
    Row("D27 an unknown type", '{"type": "strng"}', "LMQ221", '"type"'),
    Row("D28 a misspelt keyword", '{"requried": ["id"]}', "LMQ222", '"requried"'),
    Row("D29 an unknown format", '{"type": "string", "format": "colour"}', "LMQ223", '"format"'),
    Row("D30 a reference to the network", '{"$ref": "https://example.org/s.json"}', "LMQ224", '"$ref"'),
    Row("D30 a reference to a file of the system", '{"$ref": "file:///etc/passwd"}', "LMQ224", '"$ref"'),
    Row("D31 a loop", '{"$ref": "#"}', "LMQ227", '"$ref"'),
    Row(
        "D32 an unknown dialect",
        '{"$schema": "http://json-schema.org/draft-03/schema#"}',
        "LMQ229",
        '"$schema"',
    ),
    Row("D32 a dynamic reference", '{"$dynamicRef": "#x"}', "LMQ228", '"$dynamicRef"'),
    Row("D33 a broken expression", '{"type": "string", "pattern": "("}', "LMQ230", '"pattern"'),
    Row("D33 a look-behind", '{"type": "string", "pattern": "(?<=a)b"}', "LMQ230", '"pattern"'),
    Row("D34 long unique lists", '{"type": "array", "uniqueItems": true}', "LMQ231", '"uniqueItems"'),
    Row("D35 multiples of a fraction", '{"multipleOf": 0.1}', "LMQ232", '"multipleOf"', Severity.WARNING),
    Row("D36 anything", "true", "LMQ233", "true", Severity.WARNING),
    Row("D36 nothing", "false", "LMQ233", "false", Severity.WARNING),
]


@pytest.mark.parametrize("row", SCHEMAS, ids=lambda row: row.name)
def test_a_mistake_in_a_schema_file_is_shown_in_that_file(row: Row, tmp_path: Path):
    text = HEADER + "messages: {a: {schema: schemas/a.json}}\nqueues: {q: {accepts: [a]}}"
    found = check(tmp_path, text, files={"schemas/a.json": row.schema})

    (found_one,) = found
    assert shorten(found_one) == (row.code, "messages.a.schema", row.underlined)
    assert found_one.severity is row.severity
    assert found_one.span is not None
    assert found_one.span.file.endswith("a.json")


@pytest.mark.parametrize("row", SCHEMAS, ids=lambda row: row.name)
def test_a_mistake_in_a_schema_in_place_is_shown_there(row: Row, tmp_path: Path):
    text = HEADER + f"messages:\n  a:\n    schema: {row.schema}\nqueues: {{q: {{accepts: [a]}}}}"

    (found,) = check(tmp_path, text)

    assert shorten(found) == (row.code, "messages.a.schema", row.underlined)


def test_a_schema_nested_a_hundred_deep_is_refused_without_a_traceback(tmp_path: Path):
    deep = '{"not": ' * 100 + "{}" + "}" * 100
    text = HEADER + "messages: {a: {schema: a.json}}"

    assert [code for code, _, _ in errors(check(tmp_path, text, files={"a.json": deep}))] == ["LMQ111"]


def test_a_schema_file_that_does_not_exist_is_reported_at_its_path(tmp_path: Path):
    text = HEADER + "messages: {a: {schema: schemas/nope.json}, b: {schema: schemas/nope.json}}"

    assert errors(check(tmp_path, text)) == [
        ("LMQ226", "messages.a.schema", "schemas/nope.json"),
        ("LMQ226", "messages.b.schema", "schemas/nope.json"),
    ]


def test_a_schema_file_outside_the_folder_is_not_read(tmp_path: Path):
    (tmp_path / "outside.json").write_text("{}")
    folder = tmp_path / "inside"
    folder.mkdir()

    assert errors(check(folder, HEADER + "messages: {a: {schema: ../outside.json}}")) == [
        ("LMQ225", "messages.a.schema", "../outside.json")
    ]


def test_a_file_that_is_not_json_is_reported_once_where_it_breaks(tmp_path: Path):
    text = HEADER + "messages: {a: {schema: a.json}, b: {schema: a.json}}\nqueues: {q: {accepts: [a, b]}}"
    found = check(tmp_path, text, files={"a.json": '{\n  "type": object\n}'})

    assert [item.code for item in found] == ["LMQ105"]
    assert found[0].span is not None
    assert (found[0].span.line, found[0].span.column) == (2, 11)


def test_a_broken_schema_says_nothing_about_its_examples(tmp_path: Path):
    text = HEADER + 'messages: {a: {schema: {type: objct}, examples: ["text"]}}\nqueues: {q: {accepts: [a]}}'

    assert [code for code, _, _ in errors(check(tmp_path, text))] == ["LMQ221"]


def test_a_path_is_relative_to_the_file_it_stands_in(tmp_path: Path):
    files = {
        "parts/more.yaml": "messages: {a: {schema: schemas/a.json}}\nqueues: {q: {accepts: [a]}}",
        "parts/schemas/a.json": '{"type": "object"}',
    }

    assert check(tmp_path, HEADER + "include: [parts/more.yaml]", files=files) == []


def test_one_file_for_many_types_is_read_and_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reads = []
    original = message_schemas.read_data
    monkeypatch.setattr(message_schemas, "read_data", lambda path: reads.append(path) or original(path))
    names = [f"m{number}" for number in range(50)]
    messages = ", ".join(f"{name}: {{schema: a.json}}" for name in names)
    text = f"{HEADER}messages: {{{messages}}}\nqueues: {{q: {{accepts: [{', '.join(names)}]}}}}"

    assert check(tmp_path, text, files={"a.json": '{"type": "object"}'}) == []
    assert len(reads) == 1


class TestExamples:
    SCHEMA = "{type: object, required: [id], properties: {id: {type: string}, tags: {items: {type: string}}}}"

    def check(self, tmp_path: Path, examples: str) -> list[tuple[str, str, str]]:
        message = f"messages:\n  a:\n    schema: {self.SCHEMA}\n    examples: {examples}\n"
        return errors(check(tmp_path, f"{HEADER}{message}queues: {{q: {{accepts: [a]}}}}"))

    def test_a_fitting_example_is_fine(self, tmp_path: Path):
        assert self.check(tmp_path, "[{id: A-1, tags: [x]}]") == []

    def test_each_wrong_example_is_reported_at_the_value_that_is_wrong(self, tmp_path: Path):
        assert self.check(tmp_path, "[{id: A-1}, {id: 5}, {id: A-2, tags: [x, 7]}]") == [
            ("LMQ421", "messages.a.examples[1].id", "5"),
            ("LMQ421", "messages.a.examples[2].tags[1]", "7"),
        ]

    def test_a_missing_property_is_reported_at_the_example(self, tmp_path: Path):
        assert self.check(tmp_path, "[{tags: []}]") == [("LMQ421", "messages.a.examples[0]", "{tags: []}")]

    def test_what_looks_like_a_variable_is_data_in_an_example(self, tmp_path: Path):
        assert self.check(tmp_path, '[{id: "${NOT_A_VARIABLE}"}]') == []


class TestMatches:
    TYPES = (
        "messages:\n"
        "  closed: {schema: {additionalProperties: false, properties: {total: {type: number}}}}\n"
        "  open: {schema: {properties: {total: {type: number}}}}\n"
    )

    def check(self, tmp_path: Path, accepts: str, match: str):
        text = (
            f"{HEADER}{self.TYPES}queues: {{q: {{accepts: [closed, open]}}}}\n"
            f"routes:\n  r:\n    type: fanout\n    accepts: [{accepts}]\n    to: {{q: {{match: {match}}}}}\n"
        )
        return check(tmp_path, text)

    def test_a_condition_on_a_declared_property_is_fine(self, tmp_path: Path):
        assert self.check(tmp_path, "closed, open", "{data.total: {minimum: 50}}") == []

    def test_a_property_that_the_schema_closes_out_is_an_error_at_its_key(self, tmp_path: Path):
        found = self.check(tmp_path, "closed", "{data.totl: 5}")
        assert errors(found) == [("LMQ247", "routes.r.to.q.match.data.totl", "5")]

    def test_a_property_that_the_schema_leaves_open_is_a_warning(self, tmp_path: Path):
        found = self.check(tmp_path, "open", "{data.totl: 5}")
        assert (errors(found), [code for code, _, _ in warnings(found)]) == ([], ["LMQ248"])

    def test_a_path_into_nowhere_is_an_error(self, tmp_path: Path):
        found = self.check(tmp_path, "open", "{total: 5}")
        assert [item.code for item in found] == ["LMQ245"]
        assert underlined(found[0]) == "5"

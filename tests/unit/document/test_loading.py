"""Includes, overlays, environments, variables: several files and settings as one document."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from leanmq_topology.document.loading import read_document
from tests.unit.document.files import HEADER, find_mistakes, place, read, write


def test_document_holds_values_files_and_folder(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "queues: {billing: {ttl: 1d, accepts: [a]}}\n")
    document = read(path)
    assert document.values == {
        "leanmq": 1,
        "name": "shop",
        "queues": {"billing": {"ttl": "1d", "accepts": ["a"]}},
    }
    assert (document.folder, document.files) == (tmp_path, (path,))


def test_yaml_1_2_leaves_words_and_times_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "on: no\nyes: 1:30\nday: 2024-01-31\ncount: 010\nlist: [on, 'true', \"1\"]\n")
    assert read(path).values == {
        "on": "no",
        "yes": "1:30",
        "day": "2024-01-31",
        "count": 10,
        "list": ["on", "true", "1"],
    }


def test_byte_order_mark_is_accepted_and_moves_no_column(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfleanmq: 1\nname: shop\n")
    document = read(path)
    assert document.values["leanmq"] == 1
    span = document.span(["leanmq"])
    assert span
    assert (span.line, span.column, span.source) == (1, 9, "leanmq: 1")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_places_are_right_with_every_line_ending_and_wide_letters(ending: str, tmp_path: Path) -> None:
    lines = ["x-😀漢: 1", "name: shop", "queues:", "  billing: {ttl: '😀', delay: 5s}"]
    path = write(tmp_path, ending.join(lines).encode())
    document = read(path)
    span = document.span(["queues", "billing", "delay"])
    key = document.key_span(["queues", "billing", "delay"])
    assert span
    assert key
    assert (span.file, span.line, span.column, span.length) == (str(path), 4, 30, 2)
    assert (key.line, key.column, key.length, key.source) == (4, 23, 5, lines[3])


def test_place_of_what_is_not_there_is_none_and_the_nearest_is_above(tmp_path: Path) -> None:
    document = read(write(tmp_path, HEADER + "queues:\n  billing: {}\n"))
    assert document.span(["queues", "billing", "ttl"]) is None
    assert document.key_span(["queues", "emails"]) is None
    nearest = document.nearest_span(["queues", "billing", "ttl"])
    assert nearest
    assert (nearest.line, nearest.column, nearest.length) == (4, 3, 7)


def test_extensions_are_dropped_anywhere_but_not_from_foreign_data(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
        x-team: payments
        messages:
          a:
            x-note: b
            schema: {type: object, properties: {x-id: {type: string}}}
            examples: [{x-id: c}]
        queues: {billing: {x-note: d, retry: {x-note: e}}}
        routes: {all: {to: {billing: {match: {data.a: {x-b: 1}}}}}}
        """,
    )
    assert read(path).values == {
        "messages": {
            "a": {
                "schema": {"type": "object", "properties": {"x-id": {"type": "string"}}},
                "examples": [{"x-id": "c"}],
            }
        },
        "queues": {"billing": {"retry": {}}},
        "routes": {"all": {"to": {"billing": {"match": {"data.a": {"x-b": 1}}}}}},
    }


def test_plain_alias_stands_for_its_value(tmp_path: Path) -> None:
    path = write(tmp_path, "queues:\n  a: {retry: &slow {delay: 1m}}\n  b: {retry: *slow}\n")
    document = read(path)
    assert document.values["queues"]["b"] == {"retry": {"delay": "1m"}}
    document.values["queues"]["b"]["retry"]["delay"] = "2m"
    assert document.values["queues"]["a"]["retry"]["delay"] == "1m"


def test_plain_value_gets_its_type_after_its_variable_is_filled_in(tmp_path: Path) -> None:
    path = write(tmp_path, "plain: ${N}\nquoted: '${N}'\ndefault: ${GONE:-true}\nempty: ${EMPTY}\n")
    values = read(path, environ={"N": "7", "EMPTY": ""}).values
    assert values == {"plain": 7, "quoted": "7", "default": True, "empty": ""}


def test_variables_stay_as_they_are_in_keys_schemas_and_examples(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
        ${A}: 1
        messages:
          a: {schema: {pattern: '^${A}$'}, examples: [{price: '${A}'}], compatibility: "${A}"}
        """,
    )
    assert read(path, environ={"A": "full"}).values == {
        "${A}": 1,
        "messages": {
            "a": {
                "schema": {"pattern": "^${A}$"},
                "examples": [{"price": "${A}"}],
                "compatibility": "full",
            }
        },
    }


def test_value_that_cannot_be_read_is_left_out_and_remembered(tmp_path: Path) -> None:
    path = write(tmp_path, "name: ${GONE}\nqueues: {a: {accepts: [b, .nan]}}\nx: .inf\n")
    document, found = read_document([path], environ={})
    assert document
    assert document.values == {"queues": {"a": {}}}
    assert document.broken == {("name",), ("queues", "a", "accepts"), ("x",)}
    assert sorted(item.code for item in found) == ["LMQ113", "LMQ113", "LMQ114"]
    missing = [item.message for item in find_mistakes(path) if item.code in {"LMQ202", "LMQ204"}]
    assert missing == ["the version of the format is missing"]  # and not that the name is


def test_secret_file_is_read_and_its_place_remembered(tmp_path: Path) -> None:
    write(tmp_path, "hunter2\n", "secrets/redis")
    path = write(tmp_path, HEADER + "broker: {url: 'redis://:${file:secrets/redis}@host'}\n")
    document = read(path)
    assert document.values["broker"]["url"] == "redis://:hunter2@host"
    assert document.secrets == {("broker", "url")}


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("../redis", "leads out of"),
        ("/etc/passwd", "is absolute"),
        ("gone", "there is no file"),
        (".", "is a folder"),
        ("", "is not a path"),
        ("long", "is too long"),
        ("https://x.org/a", "is a URL"),
    ],
)
def test_secret_file_that_cannot_be_used_is_refused(named: str, words: str, tmp_path: Path) -> None:
    write(tmp_path, "hunter2", "redis")
    write(tmp_path, "x" * 70_000, "inside/long")
    path = write(tmp_path, HEADER + f"broker: {{url: '${{file:{named}}}'}}\n", "inside/topology.yaml")
    (found,) = find_mistakes(path)
    assert place(found) == ("LMQ116", 3, 15)
    assert words in found.message
    assert "hunter2" not in found.message


def test_secret_value_is_never_shown_by_a_finding_about_it(tmp_path: Path) -> None:
    write(tmp_path, "hunter2", "token")
    path = write(tmp_path, HEADER + "queues: {a: {overflow: '${file:token}', max_length: '${file:token}'}}\n")
    found = find_mistakes(path)
    assert [item.code for item in found] == ["LMQ206", "LMQ205"]
    assert "hunter2" not in str(found)


def test_overlay_merges_maps_and_replaces_lists_and_values(tmp_path: Path) -> None:
    base = write(tmp_path, HEADER + "queues:\n  a: {ttl: 1d, accepts: [b, c]}\n  d: {}\n", "base.yaml")
    over = write(tmp_path, "queues:\n  a: {ttl: 2d, accepts: [e]}\n  f: {}\n", "prod/over.yaml")
    document = read(base, over)
    assert document.values["queues"] == {"a": {"ttl": "2d", "accepts": ["e"]}, "d": {}, "f": {}}
    assert document.files == (base, over)
    assert document.folder == tmp_path
    span = document.span(["queues", "a", "ttl"])
    assert span
    assert (span.file, span.line, span.column) == (str(over), 2, 12)
    assert document.folder_of(["queues", "a", "ttl"]) == tmp_path / "prod"
    assert document.folder_of(["queues", "d"]) == tmp_path


def test_environment_is_laid_over_and_its_places_are_its_own(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEADER
        + "queues: {a: {ttl: 1d, max_length: 5}}\n"
        + "environments:\n  prod: {queues: {a: {ttl: '${TTL}'}}}\n  test: {queues: {a: {ttl: '${GONE}'}}}\n",
    )
    document = read(path, environ={"TTL": "9d"}, environment="prod")
    assert document.values["queues"] == {"a": {"ttl": "9d", "max_length": 5}}
    assert "environments" not in document.values
    span = document.span(["queues", "a", "ttl"])
    assert span
    assert span.line == 5
    assert read(path).values["queues"]["a"]["ttl"] == "1d"


@pytest.mark.parametrize(
    ("declared", "words", "hint"),
    [
        ("environments: {prod: {}, test: {}}\n", "there are prod, test", "did you mean 'prod'?"),
        ("", "the file declares none", "declare it under"),
    ],
)
def test_unknown_environment_is_named_with_the_known_ones(
    declared: str, words: str, hint: str, tmp_path: Path
) -> None:
    path = write(tmp_path, HEADER + declared)
    (found,) = find_mistakes(path, environment="prd")
    assert found.code == "LMQ120"
    assert words in found.message
    assert hint in (found.suggestion or "")


def test_mistake_in_an_environment_is_found_though_it_is_not_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "environments:\n  prod: {queues: {a: {max_length: 5, tll: 1d}}}\n")
    (found,) = find_mistakes(path)
    assert (found.code, found.address) == ("LMQ203", "environments.prod.queues.a.tll")
    (chosen,) = find_mistakes(path, environment="prod")
    assert (chosen.code, chosen.address, chosen.span) == ("LMQ203", "queues.a.tll", found.span)


def test_included_files_join_and_keep_their_places(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "include: [parts/a.yaml, parts/b.yaml]\nqueues: {main: {}}\n")
    a = write(tmp_path, "queues: {a: {ttl: 1d}}\ninclude: [c.yaml]\n", "parts/a.yaml")
    b = write(tmp_path, "queues: {b: {}}\nhandlers: {}\ninclude: [c.yaml]\n", "parts/b.yaml")
    c = write(tmp_path, "name: shop\nqueues: {c: {}}\n", "parts/c.yaml")
    document = read(path)
    assert list(document.values["queues"]) == ["main", "a", "c", "b"]
    assert "include" not in document.values
    assert set(document.files) == {path, a, b, c}
    span = document.span(["queues", "a", "ttl"])
    assert span
    assert (span.file, span.line) == (str(a), 1)


def test_declaring_something_in_two_files_names_both_places(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "include: [a.yaml]\nqueues: {x: {}}\nbroker: {}\n")
    a = write(tmp_path, "name: other\nqueues:\n  x: {}\nbroker: {}\n", "a.yaml")
    found = find_mistakes(path)
    assert [(item.code, item.address, item.span and item.span.file) for item in found] == [
        ("LMQ119", "name", str(a)),
        ("LMQ119", "queues.x", str(a)),
        ("LMQ119", "broker", str(a)),
    ]
    assert f"first in {path}:4:10" in found[1].message


def test_reading_leaves_the_garbage_collector_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, "a: [")
    assert gc.isenabled()
    read_document([path], environ={})
    assert gc.isenabled()
    gc.disable()
    try:
        read_document([path], environ={})
        assert not gc.isenabled()
    finally:
        gc.enable()

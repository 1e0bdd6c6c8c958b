"""The two engines: the fast one decides, the slow one stands in, and where they differ is known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from leanmq_topology.contracts import engine
from leanmq_topology.contracts.engine import InvalidSchemaError, build_engine
from leanmq_topology.contracts.explanation import explain
from leanmq_topology.contracts.fallback import SlowEngine


@pytest.fixture
def without_fast_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "fast_engine_found", False)
    engine._warn_once.cache_clear()
    yield
    engine._warn_once.cache_clear()


def test_missing_fast_engine_is_told_once_and_visibly(without_fast_engine: None) -> None:
    with pytest.warns(RuntimeWarning, match="jsonschema-rs is not installed"):
        slow = build_engine({"type": "string"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_engine({"type": "number"})

    assert isinstance(slow, SlowEngine)
    assert slow.is_valid("x")
    assert not slow.is_valid(1)


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ({"type": "number"}, "x"),
        ({"type": ["string", "null"]}, 1),
        ({"required": ["a", "b"]}, {"a": 1}),
        ({"properties": {"a": {"items": {"minimum": 5}}}}, {"a": [6, 1]}),
        ({"enum": [1, "a"]}, 2),
        ({"additionalProperties": False, "properties": {"a": {}}}, {"a": 1, "b": 2}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 3),
        (False, 1),
        ({"minLength": 2}, "a"),
        ({"pattern": "^b"}, "a"),
    ],
)
def test_both_engines_say_the_same_sentence(schema: Any, data: Any) -> None:
    fast, slow = build_engine(schema).find_failure(data), SlowEngine(schema).find_failure(data)

    assert fast is not None
    assert slow is not None
    assert explain(fast) == explain(slow)


@pytest.mark.parametrize(
    ("schema", "value", "fast", "slow"),
    [
        pytest.param({"pattern": "^a$"}, "a\n", False, True, id="dollar before a trailing newline"),
        pytest.param({"multipleOf": 0.01}, 19.99, True, False, id="decimal multiples"),
        pytest.param({"type": "array"}, (1, 2), True, False, id="tuples"),
        pytest.param({"type": "number"}, float("nan"), False, True, id="NaN"),
    ],
)
def test_where_the_engines_differ(schema: dict[str, Any], value: Any, fast: bool, slow: bool) -> None:
    assert build_engine(schema).is_valid(value) is fast
    assert SlowEngine(schema).is_valid(value) is slow


def test_unicode_classes_exist_only_in_the_fast_engine() -> None:
    assert build_engine({"pattern": r"^\p{Lu}"}).is_valid("É")
    with pytest.raises(InvalidSchemaError):
        SlowEngine({"pattern": r"^\p{Lu}"})


@pytest.mark.parametrize("reference", ["https://example.com/a.json", "file:///etc/passwd", "urn:x:y"])
def test_no_engine_fetches_anything(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("something was opened")

    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.setattr("urllib.request.urlopen", refuse)

    with pytest.raises(InvalidSchemaError):
        build_engine({"$ref": reference})
    with pytest.raises(Exception, match="Unresolvable"):
        SlowEngine({"$ref": reference}).is_valid(1)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", "2026-01-31", "2026-02-30"),
        ("date-time", "2026-01-31T12:00:00Z", "2026-01-31 12:00"),
        ("email", "a@example.org", "a"),
        ("uuid", "6f2b1a3c-6f0e-4c0a-9f43-0c8d5b1b1f7e", "6f2b"),
        ("ipv4", "192.0.2.1", "192.0.2.256"),
        ("ipv6", "2001:db8::1", "2001"),
        ("uri", "https://example.org/a", "a b"),
        ("duration", "P1DT2H", "1d"),
        ("json-pointer", "/a/b", "a"),
    ],
)
def test_formats_are_asserted(name: str, good: str, bad: str) -> None:
    judge = build_engine({"format": name})

    assert judge.is_valid(good)
    assert not judge.is_valid(bad)

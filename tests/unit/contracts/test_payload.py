"""D37-D39 of the catalogue of bad input: what a message may carry, on the way in and on the way out."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import time
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from leanmq_topology.contracts.payload import MAX_DEPTH, check_payload, decode_data, encode_data
from leanmq_topology.contracts.violation import Violation
from leanmq_topology.errors import InvalidMessageError


class Text(str):
    __slots__ = ()


class Colour(enum.Enum):
    RED = 1


class Size(enum.StrEnum):
    SMALL = "small"


@dataclass
class Order:
    total: int = 1


Point = namedtuple("Point", "x y")


def nest(depth: int) -> Any:
    data: Any = []
    for _ in range(depth - 1):
        data = {"a": data}
    return data


REFUSED_VALUES = [
    (math.nan, "finite number"),
    (math.inf, "finite number"),
    (-math.inf, "finite number"),
    ("\ud800", "lone surrogate"),
    ({1}, "a set"),
    (frozenset(), "a frozenset"),
    (b"x", "a bytes"),
    (bytearray(b"x"), "a bytearray"),
    (decimal.Decimal("1.5"), "a Decimal"),
    (datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC), "a datetime"),
    (datetime.date(2026, 1, 31), "a date"),
    (datetime.timedelta(1), "a timedelta"),
    (uuid.UUID(int=0), "an UUID"),
    (Order(), "an Order"),
    (Colour.RED, "a Colour"),
    (Text("x"), "a Text"),
    (object(), "an object"),
    (msgspec.Raw(b"1"), "a Raw"),
    (2**64, "beyond 64 bits"),
    (-(2**63) - 1, "beyond 64 bits"),
    (10**5000, "beyond 64 bits"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED_VALUES, ids=lambda item: type(item).__name__)
def test_value_that_json_does_not_have_is_refused_with_its_place(value: Any, reason: str) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        encode_data({"items": [1, {"a/b": value}]})

    assert caught.value.path == "/items/1/a~1b"
    assert reason in caught.value.reason


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1, 2), b"x", Colour.RED])
def test_key_that_is_not_text_is_refused_with_its_place(key: Any) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        encode_data({"items": {key: 1}})

    assert caught.value.path.startswith("/items/")
    assert "key that is not text" in caught.value.reason


def test_key_with_a_lone_surrogate_is_refused_and_can_still_be_printed() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        encode_data({"a\udc80": 1})

    str(caught.value).encode()
    assert caught.value.path == "/a\\udc80"


def test_nesting_of_64_levels_is_allowed_and_65_is_not() -> None:
    assert decode_data(encode_data(nest(MAX_DEPTH))) == nest(MAX_DEPTH)

    with pytest.raises(InvalidMessageError, match="nested too deep") as caught:
        encode_data(nest(MAX_DEPTH + 1))
    assert caught.value.path.count("/") == MAX_DEPTH


def test_depth_is_not_confused_with_many_lists_side_by_side() -> None:
    data = {"items": [[[1]], {"a": []}] * 500, "text": "[[[[{{{{" * 100}

    assert decode_data(encode_data(data)) == data


def test_depth_cannot_be_hidden_behind_brackets_in_text() -> None:
    data: Any = ["[" * 100]
    for _ in range(MAX_DEPTH):
        data = ["]", data]

    with pytest.raises(InvalidMessageError, match="nested too deep"):
        encode_data(data)
    with pytest.raises(InvalidMessageError, match="nested too deep"):
        decode_data(msgspec.json.encode(data))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_deep_bytes_are_refused_without_harm(depth: int) -> None:
    with pytest.raises(InvalidMessageError, match="nested too deep"):
        decode_data(b"[" * depth + b"]" * depth)


def test_data_that_contains_itself_is_refused() -> None:
    data: list[Any] = []
    data.append(data)

    with pytest.raises(InvalidMessageError, match="nested too deep"):
        encode_data(data)


@pytest.mark.parametrize(
    "number",
    [
        0,
        2**53 + 1,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
        1700000000000000000,
        9999999999999999999,
        -1234567890123456789,
    ],
)
def test_integer_of_64_bits_stays_exact(number: int) -> None:
    assert decode_data(encode_data([number, -0.0, number])) == [number, -0.0, number]
    assert type(decode_data(encode_data(number))) is int


@pytest.mark.parametrize("number", [1e308, 5e-324, 0.1, 1e22, 123456789012345678901.0, 0.30000000000000004])
def test_float_stays_exact(number: float) -> None:
    assert decode_data(encode_data({"n": number})) == {"n": number}


def test_long_run_of_digits_in_text_is_no_number() -> None:
    data = {"card": "1" * 40, "signed": "-" + "9" * 25}

    assert decode_data(encode_data(data)) == data


@pytest.mark.parametrize(
    ("data", "read_back"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        ({"size": Size.SMALL}, {"size": "small"}),
        ({Size.SMALL: 1}, {"small": 1}),
    ],
)
def test_tuples_ordered_dicts_and_text_enumerations_are_json(data: Any, read_back: Any) -> None:
    assert decode_data(encode_data(data)) == read_back


@pytest.mark.parametrize(
    ("raw", "path", "reason"),
    [
        (b'{"a":{"b":[1,1e400]}}', "/a/b/1", "finite number"),
        (b'{"a":-1e400}', "/a", "finite number"),
        (b'{"a":NaN}', "/a", "finite number"),
        (b"[Infinity]", "/0", "finite number"),
        (b'{"a":18446744073709551616}', "/a", "beyond 64 bits"),
        (b'{"a":-9223372036854775809}', "/a", "beyond 64 bits"),
        (b'{"a":' + b"1" * 5000 + b"}", "/a", "beyond 64 bits"),
        (b'{"a":1,"a":2}', "/a", "stands twice"),
        (b'{"x":[{"k":1,"\\u006b":2}]}', "/x/0/k", "stands twice"),
        (b'{"a":"\\ud800"}', "/a", "lone surrogate"),
        (b'{"\\udc00":1}', "/\\udc00", "lone surrogate"),
        (b'"\xed\xa0\x80"', "", "not UTF-8"),
        (b"\xff", "", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "", "not valid JSON"),
        (b"", "", "not valid JSON"),
        (b"{", "", "not valid JSON"),
        (b"{} {}", "", "not valid JSON"),
        (b"{'a':1}", "", "not valid JSON"),
        (b'{"a":01}', "", "not valid JSON"),
        (b'{"a":1,}', "", "not valid JSON"),
        (b'"a\nb"', "", "not valid JSON"),
    ],
)
def test_bytes_that_break_the_rules_are_refused_with_their_place(raw: bytes, path: str, reason: str) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        decode_data(raw)

    assert (caught.value.path, reason in caught.value.reason) == (path, True), caught.value.reason


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b' { "a" : 1 } ', {"a": 1}),
        (b'{"a":1e2,"b":"\\u00e9\\/"}', {"a": 100.0, "b": "é/"}),
        (b'{"a":1,"b":{"a":1}}', {"a": 1, "b": {"a": 1}}),
        (b'"\\ud83d\\ude00"', "😀"),
        (b"-0", 0),
    ],
)
def test_json_of_other_programs_is_read(raw: bytes, data: Any) -> None:
    assert decode_data(raw) == data


def test_check_tells_the_place_without_raising() -> None:
    assert check_payload({"a": [1, "x"]}) is None
    assert check_payload({"a": math.nan}) == Violation(
        "/a", "must be a finite number: JSON has no NaN or infinity, and a double ends at about 1.8e308"
    )


def test_no_value_of_the_data_is_repeated_in_the_error() -> None:
    with pytest.raises(InvalidMessageError) as caught:
        encode_data({"password": Text("hunter2")})

    assert "hunter2" not in str(caught.value)


def test_valid_message_is_never_walked_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(*arguments: Any) -> None:
        raise AssertionError("the slow walk was entered for a plain message")

    monkeypatch.setattr("leanmq_topology.contracts.payload._walk", walk)
    data = {
        "id": "A-1",
        "at": 1700000000000000000,
        "items": [{"n": i} for i in range(200)],
        "x": [1.5, None, True],
    }

    assert decode_data(encode_data(data)) == data


def test_refusing_a_large_hostile_message_is_fast() -> None:
    raw = b"[" + b",".join(b'{"k":"%d"}' % number for number in range(50_000)) + b",1e999]"
    started = time.process_time()

    with pytest.raises(InvalidMessageError):
        decode_data(raw)

    assert time.process_time() - started < 2

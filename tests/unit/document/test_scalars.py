from __future__ import annotations

import math

import pytest

from leanmq_topology.document.scalars import OutOfRangeError, resolve_plain


@pytest.mark.parametrize(
    "text",
    [
        *["on", "off", "yes", "No", "y", "1:30", "2024-01-31", "2024-01-31T10:00:00Z", "1_000", "0b101"],
        *[
            "1.2.3",
            "-",
            "+",
            ".",
            "..",
            "1e",
            "e1",
            "0o8",
            "0xg",
            "0x",
            "=",
            "<<",
            "tRue",
            "NULl",
            "nan",
            "inf",
        ],
        *["-0x1", "+0o7", "1 2", "12e03x", "7d"],
    ],
)
def test_what_only_older_yaml_or_nobody_converts_stays_a_string(text: str) -> None:
    assert resolve_plain(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("0", 0),
        ("010", 10),
        ("-12", -12),
        ("+7", 7),
        ("0o17", 15),
        ("0xFf", 255),
        ("1.10", 1.1),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0" * 5000 + "7", 7),
    ],
)
def test_core_types_of_yaml_1_2_are_converted(text: str, value: object) -> None:
    result = resolve_plain(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *["9223372036854775808", "-9223372036854775809", "9" * 5000, "0x" + "f" * 17, "0o" + "7" * 5000],
        *["1e400", "-1e400", "9" * 5000 + ".0", ".inf", "-.INF", "+.Inf", ".nan", ".NaN", ".NAN"],
    ],
)
def test_number_that_nothing_can_hold_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(OutOfRangeError, match=r"out of range|not a finite number") as refused:
        resolve_plain(text)
    assert len(str(refused.value)) < 120


def test_smallest_float_may_round_to_zero_but_never_to_nothing() -> None:
    assert resolve_plain("1e-400") == 0.0
    assert math.isfinite(resolve_plain("1.7976931348623157e308"))  # type: ignore[arg-type]

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanmq_topology.topology.values import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [
        ("0s", 0),
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("7d", 7 * 86_400_000),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("90m", 5_400_000),
        ("007s", 7000),
    ],
)
def test_duration_is_read_in_milliseconds(text: str, duration_ms: int) -> None:
    assert parse_duration(text) == duration_ms


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10", "write 10s, 10m or 10h"),
        ("10 minutes", "write 10m"),
        ("10min", "write 10m"),
        ("2 hours and 30 minutes", "write 2h30m"),
        ("1h30", "write 1h30m"),
        ("5m30", "write 5m30s"),
        ("1:30", "write 1m30s or 1h30m"),
        ("01:02:03", "write 1h2m3s"),
        ("-5s", "is negative"),
        ("0.5s", "write 500ms"),
        ("1.5h", "write 1h30m"),
        ("5M", "write 5m"),
        (" 5s", "write 5s"),
        ("30m1h", "write 1h30m"),
        ("2w", "write 14d"),
        ("1y", "write 365d"),
        ("PT1H30M", "write 1h30m"),
        ("5 parsecs", "such as 500ms, 30s"),
        ("", "such as 500ms, 30s"),
        ("s", "such as 500ms, 30s"),
        ("٣s", "such as 500ms, 30s"),
        ("9" * 5000 + "s", "such as 500ms, 30s"),
        ("1" * 13 + "ms", "such as 500ms, 30s"),
    ],
)
def test_refused_duration_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512B", 512),
        ("64k", 65_536),
        ("64K", 65_536),
        ("64Ki", 65_536),
        ("64KiB", 65_536),
        ("64kb", 65_536),
        ("1MiB", 1_048_576),
        ("16mb", 16_777_216),
        ("1g", 1_073_741_824),
    ],
)
def test_size_is_read_in_bytes_and_every_unit_is_a_power_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("512", "write 512B"),
        ("1048576", "write 1MiB"),
        ("1.5MiB", "write 1536KiB"),
        ("64 KiB", "write 64KiB"),
        ("100 bytes", "write 100B"),
        ("-1k", "is negative"),
        ("1TiB", "such as 512B"),
        ("", "such as 512B"),
        ("9" * 5000 + "k", "such as 512B"),
    ],
)
def test_refused_size_says_what_to_write(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_size(text)


@given(st.integers(min_value=0, max_value=10**15))
def test_formatted_duration_is_read_back_as_it_was(duration_ms: int) -> None:
    assert parse_duration(format_duration(duration_ms)) == duration_ms


@given(st.integers(min_value=0, max_value=10**14))
def test_formatted_size_is_read_back_as_it_was(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for parse in (parse_duration, parse_size):
        refusal = _refusal(parse, text)
        assert refusal is None or any(word in refusal for word in ("write ", "such as", "negative"))


def _refusal(parse: Callable[[str], int], text: str) -> str | None:
    try:
        return None if parse(text) >= 0 else "below zero"
    except ValueError as refused:
        return str(refused)


def test_formats_use_the_largest_units_that_fit() -> None:
    assert format_duration(0) == "0s"
    assert format_duration(86_400_000) == "1d"
    assert format_duration(5_400_000) == "1h30m"
    assert format_size(65_536) == "64KiB"
    assert format_size(1000) == "1000B"
    assert format_size(0) == "0B"

"""Which dead letters a filter means."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.messages.selection import Selection, parse_condition

LETTER = DeadLetter(
    Envelope("m1", "order", b'{"total":5,"code":"5","on":true,"a/b":null,"items":[{"sku":"x"}],"x":{"":1}}'),
    DeadReason.FAILED,
    Failure("CardDeclinedError", "card Ending in 0000"),
)
ENTRY = "1000-3"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("/total=5", True),
        ("/total=5.0", True),
        ("/total=6", False),
        ("/code=5", True),
        ('/code="5"', False),
        ("/on=true", True),
        ("/on=1", False),
        ("/total=true", False),
        ("/a~1b=null", True),
        ("/missing=null", False),
        ("/items/0/sku=x", True),
        ("/items/1/sku=x", False),
        ("/items/-1/sku=x", False),
        ("/items/0/sku/deeper=x", False),
        ('/items=[{"sku":"x"}]', True),
        ("/x/=1", True),
        ("/code=", False),
        ("/total==5", False),
    ],
)
def test_a_condition_looks_at_one_place_of_the_data(text: str, holds: bool):
    assert Selection(where=(parse_condition(text),)).includes(LETTER, ENTRY) is holds


@pytest.mark.parametrize("text", ["", "total=5", "/total", "data.total=5"])
def test_a_condition_that_is_none_is_refused_with_an_example(text: str):
    with pytest.raises(ValueError, match="such as /customer/country=DE"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("filters", "holds"),
    [
        ({}, True),
        ({"ids": frozenset({"m1"})}, True),
        ({"ids": frozenset({"x", ENTRY})}, True),
        ({"ids": frozenset({"m2"})}, False),
        ({"reasons": frozenset({DeadReason.FAILED, DeadReason.EXPIRED})}, True),
        ({"reasons": frozenset({DeadReason.EXPIRED})}, False),
        ({"error": "carddeclinederror: CARD ending"}, True),
        ({"error": "0001"}, False),
        ({"before_ms": 1001}, True),
        ({"before_ms": 1000}, False),
        ({"before_ms": 1001, "error": "0001"}, False),
    ],
)
def test_all_that_is_asked_for_must_hold(filters: dict[str, Any], holds: bool):
    assert Selection(**filters).includes(LETTER, ENTRY) is holds


def test_an_age_is_counted_back_from_the_time_that_is_told():
    assert Selection(older_than_ms=300).as_of(1000).before_ms == 700
    assert Selection().as_of(1000) == Selection()


def test_data_that_is_no_json_meets_no_condition():
    letter = DeadLetter(Envelope("m1", "order", b"\xff{"), DeadReason.INVALID, Failure("", ""))
    assert Selection().includes(letter, ENTRY)
    assert not Selection(where=(parse_condition("/a=null"),)).includes(letter, ENTRY)

"""What a sender may say besides target and data."""

from __future__ import annotations

from typing import Any

import pytest

from leanmq_topology.client.options import PLAIN, SendOptions, read_options
from leanmq_topology.errors import InvalidMessageError, SettingError


def test_nothing_said_costs_nothing():
    assert read_options() is PLAIN


def test_seconds_and_text_become_milliseconds():
    assert read_options(ttl=1.5, delay="2m") == SendOptions(ttl_ms=1500, delay_ms=120_000)
    assert read_options(delay=0).delay_ms == 0


@pytest.mark.parametrize("value", [-1, 0, True, float("nan"), float("inf"), "5", "soon", [], 10**12])
def test_a_ttl_that_makes_no_sense_is_refused(value: Any):
    with pytest.raises(SettingError) as caught:
        read_options(ttl=value)
    assert caught.value.name == "ttl"


@pytest.mark.parametrize("value", [-0.001, "366d", False, "1"])
def test_a_delay_that_makes_no_sense_is_refused(value: Any):
    with pytest.raises(SettingError) as caught:
        read_options(delay=value)
    assert caught.value.name == "delay"


@pytest.mark.parametrize("value", ["", "a b", "x" * 129, "x" * 1000, "naïve", "a\nb", "a\x00", 5, b"m"])
def test_an_id_that_could_not_be_shown_is_refused(value: Any):
    with pytest.raises(SettingError) as caught:
        read_options(id=value)
    assert caught.value.name == "id"


@pytest.mark.parametrize(("name", "value"), [("type", 5), ("headers", ["a"]), ("headers", "a=b")])
def test_an_option_of_the_wrong_kind_is_named(name: str, value: Any):
    options: dict[str, Any] = {name: value}
    with pytest.raises(SettingError) as caught:
        read_options(**options)
    assert caught.value.name == name


def test_a_correlation_id_is_a_header():
    options = read_options(headers={"traceparent": "00-1"}, correlation_id="c")
    assert options.headers == {"traceparent": "00-1", "correlationid": "c"}


@pytest.mark.parametrize(
    "headers",
    [
        {"a\nb": "x"},
        {"": "x"},
        {"1a": "x"},
        {"a": "x\ny"},
        {"a": 1},
        {1: "x"},
        {"leanmqattempts": "3"},
        {"time": "now"},
        {"dataschema": "x@1"},
        {"a": "x" * 16_384},
    ],
)
def test_a_header_that_could_harm_or_belongs_to_leanmq_is_refused(headers: Any):
    with pytest.raises(InvalidMessageError):
        read_options(headers=headers)

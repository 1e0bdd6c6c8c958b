"""A topology written out again: complete, readable, and read back as the same values."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from leanmq_topology.document.reader import read_data
from leanmq_topology.topology.written import write_topology
from leanmq_topology.topology.yaml_text import write_yaml
from tests.unit.topology.drafts import HEADER, TYPES, load

SHOP = (
    TYPES
    + """
defaults: {queue: {ttl: 7d}}
queues:
  billing: {accepts: [placed], retry: {steps: [10s, 1m], never: [ValueError]}, max_message_size: 64k}
  emails: {accepts: [placed, paid], max_length: 10}
routes:
  events: {type: fanout, to: {emails: {match: {data.price: {const: $5}, type: placed}}, billing: {}}}
handlers:
  charge: {queue: billing, call: "shop.billing:charge", prefetch: 16}
"""
)


def test_a_written_topology_loads_as_an_equal_one(tmp_path: Path):
    topology = load(tmp_path, SHOP.replace("$5", "$$5"))

    again = load(tmp_path, write_yaml(write_topology(topology)))

    assert again == topology
    assert again.routes["events"].to[1].match == {"data.price": {"const": "$5"}, "type": "placed"}


def test_every_default_is_spelt_out_in_units_people_use(tmp_path: Path):
    values = write_topology(load(tmp_path, HEADER + "queues: {a: {}}"))

    assert values["broker"] == {"namespace": "shop", "durability": "memory"}
    assert values["queues"]["a"]["retry"] == {
        "backoff": "exponential",
        "delay": "1s",
        "max_delay": "5m",
        "jitter": "full",
    }
    assert values["queues"]["a"]["visibility_timeout"] == "30s"
    assert values["queues"]["a"]["max_message_size"] == "1MiB"
    assert values["queues"]["a"]["ttl"] == "none"


def test_short_mappings_stand_on_one_line_and_long_ones_do_not():
    text = write_yaml(
        {"name": "shop", "queues": {"a": {"retry": {"delay": "1s"}, "accepts": ["x" * 50] * 3}}}
    )

    assert text == (
        "name: shop\n\nqueues:\n  a:\n    retry: {delay: 1s}\n    accepts:\n" + f"      - {'x' * 50}\n" * 3
    )


STRINGS = [
    *(
        "on",
        "No",
        "Y",
        "~",
        "null",
        "True",
        "1:30",
        "0o17",
        "0x1F",
        "1e3",
        "010",
        "1_000",
        "2026-01-31",
        ".5",
    ),
    *(
        "",
        " ",
        " a",
        "a ",
        "- a",
        "a: b",
        "a #b",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "<<",
        "=",
        "?",
    ),
    *('"', "'", "\\", "a\nb", "a\tb", "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "🐇", "é", "$HOME", "x,y"),
]


@pytest.mark.parametrize("text", STRINGS, ids=repr)
def test_a_string_stays_a_string_as_value_as_key_and_in_a_list(text: str, tmp_path: Path):
    values = {
        "value": text,
        "flow": {"key": text, "list": [text]},
        "keys": {text: 1, f"{text}2": {"a": {"b": 1}}},
    }
    path = tmp_path / "values.yaml"
    path.write_text(write_yaml(values), encoding="utf-8")

    assert read_data(path) == (values, [])


@pytest.mark.parametrize("text", [text for text in STRINGS if text not in {"=", "0o17", "1e3"}], ids=repr)
def test_readers_of_older_yaml_see_the_same(text: str):
    assert yaml.safe_load(write_yaml({"value": text, "list": [text]})) == {"value": text, "list": [text]}


@pytest.mark.parametrize(
    "value", [0, -5, 2**60, 1.5, 1e16, 5e-324, True, False, None, {}, [], [[]], [{}], {"a": {}}]
)
def test_other_values_stay_what_they_are(value: object, tmp_path: Path):
    path = tmp_path / "values.yaml"
    path.write_text(write_yaml({"value": value, "list": [value, {"deep": [value]}]}))

    assert read_data(path) == ({"value": value, "list": [value, {"deep": [value]}]}, [])

"""`docs/handlers.md` runs as it stands, and its tables say what is so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from leanmq_topology import Message
from leanmq_topology.brokers.connect import open_blocking
from tests.support.pages import Player, read_page

PAGE = Path(__file__).parents[2] / "docs" / "handlers.md"


def test_the_example_prints_what_the_page_shows(tmp_path: Path):
    with open_blocking("embedded:?linger=0s", namespace="page", folder=tmp_path, client_name="leanmq-page"):
        Player(tmp_path).play(read_page(PAGE))


def test_every_block_of_the_page_is_played():
    assert read_page(PAGE).strays == ()


def test_every_attribute_of_a_message_is_named():
    text = PAGE.read_text(encoding="utf-8")
    classic = {"timestamp", "delivery_count", "message_id"}
    own = {field.name for field in fields(Message) if not field.name.startswith("_")}
    assert [name for name in sorted(own - classic) if f"`{name}`" not in text] == []

"""What a message carries from a death into its next life."""

from __future__ import annotations

import pytest

from leanmq_topology.messages.codec import DeadLetter
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.messages.replaying import (
    HEADER_LINEAGE,
    HEADER_REPLAYED,
    MOST_DEATHS,
    count_replays,
    replayed_headers,
)


def die(headers: dict[str, str], reason: DeadReason = DeadReason.FAILED) -> DeadLetter:
    return DeadLetter(Envelope("m1", "order", b"{}", headers), reason, Failure("", ""))


def test_each_replay_is_counted_and_adds_the_death_before_it():
    first = replayed_headers(die({"color": "red"}), "10-0")
    assert first == {"color": "red", HEADER_REPLAYED: "1", HEADER_LINEAGE: "failed@10-0"}
    second = replayed_headers(die(first, DeadReason.EXPIRED), "20-0")
    assert second[HEADER_REPLAYED] == "2"
    assert second[HEADER_LINEAGE] == "failed@10-0,expired@20-0"


def test_a_message_that_is_replayed_for_ever_does_not_grow_for_ever():
    headers: dict[str, str] = {}
    for number in range(50):
        headers = replayed_headers(die(headers), f"{number}-0")
    deaths = headers[HEADER_LINEAGE].split(",")
    assert headers[HEADER_REPLAYED] == "50"
    assert deaths == [f"failed@{number}-0" for number in range(50 - MOST_DEATHS, 50)]


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "²"])
def test_a_count_that_somebody_broke_begins_anew(value: str):
    assert count_replays({HEADER_REPLAYED: value}) == 0

"""What a reader is told that found a queue missing where it looked."""

from __future__ import annotations

from itertools import combinations

import pytest

from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.receiving import fetch, locate
from leanmq_topology.errors import TopologyNotAppliedError


@pytest.mark.parametrize("heard", ["before", "meanwhile"])
def test_a_read_whose_queues_are_all_there_by_now_brings_nothing(heard: str):
    """Its group was made again, or another connection of the link heard where the queue lies."""
    keys = Keys("ns")
    if heard == "before":
        keys.learn("MISPLACED {b}{ns}:m:work")
    call = locate(keys, ["work", "home"])
    keys.learn("MISPLACED {b}{ns}:m:work")
    assert call.read([1, 1]) == []


def test_of_the_queues_of_a_read_only_those_that_are_gone_are_named():
    with pytest.raises(TopologyNotAppliedError) as caught:
        locate(Keys("ns"), ["work", "home"]).read([1, 0])
    assert "queues.home" in str(caught.value)
    assert "queues.work" not in str(caught.value)


def test_a_worker_that_asks_for_ever_other_sets_of_its_queues_has_none_of_them_kept():
    """Of many queues there are more sets than memory, and which of them are full changes all the time."""
    keys, queues = Keys("ns"), [f"q{number}" for number in range(8)]
    for full in combinations(queues, 3):
        names = [name for name in queues if name not in full]
        fetch(keys, names, "me", count=10, block_ms=1000)
    assert len(keys._remembered) <= len(queues)

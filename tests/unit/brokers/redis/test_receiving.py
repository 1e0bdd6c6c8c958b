"""What a reader is told that found a queue missing where it looked."""

from __future__ import annotations

import pytest

from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.brokers.redis.receiving import locate
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

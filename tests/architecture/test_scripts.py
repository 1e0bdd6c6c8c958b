"""What every Lua script has to keep to."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from leanmq_topology.brokers.redis.calls import load_script

SCRIPTS = sorted(
    item.name.removesuffix(".lua")
    for item in files("leanmq_topology.brokers.redis").joinpath("lua").iterdir()
    if item.name.endswith(".lua")
)
A_QUEUES_OWN = re.compile(r"\{ns\}:[abcdqtz]:|then (?:m|q)\b")
RECORD = re.compile(r"\{ns\}:m:|\bm\b")


def read_keys(name: str) -> str:
    """What the head of a script says of its KEYS."""
    head = load_script(name).text.decode().partition("-- KEYS")[2]
    return re.split(r"^-- (?:ARGV|Returns)", head, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", [name for name in SCRIPTS if A_QUEUES_OWN.search(read_keys(name))])
def test_a_script_that_is_given_a_queue_asks_its_record_whether_it_lies_there(name: str):
    """Else it would do its work, and write, where the queue is not. `short` begins with where that is."""
    assert RECORD.search(read_keys(name))
    assert re.search(rb"'(?:tag|short)'", load_script(name).text)

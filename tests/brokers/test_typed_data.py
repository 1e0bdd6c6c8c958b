"""Handlers that are annotated with a class, on real servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.runner.handlers import load_handlers
from leanmq_topology.topology.model import Batch, Handler
from tests.support.servers import Server
from tests.support.workers import Place, make_topology, work_queue, working

SOURCE = """
import msgspec
from leanmq_topology import Message

class Number(msgspec.Struct):
    n: int

    def __post_init__(self):
        if self.n == 13:
            raise ValueError("unlucky")

got = []

async def in_the_loop(data: Number, message: Message):
    got.append((type(data).__name__, data.n, message.data is data))

def in_a_thread(data: Number, message: Message):
    got.append((type(data).__name__, data.n, message.data is data))

async def batch(data: list[Number]):
    got.extend((type(each).__name__, each.n, True) for each in data)
"""


@pytest.fixture
def place(server: Server, namespace: str, tmp_path: Path) -> Iterator[Place]:
    """A queue of numbers, and a module of handlers beside the topology."""
    known, path = set(sys.modules), list(sys.path)
    (tmp_path / "typed_numbers.py").write_text(SOURCE)
    found = Place(server, make_topology(namespace, tmp_path, work_queue()))
    found.apply()
    yield found
    sys.path[:] = path
    for name in set(sys.modules) & {"typed_numbers"} - known:
        del sys.modules[name]


@pytest.mark.parametrize("function", ["in_the_loop", "in_a_thread", "batch"])
async def test_data_arrives_as_the_class_and_what_cannot_become_it_is_dead_lettered_as_invalid(
    place: Place, function: str
):
    declared: dict[str, Any] = {"batch": Batch(size=3, wait_ms=50)} if function == "batch" else {}
    handler = Handler(name="count", queue="work", call=f"typed_numbers:{function}", **declared)
    topology = replace(place.topology, handlers={"count": handler})
    loaded, problems = load_handlers(topology, ["count"])
    assert problems == []
    await place.send(1, 13, 2)
    async with working(place, loaded["count"]):
        state = await place.until_settled()
    assert sorted(sys.modules["typed_numbers"].got) == [("Number", 1, True), ("Number", 2, True)]
    [dead] = place.dead_letters()
    assert (dead.reason, dead.envelope.data) == (DeadReason.INVALID, b'{"n":13}')
    assert "number does not become Number: unlucky" in dead.failure.message
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["retried"]) == (2, 0)

"""The server dies in the middle of writing: its log ends at any byte of the last step of each kind.

A step is all there or not there at all. The steps are in `tests/support/steps.py`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.reconciler import apply_changes
from tests.faults.catalogue import Figures
from tests.support.append_log import log_file, log_length, read_content, server_with_log_cut
from tests.support.arena import ALWAYS, start_server
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage
from tests.support.steps import QUEUES, ROUTE, STEPS
from tests.support.workers import Place

NAMESPACE = "torn"
SAMPLES = 10
"""Cuts of a step in a short run, besides those at its ends."""


@pytest.fixture(params=["valkey9", "redis62"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of this test's own; the same fixture of the others has no log."""
    with ExitStack() as resources:
        running = start_server(request.param, ALWAYS)
        resources.callback(running.stop)
        yield running


@pytest.fixture
def stage(server: Server) -> Iterator[Stage]:
    topology = make_topology(NAMESPACE, *QUEUES, routes=(ROUTE,), url=server.url)
    connection = BlockingRedisConnection.open(parse_address(server.url))
    yield Stage(topology, RedisBroker(NAMESPACE), connection.execute, connection, server.url)
    connection.close()


# -- the cuts --------------------------------------------------------------------------------------------


def choose_cuts(first: int, last: int, every: bool, seed: int) -> list[int]:
    if every or last - first <= SAMPLES:
        return list(range(first, last + 1))
    inner = random.Random(seed).sample(range(first + 1, last), SAMPLES)
    return sorted({first, first + 1, last - 1, last, *inner})


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(False, id="short"),
        pytest.param(True, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(600)]),
    ],
)
@pytest.mark.parametrize("name", list(STEPS))
def test_a_step_whose_log_is_cut_anywhere_is_whole_or_absent(
    stage: Stage, server: Server, figures: Figures, seed: int, name: str, every: bool
):
    step = STEPS[name](stage)
    first, before = log_length(server), read_content(server.url, NAMESPACE)
    stage.carry(step)
    last, after = log_length(server), read_content(server.url, NAMESPACE)
    assert before != after, "the step wrote nothing"
    cuts = choose_cuts(first, last, every, seed)
    for cut in cuts:
        with server_with_log_cut(server, cut) as restarted:
            found = read_content(restarted.url, NAMESPACE)
        assert found == (after if cut == last else before), f"cut at byte {cut - first} of {last - first}"
    fault = "F51" if name == "dead_letter" else "F15"
    figures.report(fault, server=server.kind, step=name, bytes=last - first, cuts=len(cuts), torn=0)


def test_a_read_whose_log_is_cut_anywhere_strands_no_message(
    stage: Stage, server: Server, figures: Figures, seed: int
):
    """Not a script: the server may keep the first part of a read. What it keeps must be sound in itself."""
    stage.send("work", "a", "b", "c")
    first = log_length(server)
    stage.fetch("work")
    last = log_length(server)
    cuts = choose_cuts(first, last, False, seed)
    for cut in cuts:
        with server_with_log_cut(server, cut) as restarted:
            entries, [(_, position, pending)] = read_content(restarted.url, NAMESPACE)[
                stage.keys.queue("work")
            ]  # type: ignore[misc]
        taken = {entry for entry, _, _ in pending}
        waiting = {entry for entry, _ in entries if as_id(entry) > as_id(position)}
        assert taken | waiting == {entry for entry, _ in entries}, f"cut at byte {cut - first}"
        assert not taken & waiting
    figures.report("F15", server=server.kind, step="fetch", bytes=last - first, cuts=len(cuts), torn=0)


def as_id(text: bytes) -> tuple[int, ...]:
    return tuple(map(int, text.split(b"-")))


def test_an_apply_whose_log_is_cut_anywhere_is_completed_by_the_next(
    server: Server, figures: Figures, seed: int
):
    topology = make_topology("cut", *QUEUES, routes=(ROUTE,))
    first = log_length(server)
    Place(server, topology).apply()
    last = log_length(server)
    cuts = choose_cuts(first, last, False, seed)
    for cut in cuts:
        with server_with_log_cut(server, cut) as restarted:
            # Whoever was cut off holds the lock still; its life is short, and nobody else runs here.
            place = Place(restarted, topology)
            place.command("DEL", "{cut}:lock")
            place.apply()
            with place.link() as link:
                assert apply_changes(link, topology, who="again").applied == ()
    figures.report("F15", server=server.kind, step="apply", bytes=last - first, cuts=len(cuts), torn=0)


def test_a_log_with_a_wrong_byte_in_its_middle_is_not_started_from(
    server: Server, stage: Stage, figures: Figures
):
    """Better no server than half of the messages."""
    stage.send("work", *map(str, range(50)))
    server.kill()
    path = log_file(server.folder)
    content = path.read_bytes()
    middle = content.index(b"*", len(content) // 2)
    path.write_bytes(content[:middle] + b"?" + content[middle + 1 :])
    with pytest.raises(RuntimeError, match="did not start"):
        replace(server, process=None).start()
    figures.report("F16", server=server.kind, started=0)

"""Messages that may have taken a worker down: kept apart from fresh ones, on every server and connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leanmq_topology.brokers.protocol import Part
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.messages.codec import decode_dead_letter
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, count_calls, open_carrier

PLAIN = Queue(name="plain", max_deliveries=5, max_crashes=2)


@pytest.fixture(params=COLOURS)
def stage(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        yield Stage(make_topology(namespace, PLAIN), RedisBroker(namespace), carry, admin, server.url)
    admin.close()


def dead_letters(stage: Stage) -> list[str]:
    rows = stage.raw("XRANGE", stage.keys.dead("plain"), "-", "+")
    return [decode_dead_letter(flat).reason for _, flat in rows]


def claim_part(stage: Stage, part: Part, consumer: str = "other", count: int = 100) -> list[str]:
    """All of this part that may be claimed, by id."""
    found, cursor = [], "0-0"
    while True:
        operation = stage.broker.claim(PLAIN, consumer, cursor=cursor, count=count, part=part)
        cursor, some = stage.carry(operation)
        found += [one.envelope.id for one in some]
        if cursor == "0-0":
            return found


def test_what_a_dead_worker_had_started_is_left_to_those_who_run_it_alone(stage: Stage):
    stage.send("plain", "running", "waiting", "also running")
    first, _, third = stage.fetch("plain", count=3)
    started = [first.entry_id, third.entry_id]
    back = stage.carry(stage.broker.release_held("plain", "me", started=started, suspect=True))
    assert (back.freed, back.started, back.more) == (1, (first, third), False)
    [health] = stage.carry(stage.broker.survey(["plain"], "other"))
    assert (health.free, health.suspects) == (3, 2)
    assert stage.look("plain").consumers == 1
    assert claim_part(stage, Part.FRESH) == ["waiting"]
    assert claim_part(stage, Part.FRESH) == []
    assert claim_part(stage, Part.SUSPECT, "alone") == ["running", "also running"]
    assert claim_part(stage, Part.SUSPECT, "another") == []


def test_what_lapsed_in_silence_comes_under_suspicion_once_and_keeps_its_count(stage: Stage):
    stage.send("plain", "m1", "m2", "released")
    *lapsed, last = stage.fetch("plain", count=3)
    stage.lapse("plain", *lapsed)
    stage.carry(stage.broker.release("plain", "me", [last]))
    assert claim_part(stage, Part.FRESH) == ["released"]
    [health] = stage.carry(stage.broker.survey(["plain"], "other"))
    assert health.suspects == 2
    moved = count_calls(stage)["xclaim"]
    assert claim_part(stage, Part.FRESH) == []
    assert count_calls(stage)["xclaim"] == moved, "nobody puts them there again"
    claim = stage.broker.claim(PLAIN, "alone", cursor="0-0", count=1, part=Part.SUSPECT)
    _, [first] = stage.carry(claim)
    assert (first.envelope.id, first.delivery_count) == ("m1", 2)
    stage.carry(stage.broker.release("plain", "alone", [first]))
    assert claim_part(stage, Part.FRESH) == []  # its first hand-out is still counted
    assert claim_part(stage, Part.ALL) == ["m1", "m2"]


def test_a_crash_alone_leaves_a_message_under_suspicion_until_its_limit(stage: Stage):
    stage.send("plain", "m1")
    stage.carry(stage.broker.release_held("plain", "me", started=[stage.fetch_one("plain").entry_id],
                                          suspect=True))  # fmt: skip
    for expected in (1, 0):
        claim = stage.broker.claim(PLAIN, "alone", cursor="0-0", count=1, part=Part.SUSPECT)
        _, [delivered] = stage.carry(claim)
        assert stage.carry(stage.broker.crash("plain", "alone", [delivered])) == [True]
        [health] = stage.carry(stage.broker.survey(["plain"], "other"))
        assert health.suspects == expected
    assert dead_letters(stage) == ["crashed"]


def test_parts_are_found_in_bounded_stretches_behind_many_that_live(stage: Stage):
    """A stretch looks at ten times what is asked for; the cursor leads on behind it."""
    stage.send("plain", *(f"m{number}" for number in range(60)))
    held = stage.fetch("plain", count=60)
    stage.carry(stage.broker.release("plain", "me", [held[41], held[59]]))
    stage.lapse("plain", held[5], held[58])
    assert claim_part(stage, Part.FRESH, count=1) == ["m41", "m59"]
    assert claim_part(stage, Part.SUSPECT, count=1) == ["m5", "m58"]


def test_what_was_deleted_while_it_lapsed_is_no_part_and_counted_as_vanished(stage: Stage):
    stage.send("plain", "deleted", "lapsed")
    held = stage.fetch("plain", count=2)
    stage.lapse("plain", *held)
    stage.raw("XDEL", stage.keys.queue("plain"), held[0].entry_id)
    assert claim_part(stage, Part.SUSPECT) == ["lapsed"]
    assert stage.look("plain").in_flight == 1


def test_what_the_asker_holds_itself_is_its_own_whatever_it_asks_for(stage: Stage):
    stage.send("plain", "m1")
    mine = stage.fetch_one("plain")
    stage.lapse("plain", mine)
    claim = stage.broker.claim(PLAIN, "me", cursor="0-0", count=1, held=[mine.entry_id], part=Part.FRESH)
    assert stage.carry(claim) == ("0-0", [mine])

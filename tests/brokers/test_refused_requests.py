"""Whatever takes a request out of its queue tells who waits for the reply, in the same step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from leanmq_topology import RemoteError
from leanmq_topology.brokers.protocol import Dying, Purge, Reply, Stored
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.plan.changes import Pruning
from leanmq_topology.reconciler import apply_changes
from leanmq_topology.topology import model
from leanmq_topology.topology.model import OnExpire, Overflow, Queue
from tests.brokers.test_requests import LONG, declare
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage, open_carrier
from tests.support.workers import Place

INBOX = "mine"
BOOM = Failure("ValueError", "boom")
QUEUES = (
    Queue(name="plain", max_deliveries=1, max_crashes=1),
    Queue(name="narrow", max_deliveries=1, dead_letter=model.DeadLetter(max_length=1)),
    Queue(name="forgetful", on_expire=OnExpire.DISCARD),
    Queue(name="small", max_length=1),
    Queue(name="dropping", max_length=1, overflow=Overflow.DROP_OLDEST),
    Queue(name="burying", max_length=1, overflow=Overflow.DEAD_LETTER),
)
BY_NAME = {queue.name: queue for queue in QUEUES}


@pytest.fixture
def stage(server: Server, namespace: str) -> Iterator[Stage]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier("blocking", server.url) as carry:
        stage = Stage(make_topology(namespace, *QUEUES), RedisBroker(namespace), carry, admin, server.url)
        carry(stage.broker.open_inbox(INBOX, lifetime_ms=60_000))
        yield stage
    admin.close()


def request(stage: Stage, queue: str, message_id: str, **options: int) -> Outgoing:
    plain = stage.outgoing(queue, message_id, **options)
    envelope = msgspec.structs.replace(plain.envelope, headers={"time": "now", "replyto": INBOX})
    return msgspec.structs.replace(plain, envelope=envelope)


def ask(stage: Stage, queue: str, *ids: str, **options: int) -> None:
    sends = [request(stage, queue, message_id, **options) for message_id in ids]
    results = stage.carry(stage.broker.send(stage.flush(*sends)))
    assert all(isinstance(result, Stored) for result in results)


def told(stage: Stage) -> list[tuple[str, str]]:
    """Id of each request of the inbox, and the class of its failure."""
    found = stage.carry(stage.broker.read_inbox(INBOX, "0", count=100, block_ms=0))
    return [(item.reply.request_id, item.reply.failure.type if item.reply.failure else "") for item in found]


def lapse_and_claim(stage: Stage) -> str:
    stage.lapse("plain", stage.fetch_one("plain"))
    assert stage.carry(stage.broker.claim(BY_NAME["plain"], "other", cursor="0-0", count=10)) == ("0-0", [])
    return "LeaseLapsed"


def crash(stage: Stage) -> str:
    assert stage.carry(stage.broker.crash("plain", "me", [stage.fetch_one("plain")])) == [True]
    return "Crashed"


def reject(stage: Stage) -> str:
    dying = [Dying(stage.fetch_one("plain"), DeadReason.REJECTED, BOOM)]
    assert stage.carry(stage.broker.dead_letter("plain", "me", dying)) == [True]
    return "ValueError"


def bury(stage: Stage) -> str:
    [waiting] = stage.carry(stage.broker.peek("plain", count=1))
    assert waiting.entry_id
    assert stage.carry(stage.broker.bury("plain", [waiting.entry_id], BOOM)) == 1
    return "ValueError"


def discard(stage: Stage) -> str:
    delivered = stage.fetch_one("plain")
    operation = stage.broker.discard("plain", "me", [delivered], reasons={delivered.entry_id: "not now"})
    assert stage.carry(operation) == [True]
    return "Discard"


def purge(stage: Stage) -> str:
    done = stage.carry(stage.broker.purge("plain", "p1", keep_ms=60_000))
    assert done == Purge("plain", "p1", keep_ms=60_000, ready=1)
    return "Purged"


def purge_for_good(stage: Stage) -> str:
    stage.fetch_one("plain")
    done = stage.carry(stage.broker.purge("plain", "p1", keep_ms=0))
    assert done == Purge("plain", "p1", keep_ms=0, in_flight=1)
    return "Purged"


Taker = Callable[[Stage], str]


@pytest.mark.parametrize(
    "take",
    [lapse_and_claim, crash, reject, bury, discard, purge, purge_for_good],
    ids=lambda take: take.__name__,
)
def test_whoever_takes_a_request_away_tells_its_client_once_and_at_once(stage: Stage, take: Taker):
    ask(stage, "plain", "r")
    kind = take(stage)
    assert told(stage) == [("r", kind)]


@pytest.mark.parametrize("take", [lapse_and_claim, crash, reject, bury], ids=lambda take: take.__name__)
def test_of_a_client_that_is_gone_nothing_is_made_and_it_is_counted(stage: Stage, take: Taker):
    ask(stage, "plain", "r")
    stage.carry(stage.broker.close_inbox(INBOX))
    take(stage)
    assert stage.raw("EXISTS", stage.keys.inbox(INBOX)) == 0
    state = stage.look("plain")
    assert state.counters is not None
    assert (state.dead, state.counters["late_replies"]) == (1, 1)


def test_an_inbox_that_is_no_stream_keeps_no_message_from_its_dead_letters(stage: Stage):
    ask(stage, "plain", "r")
    stage.raw("DEL", stage.keys.inbox(INBOX))
    stage.raw("SET", stage.keys.inbox(INBOX), "something else")
    reject(stage)
    assert (stage.look("plain").dead, stage.look("plain").in_flight) == (1, 0)


@pytest.mark.parametrize("queue", ["plain", "forgetful"])
@pytest.mark.parametrize("sweeper", ["sweep", "expire", "claim"])
def test_a_request_that_expires_before_its_client_does_is_told_and_leaves_no_dead_letter(
    stage: Stage, queue: str, sweeper: str
):
    ask(stage, queue, "r", ttl_ms=1)
    if sweeper == "claim":
        stage.raw("HSET", stage.keys.meta(queue), "max_deliveries", 1000, "visibility_ms", 0)
        stage.fetch_one(queue)
        operation = stage.broker.claim(BY_NAME[queue], "other", cursor="0-0", count=10)
    elif sweeper == "sweep":
        operation = stage.broker.sweep([queue])
    else:
        operation = stage.broker.expire(queue, cursor="")
    while not told(stage):  # until the server's clock has gone on by a millisecond
        stage.carry(operation)
    assert told(stage) == [("r", "Expired")]
    assert stage.look(queue).dead == 0


def test_an_expired_request_of_a_client_that_is_gone_is_no_late_reply(stage: Stage):
    ask(stage, "plain", "r", ttl_ms=1)
    stage.carry(stage.broker.close_inbox(INBOX))
    while stage.look("plain").ready:
        stage.carry(stage.broker.sweep(["plain"]))
    state = stage.look("plain")
    assert state.counters is not None
    assert state.counters["late_replies"] == 0


def test_a_parked_request_is_told_when_it_is_parked_and_not_again(stage: Stage):
    ask(stage, "narrow", "one", "two")
    deliveries = stage.fetch("narrow")
    dying = [Dying(delivered, DeadReason.FAILED, BOOM) for delivered in deliveries]
    assert stage.carry(stage.broker.dead_letter("narrow", "me", dying)) == [True, True]
    expected = [("one", "ValueError"), ("two", "ValueError")]
    assert told(stage) == expected
    assert stage.carry(stage.broker.purge("narrow", "p", keep_ms=60_000)).delayed == 1
    assert told(stage) == expected


def test_a_request_that_a_full_queue_dead_letters_is_told(stage: Stage):
    ask(stage, "burying", "in", "out")
    assert told(stage) == [("out", "Overflow")]


def test_a_request_that_makes_room_for_a_later_one_is_told_in_one_flush_and_in_the_next(stage: Stage):
    ask(stage, "dropping", "first", "second")
    assert told(stage) == [("first", "Overflow")]
    ask(stage, "dropping", "third")
    assert told(stage) == [("first", "Overflow"), ("second", "Overflow")]


def test_a_request_that_expired_at_the_head_makes_room_and_is_told(stage: Stage):
    ask(stage, "small", "old", ttl_ms=1)
    asked = stage.server_ms()
    while stage.server_ms() <= asked + 1:
        pass
    ask(stage, "small", "new")
    assert told(stage) == [("old", "Expired")]


def test_a_purge_tells_delayed_ones_too_and_a_bounded_number_of_them(stage: Stage):
    ask(stage, "plain", *(f"ready{n}" for n in range(990)))
    ask(stage, "plain", *(f"later{n}" for n in range(20)), delay_ms=60_000)
    done = stage.carry(stage.broker.purge("plain", "p", keep_ms=60_000))
    assert (done.ready, done.delayed) == (990, 20)
    found = stage.carry(stage.broker.read_inbox(INBOX, "0", count=2000, block_ms=0))
    kinds = [item.reply.request_id.rstrip("0123456789") for item in found]
    assert (kinds.count("ready"), kinds.count("later")) == (990, 10)


def test_a_purge_that_has_told_as_many_as_it_may_reads_no_delayed_ones(stage: Stage):
    ask(stage, "plain", *(f"ready{n}" for n in range(1000)))
    ask(stage, "plain", *(f"ready{n}" for n in range(1000, 1010)))
    ask(stage, "plain", *(f"later{n}" for n in range(20)), delay_ms=60_000)
    done = stage.carry(stage.broker.purge("plain", "p", keep_ms=60_000))
    assert (done.ready, done.delayed) == (1010, 20)
    found = stage.carry(stage.broker.read_inbox(INBOX, "0", count=2000, block_ms=0))
    assert not [item for item in found if item.reply.request_id.startswith("later")]


def test_headers_that_only_look_like_a_request_are_passed_over(stage: Stage):
    for headers in ('{"replyto":', '{"replyto":7}', '{"replyto":"a:b"}', '{"replyto":""}', '["replyto":1]'):
        words = ("id", "x", "type", "t", "data", "{}", "headers", headers, "attempt", "0", "expires", "")
        stage.raw("XADD", stage.keys.queue("plain"), "*", *words)
    for entry_id, _ in stage.raw("XRANGE", stage.keys.queue("plain"), "-", "+"):
        assert stage.carry(stage.broker.bury("plain", [entry_id.decode()], BOOM)) == 1
    assert (stage.look("plain").dead, told(stage)) == (5, [])


async def test_a_caller_hears_at_once_that_its_request_was_purged(
    server: Server, namespace: str, tmp_path: Path
):
    place = Place(server, declare(namespace, tmp_path))
    place.apply()
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            link.connection.execute(link.broker.purge("work", "p", keep_ms=60_000))
        with pytest.raises(RemoteError, match="purged") as caught:
            await asking
    assert caught.value.type == "Purged"


async def test_a_caller_hears_at_once_that_the_queue_of_its_request_was_deleted(
    server: Server, namespace: str, tmp_path: Path
):
    topology = declare(namespace, tmp_path)
    place = Place(server, topology)
    place.apply()
    smaller = replace(topology, queues={"out": topology.queues["out"]}, routes={})
    pruning = Pruning(frozenset({"queues.work"}))
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            apply_changes(link, smaller, who="ada", approve=lambda change: True, pruning=pruning)
        with pytest.raises(RemoteError, match="its queue was deleted") as caught:
            await asking
    assert caught.value.type == "Purged"
    assert place.command("EXISTS", place.key("m", "work"), place.key("q", "work")) == 0


async def test_a_request_that_outlives_its_queues_lifetime_is_not_waited_for_any_longer(
    server: Server, namespace: str, tmp_path: Path
):
    place = Place(server, declare(namespace, tmp_path, ttl_ms=1))
    place.apply()
    async with place.client() as client:
        asking = asyncio.create_task(client.request("ask", {"n": 1}, timeout=LONG))
        await place.until(lambda state: state.ready == 1)
        with place.link() as link:
            while not asking.done():
                link.connection.execute(link.broker.sweep(["work"]))
                await asyncio.sleep(0.01)
        with pytest.raises(RemoteError, match="expired"):
            await asking
        assert client.reply_counts.late == 0


def test_a_reply_and_a_refusal_read_alike(stage: Stage):
    ask(stage, "plain", "r")
    reject(stage)
    [arrived] = stage.carry(stage.broker.read_inbox(INBOX, "0", count=10, block_ms=0))
    assert arrived.reply == Reply(INBOX, "r", failure=BOOM)

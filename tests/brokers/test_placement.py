"""A queue lies where its record says, whatever its namespace is: rule 27, on real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from msgspec import structs
from msgspec.structs import replace

from leanmq_topology import Message, Reject, Retry
from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.brokers.protocol import (
    ApplyLock,
    Damage,
    DeadEntry,
    Dying,
    NoRoom,
    Operation,
    Pair,
    Reply,
    Retrying,
    Revival,
    Shelf,
    Stale,
    Undone,
    Written,
)
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.client import connect_sync
from leanmq_topology.errors import BlockedChangeError, BrokerError
from leanmq_topology.messages.adoption import Move
from leanmq_topology.messages.envelope import Envelope, Once
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.operations import following
from leanmq_topology.operations.following import Follower
from leanmq_topology.operations.queues import find_purge, purge_queue, undo_purge
from leanmq_topology.operations.status import count_overdue, read_status
from leanmq_topology.plan.changes import Pruning
from leanmq_topology.plan.render import render_text
from leanmq_topology.plan.revision import build_revision
from leanmq_topology.reconciler import apply_changes, plan_changes
from leanmq_topology.topology.model import Deduplication, FanoutRoute, KeepAcked, Queue, Target
from leanmq_topology.upkeep.steps import carry_out
from leanmq_topology.upkeep.watch import Watch
from tests.support.factories import make_topology, run
from tests.support.lease_times import move_leases
from tests.support.placing import find_keys, find_tag, place
from tests.support.servers import Server
from tests.support.stage import COLOURS, Stage, open_carrier
from tests.support.workers import PATIENCE_SECONDS, Place, load, work_queue, working
from tests.support.workers import make_topology as make_numbers

T = TypeVar("T")

DAY_MS = 24 * 60 * 60 * 1000
WORK = Queue(name="work", max_deliveries=3, max_crashes=2)
ODD = Queue(name="o{d}d:%", keep_acked=KeepAcked(count=3), deduplication=Deduplication(window_ms=DAY_MS))
HOME = Queue(name="home")
FAILURE = Failure("Broken", "it broke")


class Life:
    """Two queues elsewhere and one at home. Whoever does something never heard where they lie."""

    def __init__(self, stage: Stage, colour: str) -> None:
        self.stage, self.colour = stage, colour
        self.namespace = stage.keys.namespace
        self.tag = f"{self.namespace}-b"
        for queue in (WORK.name, ODD.name):
            place(stage.admin, self.namespace, queue, self.tag)
            stage.keys.learn(f"MISPLACED {{{self.tag}}}{stage.keys.meta(queue)}")

    def do(self, make: Callable[[RedisBroker], Operation[T]]) -> T:
        """Carry it out; nothing may come into being where the queues do not lie."""
        broker = RedisBroker(self.namespace)
        with open_carrier(self.colour, self.stage.url, keys=broker.keys) as carry:
            result = carry(make(broker))
        assert find_keys(self.stage.admin, self.namespace, WORK.name, ODD.name) == set()
        return result

    def send(self, target: str, *ids: str, to: tuple[str, ...] = (), **options: Any) -> None:
        sends = [self.stage.outgoing(target, one, *to, **options) for one in ids]
        results = self.do(lambda broker: broker.send(self.stage.flush(*sends)))
        assert [result.copies for result in results] == [len(to) or 1] * len(ids)  # type: ignore[union-attr]

    def fetch(self, queue: str = "work", count: int = 100) -> list[Any]:
        """The first answer of somebody who looked for it elsewhere is empty: it is to be read again."""
        broker = RedisBroker(self.namespace)
        with open_carrier(self.colour, self.stage.url, keys=broker.keys) as carry:
            assert carry(broker.fetch([HOME.name, queue], "me", count=count, block_ms=0)) == []
            return carry(broker.fetch([HOME.name, queue], "me", count=count, block_ms=0))

    def drain(self, queue: str = "work") -> None:
        entries = [one.entry_id for one in self.fetch(queue)]
        assert self.do(lambda broker: broker.ack(queue, entries)) == len(entries)

    def counts(self, queue: str = "work") -> tuple[int, int, int, int]:
        [state] = self.do(lambda broker: broker.inspect_queues([queue]))
        assert state.damage is None
        return state.ready, state.in_flight, state.delayed, state.dead


@pytest.fixture(params=COLOURS)
def life(server: Server, namespace: str, request: pytest.FixtureRequest) -> Iterator[Life]:
    admin = BlockingRedisConnection.open(parse_address(server.url))
    with open_carrier(request.param, server.url) as carry:
        stage = Stage(
            make_topology(namespace, WORK, ODD, HOME), RedisBroker(namespace), carry, admin, server.url
        )
        yield Life(stage, request.param)
    admin.close()


# -- each operation alone --------------------------------------------------------------------------------


def test_what_is_sent_arrives_where_the_record_says(life: Life):
    life.send("work", "one")
    life.send("work", "a", "b", "c")
    life.send("home", "both", to=("home", "work"))
    life.send("work", "later", delay_ms=DAY_MS)
    assert life.counts() == (5, 0, 1, 0)
    life.stage.make_due("work")
    assert life.do(lambda broker: broker.maintain(["work"])).promoted == 1
    arrived = life.fetch()
    assert [one.envelope.id for one in arrived if one.queue == "home"] == ["both"]
    there = [one.envelope.id for one in arrived if one.queue == "work"]
    assert there == ["one", "a", "b", "c", "both", "later"]


def test_nothing_is_stored_in_what_was_left_where_a_queue_lay(life: Life):
    left = f"{{{life.namespace}}}:q:work"
    life.stage.raw("XGROUP", "CREATE", left, "g", "0", "MKSTREAM")
    for options in ({}, {"plain": False}):
        flush = life.stage.flush(life.stage.outgoing("work", "m1", **options))
        broker = RedisBroker(life.namespace)
        with open_carrier(life.colour, life.stage.url, keys=broker.keys) as carry:
            carry(broker.send(flush))
    assert life.stage.raw("XLEN", left) == 0
    assert life.stage.raw("XLEN", life.stage.keys.queue("work")) == 2


def test_a_duplicate_is_known_where_the_record_says(life: Life):
    once = (Once(queue=ODD.name, identity=b"1", window_ms=DAY_MS),)
    life.send(ODD.name, "m1", once=once, plain=False)
    again = life.stage.flush(life.stage.outgoing(ODD.name, "m2", once=once, plain=False))
    [result] = life.do(lambda broker: broker.send(again))
    assert type(result).__name__ == "Duplicate"
    assert any(":u:" in key for key in find_keys(life.stage.admin, life.tag, ODD.name))


def test_what_is_delivered_is_settled_where_it_lies(life: Life):
    life.send("work", *"abcdefg")
    a, b, c, d, e, f, g = life.fetch()
    do = life.do
    assert do(lambda broker: broker.extend("work", "me", [a])) == [True]
    assert do(lambda broker: broker.ack("work", [a.entry_id])) == 1
    assert do(lambda broker: broker.delete("work", [b.entry_id])) == 1
    assert do(lambda broker: broker.retry("work", "me", [Retrying(c, DAY_MS)])) == [True]
    dying = [Dying(d, DeadReason.FAILED, FAILURE)]
    assert do(lambda broker: broker.dead_letter("work", "me", dying)) == [True]
    assert do(lambda broker: broker.discard("work", "me", [e])) == [True]
    assert do(lambda broker: broker.release("work", "me", [f])) == [True]
    assert do(lambda broker: broker.crash("work", "me", [g])) == [True]
    assert life.counts() == (0, 2, 1, 1)
    assert do(lambda broker: broker.release_held("work", "me")).freed == 0
    [health] = do(lambda broker: broker.survey(["work"], "me"))
    assert (health.damage, health.pending, health.free, health.suspects) == (None, 2, 2, 1)


def test_an_acknowledgement_takes_its_outputs_along(life: Life):
    life.send("work", "first")
    [first] = life.fetch()
    outputs = (life.stage.outgoing("home", "out"), life.stage.outgoing(ODD.name, "odd"))
    sent = life.do(lambda broker: broker.ack_with_outputs("me", first, life.stage.flush(*outputs)))
    assert (sent.ours, len(sent.results)) == (True, 2)
    life.send("work", "second")
    second = next(one for one in life.fetch() if one.queue == "work")
    plain = life.stage.flush(life.stage.outgoing("work", "third"))
    sent = life.do(lambda broker: broker.ack_with_outputs("me", second, plain))
    assert (sent.ours, len(sent.results)) == (True, 1)
    [third] = life.fetch()
    life.do(lambda broker: broker.open_inbox("mine", lifetime_ms=DAY_MS))
    reply = Reply("mine", third.envelope.id, "t", b"{}")
    assert life.do(lambda broker: broker.ack_with_outputs("me", third, life.stage.flush(), reply)).ours
    assert len(life.do(lambda broker: broker.read_inbox("mine", "0", count=9, block_ms=0))) == 1
    assert life.counts(ODD.name) == (1, 0, 0, 0)


def test_a_lapsed_lease_is_claimed_and_an_orphan_found_where_it_lies(life: Life):
    life.send("work", "a", "b")
    deliveries = life.fetch()
    life.stage.lapse("work", *deliveries)
    claimed = life.do(lambda broker: broker.claim(WORK, "other", cursor="0-0", count=9))[1]
    assert [one.envelope.id for one in claimed] == ["a", "b"]
    own = life.do(lambda broker: broker.fetch_own("work", "other", cursor="0-0", known=()))[1]
    assert len(own) == 2
    stream, delayed = life.stage.keys.queue("work"), life.stage.keys.delayed("work")
    move_leases(life.stage, "work", DAY_MS)
    assert life.do(lambda broker: broker.repair_clock("work")).found == 2
    life.stage.raw("XGROUP", "DELCONSUMER", stream, "g", "other")
    assert life.do(lambda broker: broker.rescue("work")).found == 2
    life.stage.raw("XGROUP", "DESTROY", stream, "g")
    assert life.do(lambda broker: broker.rescue_group("work")) == 2
    life.send("work", "later", delay_ms=DAY_MS)
    life.stage.raw("DEL", delayed)
    assert life.do(lambda broker: broker.rescue_delayed("work")).found == 1
    assert life.do(lambda broker: broker.list_filled(["home", "work"])) == ["work"]


def test_dead_letters_are_read_replayed_and_forgotten_where_they_lie(life: Life):
    life.send("work", "a", "b", "c")
    entries = [one.entry_id for one in life.fetch()]
    assert life.do(lambda broker: broker.bury("work", entries, FAILURE)) == 3
    letters = life.do(lambda broker: broker.read_dead_letters("work", after="", count=9))
    assert [one.letter.envelope.id for one in letters] == ["a", "b", "c"]
    rest = life.do(lambda broker: broker.read_dead_letters("work", after=letters[0].entry_id, count=1))
    assert [one.letter.envelope.id for one in rest] == ["b"]
    first, second, third = (Revival(one.entry_id, {}) for one in letters)
    replayed = life.do(lambda broker: broker.replay("work", [first]))
    assert not isinstance(replayed, NoRoom)
    assert replayed.moved == (True,)
    elsewhere = life.do(lambda broker: broker.replay("home", [second], source="work"))
    assert not isinstance(elsewhere, NoRoom)
    assert elsewhere.moved == (True,)
    assert life.do(lambda broker: broker.discard_dead_letters("work", [third.entry_id])) == [True]
    assert life.counts() == (1, 0, 0, 0)
    assert life.counts("home") == (1, 0, 0, 0)


def test_a_purge_is_undone_where_it_was(life: Life):
    life.send("work", "a")
    life.send("work", "later", delay_ms=DAY_MS)
    purge = life.do(lambda broker: broker.purge("work", "one", keep_ms=DAY_MS))
    assert (purge.ready, purge.delayed) == (1, 1)
    assert life.counts() == (0, 0, 0, 0)
    assert [one.purge_id for one in life.do(lambda broker: broker.list_purges("work"))] == ["one"]
    assert life.do(lambda broker: broker.undo_purge(purge, count=9)) == Undone(restored=2, left=0)
    assert life.counts() == (1, 0, 1, 0)
    life.do(lambda broker: broker.bury("work", [life.fetch()[0].entry_id], FAILURE))
    dead = life.do(lambda broker: broker.purge_dead_letters("work", "two", keep_ms=DAY_MS))
    assert (dead.dead, life.counts()[3]) == (1, 0)
    assert life.do(lambda broker: broker.undo_purge(dead, count=9)) == Undone(restored=1, left=0)
    assert life.counts() == (0, 0, 1, 1)


def test_what_is_over_goes_where_it_lies(life: Life):
    life.stage.add_expired("work", "a", "b")
    assert life.do(lambda broker: broker.count_expired("work")).expired == 2
    assert life.do(lambda broker: broker.expire("work", cursor="")).count == 2
    life.stage.add_expired("work", "c")
    assert life.do(lambda broker: broker.sweep(["home", "work"])).expired == 1
    assert life.counts() == (0, 0, 0, 3)
    life.send(ODD.name, "kept")
    life.drain(ODD.name)
    assert life.do(lambda broker: broker.forget_history(ODD.name)) == 1


def test_readers_are_listed_where_they_read(life: Life):
    life.do(lambda broker: broker.heartbeat("me", {"host": "here"}, lifetime_ms=DAY_MS, queues=["work"]))
    assert life.do(lambda broker: broker.list_consumers(["home", "work"])) == ["me"]
    assert life.do(lambda broker: broker.leave("me", ["work"])) == 1
    life.stage.raw("XGROUP", "CREATECONSUMER", life.stage.keys.queue("work"), "g", "old")
    assert life.do(lambda broker: broker.reap(["home", "work"], idle_ms=-1)) == 1
    life.send("work", "a")
    ends = life.do(lambda broker: broker.read_ends(["home", "work"]))
    assert ends["home"] == "0-0" != ends["work"]
    assert len(life.do(lambda broker: broker.search("work", Shelf.QUEUE, "a")).found) == 1
    life.send("work", "later", delay_ms=DAY_MS)
    assert len(life.do(lambda broker: broker.search("work", Shelf.DELAYED, "later")).found) == 1
    [waiting, _] = life.do(lambda broker: broker.peek("work", count=9))
    assert waiting.envelope is not None
    assert waiting.envelope.id == "a"


def test_what_an_old_version_left_moves_to_where_the_record_says(life: Life):
    prefix, raw = f"{life.namespace}-old:", life.stage.raw
    old, dead = f"{prefix}work", f"{prefix}work:dlq"
    envelope = Envelope("m1", "", b"{}")
    waiting = raw("XADD", old, "*", "data", "{}").decode()
    died = raw("XADD", dead, "*", "data", "{}").decode()
    assert life.do(lambda broker: broker.move_old(prefix, "work", [Move(waiting, envelope)])).waiting == 1
    assert life.do(lambda broker: broker.bury_old(prefix, "work", [Move(died, envelope)])).dead == 1
    assert life.counts() == (1, 0, 0, 1)


def test_a_pair_is_found_and_deleted_where_it_lies(life: Life):
    name = "by-hand"
    pair = life.do(lambda broker: broker.create_pair(Queue(name=name)))
    admin = life.stage.admin
    assert find_tag(admin, life.namespace, name) == life.namespace
    place(admin, life.namespace, name, life.tag)
    assert life.do(lambda broker: broker.create_pair(Queue(name=name))) == pair
    assert isinstance(pair, Pair)
    life.send(name, "m1", digest="")
    assert find_keys(admin, life.namespace, name) == set()
    assert find_tag(admin, life.namespace, name) == life.tag
    assert life.do(lambda broker: broker.delete_pair(name, dead_letters=True)) is True
    assert find_keys(admin, life.tag, name) == set()


def test_dead_letters_that_outlive_their_pair_are_found_where_they_lie(life: Life):
    """Its record goes on saying where, and nothing else; to everybody else the queue is gone."""
    name, admin, stage = "by-hand", life.stage.admin, life.stage
    pair = life.do(lambda broker: broker.create_pair(Queue(name=name)))
    assert isinstance(pair, Pair)
    place(admin, life.namespace, name, life.tag)
    life.send(name, "m1", digest="")
    life.do(lambda broker: broker.bury(name, [life.fetch(name)[0].entry_id], FAILURE))
    assert life.do(lambda broker: broker.delete_pair(name, dead_letters=False)) is True
    assert stage.raw("HGETALL", stage.keys.meta(name)) == [b"tag", life.tag.encode()]

    [letter] = life.do(lambda broker: broker.read_dead_letters(name, after="", count=9))
    assert letter.letter.envelope.id == "m1"
    assert life.do(lambda broker: broker.list_pairs()) == [structs.replace(pair, has_queue=False)]
    [state] = life.do(lambda broker: broker.inspect_queues([name]))
    assert (state.damage, state.dead) == (Damage.MISSING, 1)
    [health] = life.do(lambda broker: broker.survey([name], "me"))
    assert health.damage is Damage.MISSING
    flush = stage.flush(stage.outgoing(name, "m2", digest=""))
    assert life.do(lambda broker: broker.send(flush)) == [Stale(name, None)]
    declared = replace(stage.topology, queues={**stage.topology.queues, name: Queue(name=name)})
    with open_blocking(stage.url, namespace=life.namespace, folder=Path()) as link:
        assert not plan_changes(link, declared).blocked

    assert life.do(lambda broker: broker.create_pair(Queue(name=name))) == pair
    assert life.counts(name) == (0, 0, 0, 1)
    assert life.do(lambda broker: broker.delete_pair(name, dead_letters=False)) is True
    assert life.do(lambda broker: broker.delete_pair(name, dead_letters=True)) is True
    assert find_keys(admin, life.tag, name) == find_keys(admin, life.namespace, name) == set()
    assert stage.raw("EXISTS", stage.keys.meta(name)) == 0


def test_each_step_of_an_apply_finds_a_queue_where_it_lies(life: Life):
    """One that changes it leaves it there, one that takes it away takes it from there."""
    stage, longer = life.stage, replace(WORK, max_length=7)
    wanted = replace(stage.topology, queues={"home": HOME, "work": longer})
    with open_blocking(stage.url, namespace=life.namespace, folder=Path()) as link:
        plan = plan_changes(link, wanted, Pruning())
    assert not plan.blocked
    revision = build_revision(plan, owner=wanted.name, by="ada", at_ms=0, commit=None)
    life.send(ODD.name, "kept")
    life.drain(ODD.name)
    assert find_keys(stage.admin, life.tag, ODD.name)
    lock = life.do(lambda broker: broker.take_lock(wanted.name, "ada", lifetime_ms=DAY_MS))
    assert isinstance(lock, ApplyLock)
    for at in range(len(list(RedisBroker(life.namespace).write_revision(lock, revision)))):
        done = life.do(lambda broker, at=at: list(broker.write_revision(lock, revision))[at])  # type: ignore[misc]
        assert isinstance(done, Written)
    assert find_tag(stage.admin, life.namespace, "work") == life.tag
    assert stage.raw("HGET", stage.keys.meta("work"), "max_length") == b"7"
    assert find_keys(stage.admin, life.tag, ODD.name) == set()


# -- people and programs ---------------------------------------------------------------------------------


@pytest.fixture
def shop(server: Server, namespace: str, tmp_path: Path) -> Place:
    """`work`, elsewhere, and `home`, with a route to both; applied, then placed."""
    topology = make_numbers(namespace, tmp_path, work_queue(max_deliveries=2), Queue(name="home"))
    targets = (Target(queue="home"), Target(queue="work"))
    made = Place(server, replace(topology, routes={"both": FanoutRoute(name="both", to=targets)}))
    made.apply()
    with made.link() as link:
        place(raw(link), namespace, "work", f"{namespace}-b")
    return made


def raw(link: BlockingLink) -> BlockingRedisConnection:
    assert isinstance(link.connection, BlockingRedisConnection)
    return link.connection


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)  # handlers have no signal of their own


def left_at_home(shop: Place) -> set[str]:
    with shop.link() as link:
        return find_keys(raw(link), shop.topology.broker.namespace, "work")


async def test_workers_and_senders_follow_the_record(shop: Place):
    """Retries, dead letters and what handlers send, too; and once more after it was placed anew."""
    got: list[tuple[str, int]] = []

    async def work(data: dict[str, int], message: Message) -> None:
        got.append(("work", data["n"]))
        if data["n"] == 1 and message.attempt == 1:
            raise Retry(after=0.01)
        if data["n"] == 2:
            raise Reject("not this one")
        if data["n"] == 3:
            message.send("home", {"n": 30})
            message.send("work", {"n": 31})

    async def at_home(data: dict[str, int]) -> None:
        got.append(("home", data["n"]))

    namespace = shop.topology.broker.namespace
    async with shop.client() as client, working(shop, load(work), load(at_home, "home")):
        await client.send_many("both", [{"n": 1}])
        await client.send_many("work", [{"n": 2}, {"n": 3}])
        await client.send("work", {"n": 4}, delay=0.02)
        state = await shop.until_settled()
        await until(lambda: len(got) == 8)
        assert sorted(got) == [("home", 1), ("home", 30), *(("work", n) for n in (1, 1, 2, 3, 4, 31))]
        assert state.dead == 1
        assert left_at_home(shop) == set()

        with shop.link() as link:
            place(raw(link), namespace, "work", f"{namespace}-c")
        await client.send("work", {"n": 5})
        await until(lambda: ("work", 5) in got)  # the reader finds out by itself
        await shop.until_settled()
    with shop.link() as link:
        assert find_keys(raw(link), f"{namespace}-c", "work") == {f"{{{namespace}-c}}:q:work"}
        assert not run(raw(link), "XLEN", f"{{{namespace}-b}}:q:work")
    assert left_at_home(shop) == set()


def test_a_consumer_follows_the_record(shop: Place):
    namespace = shop.topology.broker.namespace
    with connect_sync(shop.topology, url=shop.server.url) as mq, shop.link() as link:
        for tag in (f"{namespace}-b", f"{namespace}-c"):
            place(raw(link), namespace, "work", tag)
            mq.send("work", {"n": 1})
            [delivery] = mq.receive("work", wait=10)
            delivery.nack(delay=0.01)
            [delivery] = mq.receive("work", wait=10)
            delivery.ack()
    assert left_at_home(shop) == set()


def test_an_operator_finds_everything_where_it_lies(shop: Place):
    with connect_sync(shop.topology, url=shop.server.url) as mq:
        mq.send_many("both", [{"n": 1}, {"n": 2}])
    namespace = shop.topology.broker.namespace
    with shop.link() as link:
        status = count_overdue(link, read_status(link, namespace))
        assert status.states["work"].ready == 2
    with shop.link() as link:
        assert purge_queue(link, "work").ready == 2
    with shop.link() as link:
        assert sum(done.restored for done in undo_purge(link, find_purge(link, "work"))) == 2
    assert left_at_home(shop) == set()


@pytest.mark.parametrize("dead", [False, True])
def test_who_follows_from_the_past_finds_what_lies_elsewhere_and_finds_it_again(
    shop: Place, monkeypatch: pytest.MonkeyPatch, dead: bool
):
    """A read of streams alone never hears where they lie, and other queues may keep it busy."""
    namespace = shop.topology.broker.namespace
    monkeypatch.setattr(following, "LOOK_S", 0.0)
    with connect_sync(shop.topology, url=shop.server.url) as mq, shop.link() as link:
        follower = Follower(link, ["work"], dead=dead, told=print)
        follower.begin(back_ms=int(time.time() * 1000))
        for tag in (f"{namespace}-b", f"{namespace}-c"):
            with shop.link() as other:
                place(raw(other), namespace, "work", tag)
            mq.send("work", {"n": 1})
            if dead:
                mq.reject(mq.receive("work", wait=10))
            [found] = islice(follower.read(time.monotonic() + PATIENCE_SECONDS), 1)
            assert isinstance(found, DeadEntry) == dead
    assert left_at_home(shop) == set()


def test_a_plan_sees_a_queue_elsewhere_as_it_is_and_an_apply_leaves_it_there(shop: Place):
    namespace, topology = shop.topology.broker.namespace, shop.topology
    with shop.link() as link:
        plan = plan_changes(link, topology, Pruning())
        assert not plan.differs
    longer = replace(
        topology, queues={**topology.queues, "work": work_queue(max_length=7, accepts=("number",))}
    )
    with shop.link() as link:
        apply_changes(link, longer, who="ada", approve=lambda change: True)
        assert find_tag(raw(link), namespace, "work") == f"{namespace}-b"
        assert run(raw(link), "HGET", f"{{{namespace}}}:m:work", "max_length") == b"7"
        assert not plan_changes(link, longer).differs
    assert left_at_home(shop) == set()
    rest = replace(topology, queues={"home": topology.queues["home"]}, routes={})
    with shop.link() as link:
        apply_changes(link, rest, who="ada", pruning=Pruning(), approve=lambda change: True)
        assert find_keys(raw(link), f"{namespace}-b", "work") == set()
    assert left_at_home(shop) == set()


@pytest.mark.parametrize("tag", [None, "", "a}b"])
def test_a_record_that_does_not_say_where_its_queue_lies_is_an_error_that_names_it(
    shop: Place, namespace: str, tag: str | None, caplog: pytest.LogCaptureFixture
):
    """Nobody guesses: a wrong guess would be a second queue of that name. The other queues go on."""
    record = f"{{{namespace}}}:m:work"
    with shop.link() as link:
        words = ("HDEL", record, "tag") if tag is None else ("HSET", record, "tag", tag)
        run(raw(link), *words)
    with connect_sync(shop.topology, url=shop.server.url) as mq:
        with pytest.raises(BrokerError, match=r"does not say where its messages lie .*:m:work"):
            mq.send("work", {"n": 1})
        mq.send("home", {"n": 1})
    with shop.link() as link:
        [work, home] = link.connection.execute(link.broker.inspect_queues(["work", "home"]))
        assert (work.damage, home.ready) == (Damage.UNPLACED, 1)
        assert work.problem == f"{record} does not say where the queue lies"
        health = link.connection.execute(link.broker.survey(["work", "home"], "me"))
        assert [one.damage for one in health] == [Damage.UNPLACED, None]
        lane: Any = SimpleNamespace(name="work", queue=WORK, damage=None, note_health=lambda health: True)
        carry_out(Watch(link.broker, "me", [lane], lambda: None).look(), link.connection)
        assert "queue work" in caplog.text
        assert "their record does not say where they lie" in caplog.text
        with pytest.raises(BrokerError, match=":m:work"):
            link.connection.execute(link.broker.purge("work", "one", keep_ms=0))
        with pytest.raises(BlockedChangeError, match=r"queues\.work"):
            apply_changes(link, shop.topology, who="ada", approve=lambda change: True)
        told = render_text(plan_changes(link, shop.topology))
        assert "queues.work  its record does not say where its messages lie" in told
        assert "set the field `tag` of that record again" in " ".join(told.split())
    assert left_at_home(shop) == set()

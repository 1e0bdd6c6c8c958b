"""Consuming without a runner: what is handed out, how often, and what becomes of it. Either colour."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import (
    LeaseLostError,
    SettingError,
    TopologyNotAppliedError,
    UnknownTargetError,
    connect_sync,
)
from leanmq_topology.brokers.protocol import DeadEntry, QueueState
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.client.consuming import housekeeper
from leanmq_topology.topology.model import (
    FanoutRoute,
    KeepAcked,
    MessageType,
    OnExpire,
    Queue,
    Target,
    Topology,
)
from tests.support.chaos_proxy import ChaosProxy
from tests.support.consumers import COLOURS, Consumer, open_consumer
from tests.support.factories import make_topology, run, write_topology
from tests.support.servers import Server

PATIENCE = 20.0
LEASE_MS = 2000
"""Where a lease is to lapse. Everywhere else it outlasts whatever a busy machine does to a test."""
HELD_MS = 4000
"""Where it must not lapse although others wait for longer."""
NUMBER = MessageType(
    name="number", schema={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
)
WORK = Queue(name="work")
BRIEF = Queue(name="work", visibility_timeout_ms=LEASE_MS)
HELD = Queue(name="work", visibility_timeout_ms=HELD_MS)


class Place:
    """One namespace on one server, and clients of the colour under test."""

    def __init__(self, server: Server, namespace: str, colour: str, stack: ExitStack) -> None:
        self.server, self.namespace, self.colour, self._stack = server, namespace, colour, stack
        self.admin = BlockingRedisConnection.open(parse_address(server.url))
        stack.callback(self.admin.close)
        self.broker = RedisBroker(namespace)
        self.topology = make_topology(namespace)

    def apply(self, *queues: Queue, generation: int = 1, **more: Any) -> Topology:
        self.topology = make_topology(self.namespace, *queues, **more)
        write_topology(self.admin, self.topology, generation=generation)
        return self.topology

    def client(self, topology: Topology | None = None, url: str | None = None) -> Consumer:
        made = open_consumer(self.colour, topology or self.topology, url or self.server.url)
        return self._stack.enter_context(made)

    def send(self, *numbers: int, queue: str = "work", **options: Any) -> None:
        with connect_sync(self.topology, url=self.server.url) as mq:
            for number in numbers:
                mq.send(queue, {"n": number}, **options)

    def state(self, queue: str = "work") -> QueueState:
        return self.admin.execute(self.broker.inspect_queues([queue]))[0]

    def counted(self, name: str, queue: str = "work") -> int:
        return (self.state(queue).counters or {}).get(name, 0)

    def dead(self, queue: str = "work") -> list[DeadEntry]:
        return self.admin.execute(self.broker.read_dead_letters(queue, after="", count=100))


@pytest.fixture(params=COLOURS)
def place(request: pytest.FixtureRequest, server: Server, namespace: str) -> Iterator[Place]:
    with ExitStack() as stack:
        made = Place(server, namespace, request.param, stack)
        made.apply(WORK)
        yield made


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for what the server says; it has no other signal for this."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def numbers(found: list[Any]) -> list[int]:
    return [delivery.data["n"] for delivery in found]


# -- waiting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0, 0.5, 1.3])
def test_a_receive_from_an_empty_queue_returns_when_its_time_is_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, wait: float
):
    """Also when that is longer than one read on the server takes."""
    monkeypatch.setattr("leanmq_topology.client.consuming.shelf.BLOCK_SECONDS", 0.4)
    mq = place.client()
    assert mq.receive() == []  # opens what it needs
    began = time.monotonic()
    assert mq.receive(wait=wait) == []
    assert wait - 0.01 <= time.monotonic() - began < wait + 3


def test_a_receive_that_waits_gets_what_is_sent_meanwhile(place: Place):
    mq = place.client()
    later = threading.Timer(0.2, place.send, [7])
    later.start()
    assert mq.one().data == {"n": 7}
    later.join()


def test_up_to_so_many_are_received_oldest_first(place: Place):
    place.send(*range(5))
    mq = place.client()
    assert numbers(mq.receive(count=3)) == [0, 1, 2]
    assert numbers(mq.receive(count=3)) == [3, 4]
    assert mq.receive(count=3) == []


@pytest.mark.parametrize(
    ("count", "wait"), [(0, 0), (1001, 0), (True, 0), ("1", 0), (1, -1), (1, "5s"), (1, float("nan"))]
)
def test_a_count_or_wait_that_cannot_be_is_refused(place: Place, count: Any, wait: Any):
    with pytest.raises(SettingError):
        place.client().receive(count=count, wait=wait)


# -- what a delivery is ----------------------------------------------------------------------------------


def test_a_delivery_is_a_message_with_everything_that_was_sent(place: Place):
    place.apply(replace(WORK, accepts=("number",)), messages=(NUMBER,))
    place.send(7, id="seven", headers={"tenant": "a"}, correlation_id="c-1", ttl="1h")
    got = place.client().one()
    assert (got.id, got.message_id, got.data, got.type, got.version) == (
        "seven",
        "seven",
        {"n": 7},
        "number",
        1,
    )
    assert (got.attempt, got.delivery_count, got.redelivered, got.queue) == (1, 1, False, "work")
    assert got.correlation_id == "c-1"
    assert got.headers["tenant"] == "a"
    assert 3500 < got.expires_at - got.sent_at < 3700
    assert not got.settled


def test_an_acknowledged_message_is_gone(place: Place):
    place.send(1)
    mq = place.client()
    got = mq.one()
    assert place.state().in_flight == 1
    mq.call(got.ack())
    assert (place.state().waiting, place.counted("acked"), got.late, got.settled) == (0, 1, False, True)


def test_a_failed_message_is_delivered_again_after_its_delay_and_that_counts(place: Place):
    place.send(1)
    mq = place.client()
    mq.call(mq.one().nack(delay=0.3, reason="later"))
    began = time.monotonic()
    again = mq.one()
    assert time.monotonic() - began >= 0.25
    assert (again.attempt, again.redelivered) == (2, False)
    mq.call(again.ack())
    assert place.state().waiting == 0


def test_a_message_that_fails_on_its_last_delivery_is_dead_lettered_with_the_reason(place: Place):
    place.apply(replace(WORK, max_deliveries=2))
    place.send(1)
    mq = place.client()
    for _ in range(2):
        mq.call(mq.one().nack(delay=0, reason="no stock"))
    (dead,) = place.dead()
    assert (dead.letter.reason, dead.letter.failure.message) == ("failed", "no stock")
    assert dead.letter.envelope.attempt == 2
    assert place.state().waiting == 0


def test_a_rejected_message_is_dead_lettered_at_once(place: Place):
    place.send(1)
    mq = place.client()
    mq.call(mq.one().reject("unknown customer"))
    (dead,) = place.dead()
    assert (dead.letter.reason, dead.letter.failure.message) == ("rejected", "unknown customer")


def test_a_released_message_comes_again_as_if_for_the_first_time(place: Place):
    place.send(1)
    mq = place.client()
    mq.call(mq.one().release())
    assert mq.one().attempt == 1


def test_a_discarded_message_is_gone_and_not_counted_as_done(place: Place):
    place.send(1)
    mq = place.client()
    mq.call(mq.one().discard())
    assert (place.state().waiting, place.counted("acked"), place.counted("discarded")) == (0, 0, 1)


def test_a_deleted_message_leaves_no_copy_where_acknowledged_ones_are_kept(place: Place):
    place.apply(replace(WORK, keep_acked=KeepAcked(count=100)))
    place.send(1, 2)
    mq = place.client()
    kept, gone = mq.receive(count=2)
    mq.call(kept.ack())
    mq.call(gone.delete())
    assert (place.state().waiting, place.state().kept, place.counted("acked")) == (0, 1, 2)


def test_many_are_settled_together(place: Place):
    place.send(*range(12))
    mq = place.client()
    found = mq.receive(count=12)
    mq.call(mq.mq.ack(found[:6]))
    mq.call(mq.mq.nack(found[6:8], delay=3600))
    mq.call(mq.mq.reject(found[8:10], "no"))
    mq.call(mq.mq.release(found[10:]))
    state = place.state()
    assert (place.counted("acked"), state.delayed, state.dead) == (6, 2, 2)
    assert sorted(numbers(mq.receive(count=12, wait=PATIENCE))) == [10, 11]


@pytest.mark.parametrize("verb", ["ack", "nack", "reject", "release", "discard", "delete"])
def test_a_message_is_settled_once(place: Place, verb: str):
    place.send(1)
    mq = place.client()
    got = mq.one()
    mq.call(got.ack())
    with pytest.raises(LeaseLostError, match="settled before"):
        mq.call(getattr(got, verb)())
    assert place.counted("acked") == 1


def test_a_batch_with_a_message_that_was_settled_before_changes_nothing(place: Place):
    place.send(1, 2)
    mq = place.client()
    first, second = mq.receive(count=2)
    mq.call(first.ack())
    with pytest.raises(LeaseLostError):
        mq.call(mq.mq.ack([second, first]))
    assert (place.counted("acked"), second.settled) == (1, False)
    mq.call(second.ack())
    assert place.counted("acked") == 2


# -- what is not handed out ------------------------------------------------------------------------------


def test_what_the_queue_does_not_accept_is_dead_lettered_and_not_handed_out(place: Place):
    """Another program wrote it, past the check of the sender."""
    place.send(1)
    place.apply(replace(WORK, accepts=("number",)), messages=(NUMBER,))
    place.send(2)
    mq = place.client()
    assert mq.one().data == {"n": 2}
    until(lambda: bool(place.dead()), "it is dead-lettered soon")
    (dead,) = place.dead()
    assert (dead.letter.reason, dead.letter.envelope.data) == ("invalid", b'{"n":1}')
    assert "number" in dead.letter.failure.message


def test_what_breaks_the_applied_schema_is_dead_lettered_with_the_place(place: Place):
    place.apply(replace(WORK, accepts=("number",)), messages=(replace(NUMBER, schema=True),))
    place.send(1)
    with connect_sync(place.topology, url=place.server.url) as mq:
        mq.send("work", {"n": "one"})
    place.apply(replace(WORK, accepts=("number",)), messages=(NUMBER,), generation=2)
    mq2 = place.client()
    assert mq2.one().data == {"n": 1}
    assert mq2.receive(wait=0) == []
    until(lambda: bool(place.dead()), "it is dead-lettered soon")
    assert "/n" in place.dead()[0].letter.failure.message


def test_an_entry_that_is_not_ours_is_dead_lettered_as_it_is(place: Place):
    run(place.admin, "XADD", place.broker.keys.queue("work"), "*", "colour", "blue")
    place.send(1)
    assert place.client().one().data == {"n": 1}
    until(lambda: bool(place.dead()), "it is dead-lettered soon")
    assert place.dead()[0].letter.reason == "undecodable"


@pytest.mark.parametrize("on_expire", list(OnExpire))
def test_an_expired_message_is_never_handed_out(place: Place, on_expire: OnExpire):
    place.apply(replace(WORK, on_expire=on_expire))
    place.send(1, ttl=0.05)
    place.send(2)
    time.sleep(0.1)
    mq = place.client()
    assert mq.one().data == {"n": 2}
    until(lambda: place.counted("expired") == 1, "it is counted soon")
    assert [dead.letter.reason for dead in place.dead()] == (
        ["expired"] if on_expire is OnExpire.DEAD_LETTER else []
    )


def test_what_expires_while_it_waits_for_its_turn_in_a_batch_is_not_handed_out(place: Place):
    place.send(1)
    place.send(2, ttl=0.5)
    place.send(3)
    mq = place.client()
    iterator = mq.consume(batch=10)
    assert mq.next(iterator).data == {"n": 1}
    time.sleep(0.6)
    assert mq.next(iterator).data == {"n": 3}
    until(lambda: place.counted("expired") == 1, "it is counted soon")
    mq.end(iterator)


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(place: Place):
    place.send(1)
    place.admin.execute(place.broker.pause(["work"]))
    mq = place.client()
    assert mq.receive(wait=0.3) == []
    place.admin.execute(place.broker.resume(["work"]))
    assert mq.one().data == {"n": 1}


def test_what_waits_in_a_batch_when_the_queue_is_paused_goes_back_uncounted(place: Place):
    place.send(1, 2)
    mq = place.client()
    iterator = mq.consume(batch=10)
    assert mq.next(iterator).data == {"n": 1}
    place.admin.execute(place.broker.pause(["work"]))
    until(lambda: owned_by_nobody(place) == 1, "the second is handed back within a second")
    place.admin.execute(place.broker.resume(["work"]))
    second = mq.next(iterator)
    assert (second.data, second.attempt) == ({"n": 2}, 1)
    mq.end(iterator)


def owned_by_nobody(place: Place) -> int:
    return place.admin.execute(place.broker.survey(["work"], "nobody-else"))[0].free


# -- leases ----------------------------------------------------------------------------------------------


def test_the_lease_of_a_message_is_renewed_while_the_caller_works(place: Place):
    place.apply(HELD)
    place.send(1)
    mq, other = place.client(), place.client()
    got = mq.one()
    assert other.receive(wait=1.6 * HELD_MS / 1000) == []
    mq.call(got.ack())
    assert (got.late, place.counted("late")) == (False, 0)


def test_a_message_that_nobody_keeps_comes_back_and_that_counts(place: Place):
    place.apply(BRIEF)
    place.send(1)
    mq = place.client()
    assert mq.one().attempt == 1  # and is dropped here
    assert mq.one().attempt == 2


def test_without_renewal_the_lease_lapses_and_a_late_acknowledgement_is_taken(place: Place):
    place.apply(BRIEF)
    place.send(1)
    mq, other = place.client(), place.client()
    got = mq.receive(renew=False)[0]
    again = other.one()
    assert (again.attempt, again.redelivered) == (2, True)
    mq.call(got.ack())
    assert (got.late, place.state().waiting, place.counted("late")) == (True, 0, 1)
    other.call(again.ack())
    assert again.late, "it was settled by the other already"


@pytest.mark.parametrize("verb", ["nack", "reject", "release", "discard"])
def test_settling_what_somebody_else_owns_by_now_raises_and_changes_nothing(place: Place, verb: str):
    place.apply(BRIEF)
    place.send(1)
    mq, other = place.client(), place.client()
    got = mq.receive(renew=False)[0]
    again = other.one()
    with pytest.raises(LeaseLostError) as raised:
        mq.call(getattr(got, verb)())
    assert raised.value.message_id == got.id
    state = place.state()
    assert (state.in_flight, state.ready, state.delayed, state.dead) == (1, 0, 0, 0)
    other.call(again.ack())
    assert place.state().waiting == 0


def test_extending_keeps_a_message_that_is_not_renewed_otherwise(place: Place):
    place.apply(HELD)
    place.send(1)
    mq, other = place.client(), place.client()
    got = mq.receive(renew=False)[0]
    mq.call(got.extend(60))
    assert other.receive(wait=1.6 * HELD_MS / 1000) == []
    mq.call(got.ack())
    assert not got.late


def test_extending_what_somebody_else_owns_by_now_raises(place: Place):
    place.apply(BRIEF)
    place.send(1)
    mq, other = place.client(), place.client()
    got = mq.receive(renew=False)[0]
    kept = other.one()
    with pytest.raises(LeaseLostError):
        mq.call(got.extend(60))
    other.call(kept.ack())


def test_what_a_dead_consumer_held_is_taken_over_after_its_lease(place: Place):
    place.apply(BRIEF)
    place.send(1, 2)
    place.admin.execute(place.broker.fetch(["work"], "dead", count=2, block_ms=0))
    mq = place.client()
    found = [mq.one(), mq.one()]
    assert sorted((got.data["n"], got.attempt) for got in found) == [(1, 2), (2, 2)]


def test_a_message_past_its_deliveries_is_dead_lettered_and_not_handed_out_again(place: Place):
    place.apply(replace(BRIEF, max_deliveries=1))
    place.send(1)
    place.admin.execute(place.broker.fetch(["work"], "dead", count=1, block_ms=0))
    mq = place.client()
    handed_out = []

    def is_dead() -> bool:
        handed_out.extend(mq.receive(wait=0.5))
        return bool(place.dead())

    until(is_dead, "its lease lapsed on the last delivery")
    assert handed_out == []
    assert place.dead()[0].letter.reason == "failed"


def test_a_queue_that_is_added_is_kept_from_the_moment_its_keeper_knows_of_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    place.apply(WORK, replace(WORK, name="second"))
    mq = place.client()
    mq.receive("work")
    keeper, interval, asked = mq.mq._consumer._housekeeper, housekeeper.renewal_seconds, list[str]()

    def look_round(queue: Queue) -> float:
        if queue.name == "second" and not asked:
            asked.append(queue.name)
            keeper._renew_all()  # as its own thread may at any time, while a queue is being added
        return interval(queue)

    monkeypatch.setattr(housekeeper, "renewal_seconds", look_round)
    assert mq.receive("second") == []
    assert asked


def test_a_mistake_of_ours_lets_no_lease_lapse_and_is_told_once_with_its_place(
    place: Place, caplog: pytest.LogCaptureFixture
):
    place.apply(HELD)
    place.send(1)
    mq, other = place.client(), place.client()
    got, mistakes = mq.one(), list[int]()

    def mistake() -> None:
        mistakes.append(1)
        raise KeyError("a mistake of ours")

    mq.mq._consumer._housekeeper._look = mistake
    assert other.receive(wait=1.6 * HELD_MS / 1000) == []
    assert len(mistakes) > 1
    assert [record.exc_info is not None for record in caplog.records if "upkeep" in record.message] == [True]
    mq.call(got.ack())
    assert (got.late, place.counted("acked")) == (False, 1)


# -- the end of an iterator and of a client --------------------------------------------------------------


def test_an_iterator_that_ends_gives_everything_back_and_counts_only_what_it_handed_out(place: Place):
    place.send(1, 2, 3)
    mq = place.client()
    iterator = mq.consume(batch=10)
    first = mq.next(iterator)
    mq.end(iterator)
    found = [mq.one() for _ in range(3)]
    assert sorted((got.data["n"], got.attempt) for got in found) == [(1, 2), (2, 1), (3, 1)]
    with pytest.raises(LeaseLostError, match="iterator was closed"):
        mq.call(first.nack())


def test_a_client_that_is_closed_gives_everything_back_at_once_and_its_name_too(place: Place):
    place.send(1, 2, 3)
    mq = place.client()
    kept = mq.receive(count=2)
    iterator = mq.consume(batch=1)
    mq.next(iterator)
    mq.close()
    assert place.state().in_flight == 0
    assert len(place.admin.execute(place.broker.list_consumers(["work"]))) == 0
    del kept
    other = place.client()
    assert sorted((got.data["n"], got.attempt) for got in [other.one(), other.one(), other.one()]) == [
        (1, 2),
        (2, 2),
        (3, 2),
    ]


def test_closing_a_client_ends_the_receive_of_another_thread(server: Server, namespace: str):
    with ExitStack() as stack:
        place = Place(server, namespace, "blocking", stack)
        place.apply(WORK)
        mq, found = place.client(), list[Any]()
        waiting = threading.Thread(target=lambda: found.append(mq.receive(wait=60)))
        waiting.start()
        until(lambda: reads_wait(place) == 1, "the thread waits on the server")
        mq.close()
        waiting.join(PATIENCE)
        assert found == [[]]


def reads_wait(place: Place) -> int:
    listed = run(place.admin, "CLIENT", "LIST")
    return sum(b"cmd=xreadgroup" in line and b"flags=b" in line for line in listed.splitlines())


# -- threads, faults, upkeep -----------------------------------------------------------------------------


def test_threads_share_a_client_and_none_gets_what_another_has(server: Server, namespace: str):
    with ExitStack() as stack:
        place = Place(server, namespace, "blocking", stack)
        place.apply(WORK)
        mq, found, lock = place.client(), list[int](), threading.Lock()

        def work() -> None:
            while True:
                got = mq.receive(wait=1.5)
                if not got:
                    return
                got[0].ack()
                with lock:
                    found.append(got[0].data["n"])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        place.send(*range(40))
        for thread in threads:
            thread.join(60)
        assert sorted(found) == list(range(40))


def test_a_receive_that_does_not_wait_is_not_held_up_by_one_that_does(server: Server, namespace: str):
    with ExitStack() as stack:
        place = Place(server, namespace, "blocking", stack)
        place.apply(WORK)
        mq, found = place.client(), list[Any]()
        waiting = threading.Thread(target=lambda: found.extend(mq.receive(wait=30)))
        waiting.start()
        until(lambda: reads_wait(place) == 1, "the thread waits on the server")
        began = time.monotonic()
        assert mq.receive(wait=0) == []
        assert time.monotonic() - began < 15  # the other waits for 30
        place.send(1)
        waiting.join(PATIENCE)
        assert numbers(found) == [1]


def test_a_program_that_only_consumes_gets_delayed_messages_when_they_are_due(place: Place):
    mq = place.client()
    place.send(1, delay=0.4)
    began = time.monotonic()
    assert mq.one().data == {"n": 1}
    assert time.monotonic() - began > 0.2


def test_broken_connections_are_mended_and_nothing_is_lost(place: Place):
    place.send(*range(5))
    mq = place.client()
    iterator, found = mq.consume(batch=2), []
    for _ in range(5):
        got = mq.next(iterator)
        run(place.admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        mq.call(got.ack())
        found.append((got.data["n"], got.attempt))
    assert found == [(number, 1) for number in range(5)]
    assert place.state().waiting == 0
    mq.end(iterator)


def test_a_message_whose_answer_was_lost_is_found_again_uncounted(place: Place):
    with ChaosProxy(place.server.socket_path) as proxy:
        mq = place.client(url=proxy.url)
        assert mq.receive() == []
        place.send(1)
        proxy.lose_answers(1, to=b"XREADGROUP")
        got = mq.one()
        assert (proxy.lost, got.data, got.attempt) == (1, {"n": 1}, 1)
        mq.call(got.ack())
        mq.close()


def test_a_settlement_whose_answer_was_lost_is_no_lost_lease(place: Place):
    with ChaosProxy(place.server.socket_path) as proxy:
        mq = place.client(url=proxy.url)
        place.send(1, 2)
        first, second = mq.receive(count=2, wait=PATIENCE)
        proxy.lose_answers(1, to=first.entry_id.encode())
        mq.call(first.nack(delay=3600))
        proxy.lose_answers(1, to=second.entry_id.encode())
        mq.call(second.ack())
        assert (place.state().delayed, place.counted("acked"), second.late) == (1, 1, False)
        mq.close()


def test_the_client_is_listed_while_it_consumes(place: Place):
    mq = place.client()
    mq.receive()
    name = mq.mq._consumer._name
    until(lambda: bool(place.admin.execute(place.broker.inspect_workers([name]))), "its heartbeat comes soon")
    (worker,) = place.admin.execute(place.broker.inspect_workers([name]))
    assert worker.facts["queues"] == "work"
    assert place.admin.execute(place.broker.list_consumers(["work"])) == [name]


def test_a_client_tells_within_a_second_or_so_whether_anybody_waits_for_messages(
    server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    """Between heartbeats too: workers leave messages to those of whom it is said."""
    monkeypatch.setattr("leanmq_topology.client.consuming.housekeeper.HEARTBEAT_SECONDS", 600.0)
    with ExitStack() as stack:
        place = Place(server, namespace, "blocking", stack)
        place.apply(WORK)
        mq, found = place.client(), list[Any]()

        def told() -> list[str]:
            listed = place.admin.execute(place.broker.inspect_workers([mq.mq._consumer._name]))
            return [worker.facts["reading"] for worker in listed]

        assert mq.receive(wait=0) == []
        until(lambda: told() == [""], "nobody waits")
        waiting = threading.Thread(target=lambda: found.extend(mq.receive(wait=PATIENCE)))
        waiting.start()
        until(lambda: told() == ["work"], "a thread waits")
        place.send(1)
        waiting.join(PATIENCE)
        until(lambda: told() == [""], "it has what it waited for")
        assert numbers(found) == [1]


def test_limits_and_schemas_follow_what_is_applied_while_it_runs(place: Place):
    place.apply(replace(WORK, accepts=("number",)), messages=(replace(NUMBER, schema=True),))
    mq = place.client()
    mq.receive()
    place.apply(replace(WORK, accepts=("number",)), messages=(NUMBER,), generation=2)
    until(lambda: mq.mq._consumer._desks["work"].shelf.stale, "the new generation is heard of")
    fields = {
        "id": "odd",
        "type": "number",
        "data": '{"n":"one"}',
        "headers": "",
        "attempt": "0",
        "expires": "",
    }
    words = [word for pair in fields.items() for word in pair]
    run(place.admin, "XADD", place.broker.keys.queue("work"), "*", *words)
    assert mq.receive(wait=0.5) == []
    until(lambda: bool(place.dead()), "the new schema refuses it")
    assert place.dead()[0].letter.reason == "invalid"


# -- queues that are damaged -----------------------------------------------------------------------------


def add_foreign_entry(place: Place, queue: str) -> None:
    run(place.admin, "XADD", place.broker.keys.queue(queue), "*", "not", "ours")


def put_something_else(place: Place, key: str) -> None:
    run(place.admin, "DEL", key)
    run(place.admin, "SET", key, "not ours")


def test_what_is_left_over_of_a_damaged_queue_holds_nothing_of_the_others_up(place: Place):
    place.apply(replace(WORK, name="damaged"), WORK)
    put_something_else(place, place.broker.keys.dead("damaged"))
    mq = place.client()
    for queue in ("damaged", "work"):
        add_foreign_entry(place, queue)
        assert mq.receive(queue) == []
    until(lambda: len(place.dead()) == 1, "the foreign entry goes to the dead-letter queue that is whole")
    run(place.admin, "DEL", place.broker.keys.dead("damaged"))
    until(lambda: len(place.dead("damaged")) == 1, "once it is mended, what was left over goes there too")


def test_what_is_left_over_of_a_damaged_queue_is_no_reason_to_keep_a_closed_clients_name(place: Place):
    place.apply(replace(WORK, name="damaged"), WORK)
    put_something_else(place, place.broker.keys.dead("damaged"))
    add_foreign_entry(place, "damaged")
    mq = place.client()
    assert mq.receive("damaged") == []
    place.send(1)
    got = mq.one("work")
    mq.close()
    del got
    assert place.state().in_flight == 0
    assert place.admin.execute(place.broker.list_consumers(["work"])) == []


def test_what_is_left_over_of_a_queue_that_is_gone_is_dropped(place: Place):
    place.apply(replace(WORK, name="gone"), WORK)
    put_something_else(place, place.broker.keys.dead("gone"))
    add_foreign_entry(place, "gone")
    mq = place.client()
    assert mq.receive("gone") == []
    shelf = mq.mq._consumer._desks["gone"].shelf
    assert len(shelf.leftovers) == 1
    keys = place.broker.keys
    run(place.admin, "DEL", keys.queue("gone"), keys.meta("gone"), keys.dead("gone"))
    until(lambda: not shelf.leftovers, "there is no queue any more that it could leave")


# -- which queue -----------------------------------------------------------------------------------------


def test_a_queue_that_no_topology_declares_is_consumed_by_its_own_record(place: Place):
    place.apply(replace(WORK, name="bare", visibility_timeout_ms=20_000, max_deliveries=2))
    place.send(1, queue="bare")
    run(place.admin, "DEL", place.broker.keys.topology)
    mq = place.client(make_topology(place.namespace))
    got = mq.one("bare")
    assert mq.mq._consumer._desks["bare"].shelf.queue.max_deliveries == 2
    mq.call(got.ack())
    assert place.state("bare").waiting == 0


def test_a_route_holds_no_messages_and_says_which_queues_do(place: Place):
    route = FanoutRoute(name="events", to=(Target(queue="work"),))
    place.apply(WORK, routes=(route,))
    with pytest.raises(SettingError, match="is a route") as raised:
        place.client().receive("events")
    assert "work" in (raised.value.hint or "")


def test_an_unknown_queue_is_named_with_the_closest(place: Place):
    with pytest.raises(UnknownTargetError) as raised:
        place.client().receive("wrok")
    assert raised.value.closest == "work"


def test_a_queue_that_was_never_applied_cannot_be_consumed(place: Place):
    declared = make_topology(place.namespace, WORK, Queue(name="new"))
    with pytest.raises(TopologyNotAppliedError):
        place.client(declared).receive("new")


def test_a_queue_that_is_deleted_under_a_consumer_is_an_error_and_no_endless_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.client.consuming.shelf.MISSING_SECONDS", 0.3)
    mq = place.client()
    mq.receive()
    run(place.admin, "DEL", place.broker.keys.queue("work"))
    with pytest.raises(TopologyNotAppliedError):
        mq.receive(wait=PATIENCE)


def test_a_group_that_is_deleted_under_a_consumer_is_made_again(place: Place):
    mq = place.client()
    mq.receive()
    run(place.admin, "XGROUP", "DESTROY", place.broker.keys.queue("work"), "g")
    place.send(1)
    assert mq.one().data == {"n": 1}

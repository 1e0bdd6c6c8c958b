"""Taking away what is no longer declared, on real servers: nothing is lost that nobody gave up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import Message, connect, connect_sync
from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.errors import (
    BlockedChangeError,
    ConcurrentApplyError,
    LeanMQError,
    TopologyNotAppliedError,
)
from leanmq_topology.operations.queues import purge_queue
from leanmq_topology.plan.changes import Pruning
from leanmq_topology.reconciler import AppliedPlan, apply_changes, plan_changes
from leanmq_topology.topology.model import (
    FanoutRoute,
    Lifecycle,
    MessageType,
    OnRemove,
    Queue,
    Target,
    Topology,
)
from tests.brokers.test_apply import Interrupting
from tests.support.dying_apply import WrappedLink
from tests.support.factories import make_topology, run
from tests.support.servers import Server
from tests.support.workers import Place, load, working

KEPT = Queue(name="kept")


@pytest.fixture
def link(server: Server, namespace: str) -> Iterator[BlockingLink]:
    with open_blocking(server.url, namespace=namespace, folder=Path()) as opened:
        yield opened


@pytest.fixture
def before(link: BlockingLink, namespace: str) -> Callable[..., Topology]:
    """Applies a topology with a queue `old`, and a route to it, that the next one does not have."""

    def make(on_remove: OnRemove = OnRemove.DELETE) -> Topology:
        old = Queue(name="old", lifecycle=Lifecycle(on_remove=on_remove))
        route = FanoutRoute(name="events", to=(Target(queue="old"),))
        topology = make_topology(
            namespace, KEPT, old, routes=(route,), messages=(MessageType(name="placed"),)
        )
        apply_changes(link, topology, who="ada")
        return topology

    return make


def prune(link: Any, namespace: str, *allowed: str) -> AppliedPlan:
    pruning = Pruning(frozenset(allowed))
    smaller = make_topology(namespace, KEPT)
    return apply_changes(link, smaller, who="ada", approve=lambda change: True, pruning=pruning)


def send(server: Server, topology: Topology, target: str = "old") -> str:
    with connect_sync(topology, url=server.url) as mq:
        return mq.send(target, {})


def keys_of(link: BlockingLink, namespace: str, part: str) -> set[str]:
    return {key.decode() for key in run(link.connection, "KEYS", f"*{namespace}*:{part}*")}


def test_what_is_no_longer_declared_goes_without_a_trace(server: Server, link, namespace, before):
    topology = before()
    with connect_sync(topology, url=server.url) as mq:
        mq.send("events", {})
        mq.send("old", {}, delay=1000)
        for delivery in mq.receive("old", wait=5):
            delivery.reject("no")
    lost = prune(link, namespace, "queues.old")

    assert lost.applied == ("routes.events", "queues.old", "messages.placed")
    record = link.connection.execute(link.broker.read_record())
    assert set(record.resources) == {"queues.kept"}
    assert set(record.addresses) == {"kept"}
    left = {key for key in keys_of(link, namespace, "") if key.endswith((":old", ":events"))}
    assert left == set()
    assert run(link.connection, "ZSCORE", link.broker.keys.due, "old") is None
    assert not plan_changes(link, make_topology(namespace, KEPT), Pruning()).differs
    with pytest.raises(TopologyNotAppliedError):
        send(server, topology)
    with pytest.raises(TopologyNotAppliedError):
        send(server, topology, "events")


def test_an_id_may_be_sent_again_to_a_route_that_went_and_is_declared_anew(
    server: Server, link, namespace, before
):
    for _ in range(2):
        with connect_sync(before(), url=server.url) as mq:
            for _ in range(2):
                assert mq.send("events", {}, id="m") == "m"
        [old] = link.connection.execute(link.broker.inspect_queues(["old"]))
        assert old.ready == 1
        prune(link, namespace, "queues.old")


@pytest.mark.parametrize("place", ["ready", "in flight", "delayed", "dead"])
def test_a_queue_that_is_not_empty_stays_and_nothing_of_the_plan_is_applied(
    server: Server, link, namespace, before, place: str
):
    topology = before()
    with connect_sync(topology, url=server.url) as mq:
        mq.send("old", {}, delay=1000 if place == "delayed" else 0)
        if place == "in flight":
            run(
                link.connection,
                "XREADGROUP",
                "GROUP",
                "g",
                "me",
                "STREAMS",
                link.broker.keys.queue("old"),
                ">",
            )
        if place == "dead":
            for delivery in mq.receive("old", wait=5):
                delivery.reject("no")

    with pytest.raises(BlockedChangeError, match="holds 1 message") as refused:
        prune(link, namespace)

    assert refused.value.addresses == ("queues.old",)
    assert link.connection.execute(link.broker.read_record()).generation == 1


def test_a_message_that_comes_after_the_look_saves_its_queue(server: Server, link, namespace, before):
    topology = before()
    meddling = Interrupting(link, "apply_remove", lambda: send(server, topology))

    with pytest.raises(BlockedChangeError, match=r"messages came while it was applied \(1 in queues.old\)"):
        prune(WrappedLink(link.broker, meddling), namespace)

    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert (state.ready, state.exists) == (1, True)
    record = link.connection.execute(link.broker.read_record())
    assert set(record.resources) == {"queues.kept", "queues.old"}, "all else went"
    assert (record.generation, record.unfinished) == (2, None)
    assert prune(link, namespace, "queues.old").applied == ("queues.old",)


def test_a_removal_without_the_lock_removes_nothing(link, namespace, before):
    before()
    meddling = Interrupting(link, "apply_remove", lambda: run(link.connection, "DEL", link.broker.keys.lock))

    with pytest.raises(ConcurrentApplyError):
        prune(WrappedLink(link.broker, meddling), namespace)

    assert "queues.old" in link.connection.execute(link.broker.read_record()).resources
    assert run(link.connection, "EXISTS", link.broker.keys.queue("old")) == 1
    prune(link, namespace)
    assert not plan_changes(link, make_topology(namespace, KEPT), Pruning()).differs


def test_a_queue_drains_takes_no_more_and_goes_once_it_is_empty(server: Server, link, namespace, before):
    topology = before(OnRemove.DRAIN)
    send(server, topology)

    assert prune(link, namespace).applied == ("routes.events", "queues.old", "messages.placed")
    with pytest.raises(
        TopologyNotAppliedError, match=r"queues\.old is being removed .* no more messages"
    ) as told:
        send(server, topology)
    assert told.value.leaving
    assert "run `leanmq apply`" not in (told.value.hint or ""), "that would undo the removal"
    assert prune(link, namespace).applied == (), "there is nothing to do but wait"
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert (state.state, state.ready) == ("draining", 1)

    with connect_sync(topology, url=server.url) as mq:
        for delivery in mq.receive("old", wait=5):
            delivery.ack()
    assert prune(link, namespace).applied == ("queues.old",)
    assert run(link.connection, "EXISTS", link.broker.keys.queue("old")) == 0


async def test_who_sends_to_a_route_that_went_with_a_draining_queue_is_told_so(
    server: Server, link, namespace, before
):
    topology = before(OnRemove.DRAIN)
    told = []

    async def expect_refusal(sending: Awaitable[object]) -> None:
        with pytest.raises(TopologyNotAppliedError, match=r"queues\.old is being removed") as refused:
            await sending
        told.append(refused.value.leaving)

    with connect_sync(topology, url=server.url) as former:
        async with connect(topology, url=server.url) as mq:
            former.send("events", {})
            await mq.send("events", {})
            prune(link, namespace)
            await expect_refusal(asyncio.to_thread(former.send, "events", {}))
            await expect_refusal(mq.send("events", {}))
    with connect_sync(topology, url=server.url) as new:
        await expect_refusal(asyncio.to_thread(new.send, "events", {}))
    async with connect(topology, url=server.url) as mq:
        await expect_refusal(mq.send("events", {}))
        await expect_refusal(mq.send_many("events", [{}, {}]))
    assert told == [True] * 5


@pytest.mark.parametrize("started", ["before", "after"])
async def test_a_handler_that_sends_to_a_route_that_went_with_a_draining_queue_is_told_so(
    server: Server, link, namespace, before, started: str
):
    topology = before(OnRemove.DRAIN)
    place, told = Place(server, topology), list[LeanMQError]()

    async def handler(message: Message) -> None:
        with pytest.raises(TopologyNotAppliedError, match=r"queues\.old is being removed") as refused:
            message.send("events", {})
        told.append(refused.value)

    if started == "after":
        send(server, topology)
        await asyncio.to_thread(prune, link, namespace)
    async with working(place, load(handler, "kept")) as running:
        if started == "before":
            await asyncio.to_thread(send, server, topology)
            await asyncio.to_thread(prune, link, namespace)
            await running.worker._adopt_generation()
        await asyncio.to_thread(send, server, topology, "kept")
        await place.until_settled("kept")
    assert [failure.hint for failure in told] == [
        "send elsewhere; whoever declares it again and applies that undoes its removal"
    ]


def test_a_queue_that_drains_is_deleted_at_once_when_its_messages_may_be_lost(
    server: Server, link, namespace, before
):
    send(server, before(OnRemove.DRAIN))
    prune(link, namespace)
    assert prune(link, namespace, "queues.old").applied == ("queues.old",)
    assert run(link.connection, "EXISTS", link.broker.keys.queue("old")) == 0


def test_what_outlives_a_deleted_queue_goes_by_itself(server: Server, link, namespace, before):
    """The trash of a purge within a day, what deduplication remembers within its window."""
    topology = before()
    with connect_sync(topology, url=server.url) as mq:
        mq.send("old", {}, id="one")
        purge_queue(link, "old")
        mq.send("old", {}, id="two")
        mq.send("old", {}, id="three", delay=60)
    prune(link, namespace, "queues.old")
    left = {key for kind in "qdzbcamut" for key in keys_of(link, namespace, f"{kind}:old")}
    assert {key.partition("}:")[2][0] for key in left} == {"t", "u"}
    lives = {key: run(link.connection, "PTTL", key) for key in left}
    assert all(0 < life <= 24 * 60 * 60 * 1000 for life in lives.values()), lives


def test_what_was_sent_to_a_deleted_queue_is_no_duplicate_in_one_of_its_name(
    server: Server, link, namespace, before
):
    """It would pass for stored, and be nowhere."""
    topology = before()
    with connect_sync(topology, url=server.url) as mq:
        mq.send("old", {"n": 1}, id="one")
        prune(link, namespace, "queues.old")
        before()
        mq.send("old", {"n": 2}, id="one")
        mq.send("old", {"n": 2}, id="one")
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert state.counters is not None
    assert (state.ready, state.counters["duplicates"], state.counters["conflicts"]) == (1, 1, 0)


def test_a_queue_that_is_applied_again_or_mended_remembers_what_was_sent_to_it(
    server: Server, link, namespace, before
):
    topology = before()
    with connect_sync(topology, url=server.url) as mq:
        mq.send("old", {}, id="one")
        apply_changes(link, make_topology(namespace, KEPT, Queue(name="old", max_length=7)), who="ada")
        run(link.connection, "XGROUP", "DESTROY", link.broker.keys.queue("old"), "g")
        apply_changes(link, topology, who="ada", approve=lambda change: True)
        mq.send("old", {}, id="one")
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert state.ready == 1


def test_a_draining_queue_still_retries_and_dead_letters_what_it_has(server: Server, link, namespace, before):
    topology = before(OnRemove.DRAIN)
    send(server, topology)
    prune(link, namespace)
    with connect_sync(topology, url=server.url) as mq:
        for delivery in mq.receive("old", wait=5):
            delivery.nack(delay=0)
        for delivery in mq.receive("old", wait=5):
            assert delivery.attempt == 2
            delivery.reject("no")
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert (state.state, state.waiting, state.dead) == ("draining", 0, 1)
    assert prune(link, namespace).applied == (), "a dead letter is a message"


def test_declaring_a_draining_queue_again_undoes_its_removal(server: Server, link, namespace, before):
    topology = before(OnRemove.DRAIN)
    send(server, topology)
    prune(link, namespace)

    done = apply_changes(link, topology, who="ada")

    assert done.applied == ("messages.placed", "queues.old", "routes.events")
    send(server, topology)
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert (state.state, state.ready) == ("active", 2)


def test_a_pause_outlives_an_apply_that_changes_the_queue(link, namespace):
    apply_changes(link, make_topology(namespace, KEPT), who="ada")
    link.connection.execute(link.broker.pause(["kept"]))
    apply_changes(link, make_topology(namespace, replace(KEPT, max_length=5)), who="ada")
    [state] = link.connection.execute(link.broker.inspect_queues(["kept"]))
    assert state.state == "paused"


def test_a_retained_queue_is_a_pair_that_nobody_declares_until_somebody_does_again(
    server: Server, link, namespace, before
):
    topology = before(OnRemove.RETAIN)
    send(server, topology)

    prune(link, namespace)

    assert "queues.old" not in link.connection.execute(link.broker.read_record()).resources
    assert not plan_changes(link, make_topology(namespace, KEPT), Pruning()).differs
    assert run(link.connection, "HGET", link.broker.keys.pairs, "old").endswith(b" pair")
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert (state.ready, state.state) == (1, "active")

    [again] = [row for row in plan_changes(link, topology).changes if row.address == "queues.old"]
    assert again.reason == "the server already holds a queue of this name; its messages stay"
    apply_changes(link, topology, who="ada")
    send(server, topology)
    [state] = link.connection.execute(link.broker.inspect_queues(["old"]))
    assert state.ready == 2


def test_a_queue_that_a_late_message_saved_keeps_the_type_that_its_workers_need(
    server: Server, link, namespace
):
    old = Queue(name="old", accepts=("placed",))
    topology = make_topology(namespace, KEPT, old, messages=(MessageType(name="placed"),))
    apply_changes(link, topology, who="ada")

    def send_one() -> None:
        with connect_sync(topology, url=server.url) as mq:
            mq.send("old", {}, type="placed")

    late = WrappedLink(link.broker, Interrupting(link, "apply_remove", send_one))
    with pytest.raises(BlockedChangeError):
        prune(late, namespace)

    record = link.connection.execute(link.broker.read_record())
    assert set(record.resources) == {"queues.kept", "queues.old", "messages.placed"}
    assert prune(link, namespace, "queues.old").applied == ("queues.old", "messages.placed")


def test_a_name_that_was_a_routes_and_is_a_queues_now_keeps_what_the_queue_needs(
    server: Server, link, namespace
):
    apply_changes(link, named_route(namespace), who="ada")
    send(server, named_route(namespace), "name")

    turn_into(link, named_queue(namespace))

    [state] = link.connection.execute(link.broker.inspect_queues(["name"]))
    assert state.damage is None
    assert not plan_changes(link, named_queue(namespace), Pruning()).differs
    send(server, named_queue(namespace), "name")


def test_a_name_that_was_a_queues_and_is_a_routes_now_stays_known_to_senders(server: Server, link, namespace):
    apply_changes(link, named_queue(namespace), who="ada")

    turn_into(link, named_route(namespace))

    assert not plan_changes(link, named_route(namespace), Pruning()).differs
    send(server, named_route(namespace), "name")


def named_route(namespace: str) -> Topology:
    return make_topology(namespace, KEPT, routes=(FanoutRoute(name="name", to=(Target(queue="kept"),)),))


def named_queue(namespace: str) -> Topology:
    return make_topology(namespace, KEPT, Queue(name="name", max_length=5))


def turn_into(link: Any, topology: Topology) -> None:
    apply_changes(link, topology, who="ada", approve=lambda change: True, pruning=Pruning())

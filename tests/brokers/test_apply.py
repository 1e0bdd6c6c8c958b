"""Apply on real servers: it makes what the file says, writes nothing twice, and survives being killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology.brokers.connect import BlockingLink, open_blocking
from leanmq_topology.brokers.protocol import LockLost, Operation
from leanmq_topology.brokers.redis.keys import GROUP
from leanmq_topology.errors import (
    BlockedChangeError,
    BrokerError,
    BrokerFullError,
    BrokerRefusedError,
    ConcurrentApplyError,
)
from leanmq_topology.plan.changes import Create, Orphan, Update
from leanmq_topology.plan.live_state import Damage
from leanmq_topology.plan.revision import build_revision
from leanmq_topology.reconciler import apply_changes, plan_changes
from leanmq_topology.topology.model import FanoutRoute, MessageType, Queue, Target, Topology
from leanmq_topology.topology.specs import address_digests, fingerprint, resource_specs
from tests.support.dying_apply import WrappedLink, make_wide_topology
from tests.support.factories import make_topology, run
from tests.support.processes import PATIENCE_SECONDS, wait_until
from tests.support.servers import Server

PLACED = MessageType(name="placed", schema={"type": "object"})
BILLING = Queue(name="billing", accepts=("placed",), max_length=100)
EMAILS = Queue(name="emails", accepts=("placed",))
EVENTS = FanoutRoute(name="events", accepts=("placed",), to=(Target(queue="billing"), Target(queue="emails")))


@pytest.fixture
def link(server: Server, namespace: str) -> Iterator[BlockingLink]:
    with open_blocking(server.url, namespace=namespace, folder=Path()) as opened:
        yield opened


def shop(namespace: str, *queues: Queue, **changes: Any) -> Topology:
    topology = make_topology(namespace, *(queues or (BILLING, EMAILS)), routes=(EVENTS,), messages=(PLACED,))
    return replace(topology, **changes)


def count_writes(link: BlockingLink) -> dict[str, int]:
    """How often each command that writes, by the server's own word, has run: ours and everybody's."""
    lines = run(link.connection, "INFO", "commandstats").decode().split()
    stats = [line.removeprefix("cmdstat_").split(":") for line in lines if line.startswith("cmdstat_")]
    known = run(link.connection, "COMMAND", "INFO", *(name for name, _ in stats))
    writing = [name for (name, _), facts in zip(stats, known, strict=True) if facts and b"write" in facts[2]]
    calls = {name: int(found.split(",")[0].removeprefix("calls=")) for name, found in stats}
    return {name: calls[name] for name in writing}


def add_message(link: BlockingLink, queue: str, *, id: str = "*") -> None:
    run(link.connection, "XADD", link.broker.keys.queue(queue), id, "data", "{}")


class Interrupting:
    """A connection that does something else just before the first operation of a name."""

    def __init__(self, link: BlockingLink, name: str, interrupt: Any) -> None:
        self._connection, self._name, self._interrupt = link.connection, name, interrupt
        self.executed: list[str] = []

    def execute(self, operation: Operation[Any]) -> Any:
        if operation.name == self._name and self._interrupt:
            interrupt, self._interrupt = self._interrupt, None
            interrupt()
        self.executed.append(operation.name)
        return self._connection.execute(operation)

    def close(self) -> None:
        self._connection.close()


def test_a_first_apply_makes_queues_groups_limits_and_the_record(link, namespace):
    topology = shop(namespace)

    done = apply_changes(link, topology, who="ada@host", git_commit="abc", clock=lambda: 1234)

    keys, record = link.broker.keys, link.connection.execute(link.broker.read_record())
    assert done.generation == 1
    assert done.applied == ("messages.placed", "queues.billing", "queues.emails", "routes.events")
    assert (record.owner, record.generation, record.unfinished) == (namespace, 1, None)
    assert record.fingerprint == fingerprint(resource_specs(topology))
    assert record.addresses == address_digests(resource_specs(topology))
    assert record.resources["queues.billing"]["by"] == "ada@host"
    assert record.resources["queues.billing"]["at"] == 1234
    assert record.resources["queues.billing"]["commit"] == "abc"
    assert run(link.connection, "HGET", keys.meta("billing"), "max_length") == b"100"
    assert run(link.connection, "HGET", keys.meta("billing"), "state") == b"active"
    assert run(link.connection, "XPENDING", keys.queue("billing"), GROUP)[0] == 0
    assert run(link.connection, "EXISTS", keys.lock, keys.plan) == 0


def test_after_an_apply_plan_and_apply_have_nothing_to_do_and_the_server_sees_no_write(link, namespace):
    topology = shop(namespace)
    apply_changes(link, topology, who="ada")
    before = count_writes(link)

    plan = plan_changes(link, topology)
    done = apply_changes(link, topology, who="ada")

    assert not plan.differs
    assert (done.applied, done.generation) == ((), 1)
    assert count_writes(link) == before


def test_planning_an_empty_namespace_writes_nothing(link, namespace):
    before = count_writes(link)

    assert plan_changes(link, shop(namespace)).summary()["create"] == 4
    assert count_writes(link) == before


def test_the_write_counter_of_these_tests_sees_an_apply(link, namespace):
    before = count_writes(link)

    apply_changes(link, shop(namespace), who="ada")

    assert count_writes(link) != before


def test_a_live_update_keeps_messages_state_and_counters(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    add_message(link, "billing")
    run(link.connection, "HSET", link.broker.keys.meta("billing"), "sent", "7", "state", "paused")

    done = apply_changes(link, shop(namespace, replace(BILLING, max_length=50), EMAILS), who="ada")

    [state] = link.connection.execute(link.broker.inspect_queues(["billing"]))
    assert done.applied == ("queues.billing",)
    assert done.generation == 2
    assert (state.ready, state.state, state.counters["sent"]) == (1, "paused", 7)
    assert run(link.connection, "HGET", link.broker.keys.meta("billing"), "max_length") == b"50"


def test_senders_to_a_route_find_a_new_digest_when_a_queue_behind_it_changed(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    before = link.connection.execute(link.broker.read_record()).addresses

    apply_changes(link, shop(namespace, replace(BILLING, max_length=50), EMAILS), who="ada")

    after = link.connection.execute(link.broker.read_record()).addresses
    assert {name for name in after if after[name] != before[name]} == {"billing", "events"}


def test_a_queue_no_longer_declared_stays_with_its_messages_and_is_shown(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    add_message(link, "emails")
    smaller = make_topology(namespace, BILLING, messages=(PLACED,))

    apply_changes(link, smaller, who="ada")
    plan = plan_changes(link, smaller)

    assert [(type(change), change.address) for change in plan.changes] == [
        (Orphan, "queues.emails"),
        (Orphan, "routes.events"),
    ]
    assert plan.changes[0].backlog.ready == 1
    assert not plan.has_work
    assert run(link.connection, "XLEN", link.broker.keys.queue("emails")) == 1


def test_an_orphan_that_is_declared_again_needs_only_the_record(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    apply_changes(link, make_topology(namespace, BILLING, messages=(PLACED,)), who="ada")

    done = apply_changes(link, shop(namespace), who="ada")

    assert done.applied == ()
    assert not plan_changes(link, shop(namespace)).differs


@pytest.mark.parametrize("end", ["limits", "all"])
def test_a_queue_deleted_by_hand_is_made_again(link, namespace, end):
    apply_changes(link, shop(namespace), who="ada")
    keys = [link.broker.keys.queue("billing"), link.broker.keys.meta("billing")]
    run(link.connection, "DEL", *(keys if end == "all" else keys[:1]))

    [change] = plan_changes(link, shop(namespace)).changes
    apply_changes(link, shop(namespace), who="ada")

    assert isinstance(change, Create)
    assert change.reason
    assert not plan_changes(link, shop(namespace)).differs
    assert run(link.connection, "HGET", link.broker.keys.meta("billing"), "max_length") == b"100"


def test_a_lost_group_is_made_again_and_hands_out_what_is_there(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    add_message(link, "billing")
    stream = link.broker.keys.queue("billing")
    run(link.connection, "XGROUP", "DESTROY", stream, GROUP)

    [change] = plan_changes(link, shop(namespace)).changes
    apply_changes(link, shop(namespace), who="ada")

    assert isinstance(change, Update)
    assert len(run(link.connection, "XREADGROUP", "GROUP", GROUP, "c", "STREAMS", stream, ">")[0][1]) == 1


def test_lost_limits_are_written_again(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    run(link.connection, "DEL", link.broker.keys.meta("billing"))

    [change] = plan_changes(link, shop(namespace)).changes
    apply_changes(link, shop(namespace), who="ada")

    assert isinstance(change, Update)
    assert not plan_changes(link, shop(namespace)).differs


@pytest.mark.parametrize("kind", ["queue", "dead", "delayed", "meta"])
def test_a_key_that_holds_something_else_is_named_and_nothing_is_written(link, namespace, kind):
    key = getattr(link.broker.keys, kind)("billing")
    run(link.connection, "SET", key, "not ours")
    before = count_writes(link)

    with pytest.raises(BlockedChangeError, match="holds a string") as refused:
        apply_changes(link, shop(namespace), who="ada", approve=lambda change: True)

    assert key in refused.value.message
    assert refused.value.addresses == ("queues.billing",)
    assert count_writes(link) == before
    assert run(link.connection, "GET", key) == b"not ours"


def test_a_key_that_turns_into_something_else_after_the_look_stops_the_apply_unharmed(link, namespace):
    stream = link.broker.keys.queue("billing")
    connection = Interrupting(link, "apply_chunk", lambda: run(link.connection, "SET", stream, "not ours"))

    with pytest.raises(BrokerError, match="not ours"):
        apply_changes(WrappedLink(link.broker, connection), shop(namespace), who="ada")

    assert run(link.connection, "GET", stream) == b"not ours"
    assert run(link.connection, "EXISTS", link.broker.keys.lock) == 0


def test_a_namespace_of_another_topology_is_refused_naming_both(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    before = count_writes(link)
    other = shop(namespace, name="warehouse")

    for act in (plan_changes, lambda *args: apply_changes(*args, who="bob")):
        with pytest.raises(BlockedChangeError, match=rf"'{namespace}'.*'warehouse'"):
            act(link, other)
    assert count_writes(link) == before


def test_a_namespace_that_is_taken_between_look_and_lock_is_refused_too(link, namespace):
    def take_over() -> None:
        apply_changes(link, shop(namespace), who="ada")

    connection = Interrupting(link, "take_lock", take_over)

    with pytest.raises(BlockedChangeError, match="'warehouse'"):
        apply_changes(WrappedLink(link.broker, connection), shop(namespace, name="warehouse"), who="bob")


def test_of_two_applies_at_once_one_wins_and_the_other_is_told_who(server, namespace):
    holding, tried = threading.Event(), threading.Event()
    outcomes: dict[str, Any] = {}

    def apply_as(who: str, connect: Any) -> None:
        with open_blocking(server.url, namespace=namespace, folder=Path()) as link:
            try:
                outcomes[who] = apply_changes(connect(link), shop(namespace), who=who)
            except ConcurrentApplyError as refused:
                outcomes[who] = refused

    def hold_until_tried() -> None:
        holding.set()
        assert tried.wait(PATIENCE_SECONDS)

    first = threading.Thread(
        target=apply_as,
        args=(
            "first",
            lambda link: WrappedLink(link.broker, Interrupting(link, "renew_lock", hold_until_tried)),
        ),
    )
    first.start()
    assert holding.wait(PATIENCE_SECONDS)
    apply_as("second", lambda link: link)
    tried.set()
    first.join(10)

    assert isinstance(outcomes["second"], ConcurrentApplyError)
    assert outcomes["second"].holder == "first"
    assert outcomes["second"].exit_code == 6
    assert outcomes["first"].generation == 1


def test_ten_applies_at_once_leave_one_generation(server, namespace):
    together = threading.Barrier(10)
    outcomes: list[Any] = []

    def apply_once(who: str) -> None:
        with open_blocking(server.url, namespace=namespace, folder=Path()) as link:
            together.wait(PATIENCE_SECONDS)
            try:
                outcomes.append(apply_changes(link, shop(namespace), who=who))
            except ConcurrentApplyError as refused:
                outcomes.append(refused)

    threads = [threading.Thread(target=apply_once, args=(f"number {count}",)) for count in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    won = [done for done in outcomes if not isinstance(done, ConcurrentApplyError) and done.applied]
    assert len(outcomes) == 10
    assert len(won) == 1
    with open_blocking(server.url, namespace=namespace, folder=Path()) as link:
        plan = plan_changes(link, shop(namespace))
    assert (plan.differs, plan.generation) == (False, 1)


@pytest.mark.parametrize("lost_to", ["expiry", "another"])
def test_a_holder_that_wakes_after_its_lock_lapsed_cannot_write(link, namespace, lost_to):
    keys, topology = link.broker.keys, shop(namespace)
    revision = build_revision(plan_changes(link, topology), owner=namespace, by="slow", at_ms=0, commit=None)
    lock = link.connection.execute(link.broker.take_lock(namespace, "slow", lifetime_ms=1))
    wait_until(lambda: not run(link.connection, "EXISTS", keys.lock), "the lock's end")
    if lost_to == "another":
        link.connection.execute(link.broker.take_lock(namespace, "quick", lifetime_ms=60_000))
    before = run(link.connection, "HGETALL", keys.topology)

    answers = [link.connection.execute(step) for step in link.broker.write_revision(lock, revision)]

    assert (
        answers
        == [LockLost("quick" if lost_to == "another" else "this one was too slow: its lock lapsed")] * 3
    )
    assert not link.connection.execute(link.broker.renew_lock(lock))
    assert not link.connection.execute(link.broker.release_lock(lock))
    assert run(link.connection, "HGETALL", keys.topology) == before
    assert run(link.connection, "EXISTS", keys.queue("billing"), keys.plan) == 0


def test_an_apply_that_loses_its_lock_half_way_says_so_and_stops(link, namespace):
    keys = link.broker.keys
    connection = Interrupting(
        link, "apply_commit", lambda: run(link.connection, "SET", keys.lock, "9:t:quick")
    )

    with pytest.raises(ConcurrentApplyError) as lost:
        apply_changes(WrappedLink(link.broker, connection), shop(namespace), who="slow")

    assert lost.value.holder == "quick"
    assert run(link.connection, "GET", keys.lock) == b"9:t:quick"
    assert link.connection.execute(link.broker.read_record()).generation == 0


def test_a_namespace_that_moved_on_refuses_a_late_writer_even_with_its_lock(link, namespace):
    keys = link.broker.keys
    connection = Interrupting(
        link, "apply_chunk", lambda: run(link.connection, "HSET", keys.topology, "generation", "8")
    )

    with pytest.raises(ConcurrentApplyError, match="generation 8"):
        apply_changes(WrappedLink(link.broker, connection), shop(namespace), who="slow")

    assert run(link.connection, "EXISTS", keys.queue("billing")) == 0


def test_every_lock_has_a_higher_fencing_number(link, namespace):
    numbers = []
    for _ in range(3):
        lock = link.connection.execute(link.broker.take_lock(namespace, "ada: of x", lifetime_ms=60_000))
        numbers.append(int(lock.value.split(":")[0]))
        assert link.connection.execute(link.broker.release_lock(lock))

    assert numbers == [1, 2, 3]


def test_asking_for_the_lock_again_after_a_lost_answer_finds_it_ours(link, namespace):
    ask = link.broker.take_lock(namespace, "ada", lifetime_ms=60_000)

    assert link.connection.execute(ask) == link.connection.execute(ask)


def test_a_change_that_became_risky_while_we_took_the_lock_needs_approval(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    lowered = shop(namespace, replace(BILLING, max_length=1), EMAILS)

    def fill() -> None:
        add_message(link, "billing")
        add_message(link, "billing")

    connection = Interrupting(link, "take_lock", fill)
    with pytest.raises(BlockedChangeError, match="2 messages wait"):
        apply_changes(WrappedLink(link.broker, connection), lowered, who="ada")

    assert run(link.connection, "HGET", link.broker.keys.meta("billing"), "max_length") == b"100"
    assert run(link.connection, "EXISTS", link.broker.keys.lock) == 0
    assert apply_changes(link, lowered, who="ada", approve=lambda change: True).applied == ("queues.billing",)


def test_two_of_us_who_apply_the_same_file_in_turn_write_it_once(link, namespace):
    topology = shop(namespace)
    connection = Interrupting(link, "take_lock", lambda: apply_changes(link, topology, who="first"))

    done = apply_changes(WrappedLink(link.broker, connection), topology, who="second")

    assert (done.applied, done.generation) == ((), 1)
    assert run(link.connection, "EXISTS", link.broker.keys.lock) == 0


# 2 looks, the lock, 2 looks, its renewal, the beginning, 3 chunks, the end: the 11th operation completes it.
@pytest.mark.parametrize("steps", range(11))
def test_an_apply_killed_at_any_step_is_completed_by_the_next(link, server, namespace, steps):
    topology = make_wide_topology(namespace)

    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.dying_apply", server.url, namespace, str(steps)], check=False
    )
    left = plan_changes(link, topology)
    # Its 15 seconds, without waiting for them.
    run(link.connection, "PEXPIRE", link.broker.keys.lock, 1)
    wait_until(
        lambda: not run(link.connection, "EXISTS", link.broker.keys.lock), "the dead one's lock to lapse"
    )
    done = apply_changes(link, topology, who="the next one")

    assert ended.returncode == -signal.SIGKILL
    assert left.has_work
    assert ("the dying one" in (left.record_reason or "")) == (steps >= 7)
    assert done.generation == 1
    assert not plan_changes(link, topology).differs
    found = link.connection.execute(link.broker.inspect_queues(list(topology.queues)))
    assert all(state.exists for state in found)


def test_an_apply_that_is_not_killed_takes_as_many_steps_as_the_test_above_kills_at(server, namespace):
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.dying_apply", server.url, namespace, "11"], check=False
    )

    assert ended.returncode == 0


def test_what_an_address_needs_is_read_in_one_step(link, namespace):
    apply_changes(link, shop(namespace), who="ada")

    found = link.connection.execute(link.broker.read_addresses(["events", "unknown"]))

    assert set(found) == {
        *("owner", "format", "generation", "epoch", "fingerprint"),
        *("@events", "@billing", "@emails"),
        *("routes.events", "queues.billing", "queues.emails", "messages.placed"),
    }
    assert found["queues.billing"]["spec"]["max_length"] == 100
    assert found["@billing"] == address_digests(resource_specs(shop(namespace)))["billing"]


def test_queues_are_counted_without_being_touched(link, namespace):
    apply_changes(link, shop(namespace), who="ada")
    now_ms = int(run(link.connection, "TIME")[0]) * 1000
    add_message(link, "billing", id=f"{now_ms - 60_000}-0")
    add_message(link, "billing")
    keys = link.broker.keys
    run(link.connection, "XREADGROUP", "GROUP", GROUP, "c", "COUNT", 1, "STREAMS", keys.queue("billing"), ">")
    run(link.connection, "ZADD", keys.delayed("billing"), 1, "m")
    run(link.connection, "XADD", keys.dead("billing"), "*", "data", "{}")

    billing, missing = link.connection.execute(link.broker.inspect_queues(["billing", "nothing"]))

    assert (billing.ready, billing.in_flight, billing.delayed, billing.dead) == (1, 1, 1, 1)
    assert billing.consumers == 1
    assert 59 < billing.oldest_age_seconds < 120
    assert (missing.exists, missing.damage) == (False, Damage.MISSING)


def test_a_record_of_a_newer_format_is_not_guessed_at(link, namespace):
    run(link.connection, "HSET", link.broker.keys.topology, "format", "2", "owner", namespace)

    with pytest.raises(BrokerError, match="format 2"):
        plan_changes(link, shop(namespace))


def test_a_record_that_is_not_ours_is_named_and_left_alone(link, namespace):
    run(link.connection, "SET", link.broker.keys.topology, "not ours")

    with pytest.raises(BrokerRefusedError, match="not a topology record"):
        apply_changes(link, shop(namespace), who="ada")

    assert run(link.connection, "GET", link.broker.keys.topology) == b"not ours"


def test_a_full_server_refuses_an_apply_before_anything_of_it_is_written(link, namespace):
    run(link.connection, "CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(BrokerFullError):
            apply_changes(link, shop(namespace), who="ada")
    finally:
        run(link.connection, "CONFIG", "SET", "maxmemory", "0")

    assert run(link.connection, "EXISTS", link.broker.keys.topology, link.broker.keys.lock) == 0

"""Laws of deduplication and of full queues, on a real server: whatever gets lost, one id is stored once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanmq_topology import connect_sync
from leanmq_topology.brokers.protocol import Full, Stored
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.brokers.redis.keys import Keys
from leanmq_topology.topology.model import Deduplication, FanoutRoute, Overflow, Queue, Target
from tests.support.chaos_proxy import ChaosProxy
from tests.support.factories import make_topology, run, write_topology
from tests.support.servers import Server
from tests.support.stage import Stage

WINDOW_MS = 600_000
QUEUES = (Queue(name="plain"), Queue(name="once", deduplication=Deduplication(window_ms=WINDOW_MS, key="/k")))
ROUTES = (FanoutRoute(name="both", to=(Target(queue="once"), Target(queue="plain"))),)


@pytest.fixture(scope="module")
def proxy(valkey: Server) -> Iterator[ChaosProxy]:
    with ChaosProxy(valkey.socket_path) as running:
        yield running


@pytest.fixture
def admin(valkey: Server) -> Iterator[BlockingRedisConnection]:
    connection = BlockingRedisConnection.open(parse_address(valkey.url))
    yield connection
    connection.close()


@dataclass(frozen=True)
class Send:
    target: str
    id: str | None
    key: str | None
    client: int
    lost: int
    """How many answers in a row get lost."""


SENDS = st.builds(
    Send,
    target=st.sampled_from(["plain", "once", "both"]),
    id=st.sampled_from([None, "a", "b"]),
    key=st.sampled_from([None, "x", "y"]),
    client=st.integers(0, 1),
    lost=st.sampled_from([0, 0, 1, 2]),
)


@dataclass
class Ledger:
    """What must lie in each queue, by the rules as the documents tell them."""

    stored: dict[str, list[str]] = field(default_factory=lambda: {"plain": [], "once": []})
    _named: dict[tuple[str, str], str] = field(default_factory=dict)
    _once: dict[str, str] = field(default_factory=dict)

    def expect(self, send: Send) -> str | None:
        """The id that an earlier message makes it return; None: its own."""
        if send.target != "once" and send.id is not None and (send.target, send.id) in self._named:
            return self._named[send.target, send.id]
        return self._once.get(self._identity(send)) if send.target == "once" else None

    def enter(self, send: Send, message_id: str) -> None:
        if self.expect(send) is not None:
            return
        if send.target != "once" and send.id is not None:
            self._named[send.target, send.id] = message_id
        if send.target != "once":
            self.stored["plain"].append(message_id)
        identity = self._identity(send, message_id)
        if send.target != "plain" and identity not in self._once:
            self._once[identity] = message_id
            self.stored["once"].append(message_id)

    @staticmethod
    def _identity(send: Send, message_id: str = "") -> str:
        return f"key {send.key}" if send.key is not None else f"id {send.id or message_id}"


@given(sends=st.lists(SENDS, max_size=12))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
def test_within_the_window_one_identity_is_stored_once_whatever_answers_get_lost(
    admin: BlockingRedisConnection, proxy: ChaosProxy, sends: list[Send]
):
    topology = make_topology(f"t{secrets.token_hex(6)}", *QUEUES, routes=ROUTES)
    write_topology(admin, topology)
    ledger = Ledger()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect_sync(topology, url=proxy.url)) for _ in range(2)]
        for send in sends:
            expected = ledger.expect(send)
            proxy.lose_answers(send.lost, to=b"EVALSHA")
            message_id = clients[send.client].send(send.target, {"k": send.key}, id=send.id)
            assert message_id == (expected or send.id or message_id)
            ledger.enter(send, message_id)
    keys = Keys(topology.broker.namespace)
    for queue, expected_ids in ledger.stored.items():
        found = [flat[1].decode() for _, flat in run(admin, "XRANGE", keys.queue(queue), "-", "+")]
        assert found == expected_ids


# -- full queues ----------------------------------------------------------------------------------------

LIMIT = 4
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 7)),
        st.tuples(st.just("delay"), st.integers(1, 3)),
        st.tuples(st.just("fetch"), st.integers(1, 3)),
        st.tuples(st.just("ack"), st.integers(1, 3)),
    ),
    max_size=15,
)


@given(overflow=st.sampled_from(list(Overflow)), steps=STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_limit_is_kept_and_every_message_is_somewhere_or_counted(
    valkey: Server, admin: BlockingRedisConnection, overflow: Overflow, steps: list[tuple[str, int]]
):
    """Also: messages sent in one flush fare as if they were sent one by one."""
    ends = []
    for together in (True, False):
        namespace = f"t{secrets.token_hex(6)}"
        topology = make_topology(namespace, Queue(name="q", max_length=LIMIT, overflow=overflow))
        stage = Stage(topology, RedisBroker(namespace), admin.execute, admin, valkey.url)
        ends.append(_play(stage, steps, together))
    assert ends[0] == ends[1]


def _play(stage: Stage, steps: list[tuple[str, int]], together: bool) -> object:
    number, held = 0, []
    outcomes: list[bool] = []
    for verb, count in steps:
        if verb in ("send", "delay"):
            names = [f"m{number + n}" for n in range(count)]
            number += count
            options = {"delay_ms": 60_000} if verb == "delay" else {}
            flushes = [names] if together else [[name] for name in names]
            results = [one for flush in flushes for one in stage.send("q", *flush, **options)]
            assert all(isinstance(one, Stored | Full) for one in results)
            outcomes += [isinstance(one, Stored) for one in results]
        elif verb == "fetch":
            held += stage.fetch("q", count=count)
        elif held:
            done, held = held[:count], held[count:]
            assert stage.carry(stage.broker.ack("q", [one.entry_id for one in done])) == len(done)
    state = stage.look("q")
    counters = state.counters or {}
    waiting = state.ready + state.in_flight + state.delayed
    assert waiting <= LIMIT
    assert counters["sent"] == sum(outcomes)
    assert counters["sent"] == waiting + counters["acked"] + counters["dropped"] + state.dead
    left = [flat[1] for _, flat in stage.raw("XRANGE", stage.keys.queue("q"), "-", "+")]
    return left, outcomes, counters, state.dead

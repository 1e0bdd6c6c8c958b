"""All servers agree with a small model on random sequences of whatever may be done to a queue.

The model knows where each message is, who holds it, how often it was handed out. After every step the server
must say the same; at the end every message that is left must still be reachable.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from leanmq_topology.brokers.protocol import (
    Dying,
    Full,
    NoRoom,
    Purge,
    Replayed,
    Retrying,
    Revival,
    Stored,
    Undone,
)
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import DeadLetter, KeepAcked, Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage

QUEUE = Queue(
    name="q",
    max_length=9,
    max_deliveries=3,
    keep_acked=KeepAcked(count=4),
    dead_letter=DeadLetter(max_length=3),
)
NOBODY = "-"
SUSPECTS = "!"
CONSUMERS = some.sampled_from(["one", "two"])
PARKED = 2**53
LONG_MS = 600_000


@dataclass
class Entry:
    """A message in the stream: ready while nobody holds it."""

    id: str
    base: int = 0
    """Attempts written into it: failures that were settled."""
    holder: str | None = None
    count: int = 0
    lapsed: bool = False
    entry_id: str | None = None
    """Known once it was handed out."""

    @property
    def runs(self) -> int:
        return self.base + self.count


@dataclass
class Model:
    stream: list[Entry] = field(default_factory=list)
    delayed: dict[str, int] = field(default_factory=dict)
    """Message id -> attempts."""
    parked: dict[str, tuple[str, int]] = field(default_factory=dict)
    dead: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Message id -> reason, attempts."""
    acked: int = 0
    counters: Counter[str] = field(default_factory=Counter)

    @property
    def length(self) -> int:
        """What counts towards `max_length`."""
        return len(self.stream) + len(self.delayed) + len(self.parked)

    def ready(self) -> list[Entry]:
        return [entry for entry in self.stream if entry.holder is None]

    def in_flight(self) -> list[Entry]:
        return [entry for entry in self.stream if entry.holder is not None]

    def find(self, entry_id: str) -> Entry | None:
        return next((entry for entry in self.stream if entry.entry_id == entry_id), None)

    def bury(self, message_id: str, reason: str, attempts: int) -> None:
        full = len(self.dead) >= 3
        (self.parked if full else self.dead)[message_id] = (reason, attempts)
        self.counters["dead_lettered"] += 1


@dataclass
class Trash:
    purge: Purge
    stream: list[Entry]
    delayed: dict[str, int]
    parked: dict[str, tuple[str, int]]


class QueueMachine(RuleBasedStateMachine):
    """Does things to a queue on a server and in the model alike."""

    connection: BlockingRedisConnection
    url: str

    def __init__(self) -> None:
        super().__init__()
        namespace = f"t{secrets.token_hex(6)}"
        self.stage = Stage(
            make_topology(namespace, QUEUE),
            RedisBroker(namespace),
            self.connection.execute,
            self.connection,
            self.url,
        )
        self.broker, self.model = self.stage.broker, Model()
        self.handles: list[tuple[str, Delivered]] = []
        """Every hand-out there ever was, with the consumer that got it."""
        self.trash: list[Trash] = []
        self.sent = self.purges = 0
        self.last: tuple[Any, Any] | None = None

    # -- sending ----------------------------------------------------------------------------------------

    @rule(count=some.integers(1, 4), delay=some.sampled_from([None, LONG_MS]))
    def send(self, count: int, delay: int | None) -> None:
        ids = [f"m{self.sent + number:04d}" for number in range(count)]
        self.sent += count
        sends = [self.stage.outgoing("q", message_id, delay_ms=delay) for message_id in ids]
        flush = self.stage.flush(*sends)
        expected: list[Any] = []
        for message_id in ids:
            if self.model.length >= 9:
                expected.append(Full("q", 9))
                continue
            expected.append(Stored(message_id, 1))
            self.model.counters["sent"] += 1
            if delay is None:
                self.model.stream.append(Entry(message_id))
            else:
                self.model.delayed[message_id] = 0
        assert self.stage.carry(self.broker.send(flush)) == expected
        stored = any(isinstance(result, Stored) for result in expected)
        self.last = (flush, expected) if stored else None

    @precondition(lambda self: self.last)
    @rule()
    def send_again(self) -> None:
        """The answer was lost; the same flush comes once more."""
        assert self.last is not None
        flush, expected = self.last
        assert self.stage.carry(self.broker.send(flush)) == expected

    @initialize()
    def begin(self) -> None:
        self.send(4, None)

    # -- receiving --------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.ready())
    @rule(consumer=CONSUMERS, count=some.integers(1, 4))
    def fetch(self, consumer: str, count: int) -> None:
        expected = self.model.ready()[:count]
        found = self.stage.fetch("q", consumer=consumer, count=count)
        self._hand_out(consumer, found, expected, counted=True)

    @precondition(lambda self: self.model.in_flight())
    @rule(consumer=CONSUMERS, knows=some.booleans())
    def fetch_own(self, consumer: str, knows: bool) -> None:
        held = [entry for entry in self.model.in_flight() if entry.holder == consumer]
        known = [str(entry.entry_id) for entry in held] if knows else []
        cursor, found = self.stage.carry(self.broker.fetch_own("q", consumer, cursor="0-0", known=known))
        assert cursor == "0-0"
        self._hand_out(consumer, found, [] if knows else held, counted=False)

    @precondition(lambda self: self.model.in_flight())
    @rule(consumer=CONSUMERS, knows=some.booleans())
    def claim(self, consumer: str, knows: bool) -> None:
        """All that lapsed or was handed back; past its limit it is dead-lettered instead."""
        held = [str(e.entry_id) for e in self.model.in_flight() if knows and e.holder == consumer]
        lapsed = [entry for entry in self.model.in_flight() if entry.lapsed]
        claim = self.broker.claim(QUEUE, consumer, cursor="0-0", count=100, held=held)
        cursor, found = self.stage.carry(claim)
        assert cursor == "0-0"
        again = [entry for entry in lapsed if entry.entry_id in held]
        dying = [entry for entry in lapsed if entry not in again and entry.runs >= 3]
        for entry in dying:
            self.model.stream.remove(entry)
            self.model.bury(entry.id, "failed", entry.runs)
        expected = [entry for entry in lapsed if entry not in dying]
        for entry in expected:
            entry.count += entry not in again
        self._hand_out(consumer, found, expected, counted=False)

    @precondition(lambda self: self.model.in_flight())
    @rule(number=some.integers(0, 99))
    def lapse(self, number: int) -> None:
        """A worker holds a message for too long."""
        held = [entry for entry in self.model.in_flight() if entry.holder not in {NOBODY, SUSPECTS}]
        if held:
            entry = held[number % len(held)]
            words = ("IDLE", 10**9, "RETRYCOUNT", entry.count, "JUSTID")
            self.stage.raw("XCLAIM", self._stream, "g", str(entry.holder), 0, str(entry.entry_id), *words)
            entry.lapsed = True

    @precondition(lambda self: self.model.ready())
    @rule(consumer=CONSUMERS, dies=some.booleans())
    def work_off(self, consumer: str, dies: bool) -> None:
        """Take what is ready and settle all of it at once."""
        before = len(self.handles)
        self.fetch(consumer, 4)
        taken = [delivered for _, delivered in self.handles[before:]]
        if dies:
            dying = [Dying(delivered, DeadReason.FAILED, Failure("E", "")) for delivered in taken]
            done = self.stage.carry(self.broker.dead_letter("q", consumer, dying))
        else:
            retrying = [Retrying(delivered, LONG_MS) for delivered in taken]
            done = self.stage.carry(self.broker.retry("q", consumer, retrying))
            self.model.counters["retried"] += len(taken)
        assert done == [True] * len(taken)
        for delivered in taken:
            entry = self._owned(consumer, delivered)
            assert entry is not None
            self.model.stream.remove(entry)
            if dies:
                self.model.bury(entry.id, "failed", entry.runs)
            else:
                self.model.delayed[entry.id] = entry.runs

    # -- settling, by whoever ever got the message ------------------------------------------------------

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def ack(self, number: int) -> None:
        """Accepted from anybody: the work is done."""
        _, delivered = self._handle(number)
        entry = self.model.find(delivered.entry_id)
        assert self.stage.carry(self.broker.ack("q", [delivered.entry_id])) == (entry is not None)
        if entry is not None:
            self.model.stream.remove(entry)
            self.model.acked += 1
            self.model.counters["acked"] += 1
        for trash in self.trash:
            trash.stream = [lost for lost in trash.stream if lost.entry_id != delivered.entry_id]

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def retry(self, number: int) -> None:
        consumer, delivered = self._handle(number)
        entry = self._owned(consumer, delivered)
        done = self.stage.carry(self.broker.retry("q", consumer, [Retrying(delivered, LONG_MS)]))
        assert done == [entry is not None]
        if entry is not None:
            self.model.stream.remove(entry)
            self.model.delayed[entry.id] = entry.runs
            self.model.counters["retried"] += 1

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def dead_letter(self, number: int) -> None:
        consumer, delivered = self._handle(number)
        entry = self._owned(consumer, delivered)
        dying = Dying(delivered, DeadReason.REJECTED, Failure("E", ""))
        assert self.stage.carry(self.broker.dead_letter("q", consumer, [dying])) == [entry is not None]
        if entry is not None:
            self.model.stream.remove(entry)
            self.model.bury(entry.id, "rejected", entry.runs)

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def discard(self, number: int) -> None:
        consumer, delivered = self._handle(number)
        entry = self._owned(consumer, delivered)
        assert self.stage.carry(self.broker.discard("q", consumer, [delivered])) == [entry is not None]
        if entry is not None:
            self.model.stream.remove(entry)
            self.model.counters["discarded"] += 1

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def release(self, number: int) -> None:
        consumer, delivered = self._handle(number)
        entry = self._owned(consumer, delivered)
        assert self.stage.carry(self.broker.release("q", consumer, [delivered])) == [entry is not None]
        if entry is not None:
            holder = NOBODY if entry.count == 1 else SUSPECTS
            entry.holder, entry.count, entry.lapsed = holder, entry.count - 1, True

    @precondition(lambda self: self.handles)
    @rule(number=some.integers(0, 999))
    def extend(self, number: int) -> None:
        consumer, delivered = self._handle(number)
        entry = self._owned(consumer, delivered)
        assert self.stage.carry(self.broker.extend("q", consumer, [delivered])) == [entry is not None]
        if entry is not None:
            entry.lapsed = False

    # -- upkeep -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.delayed or self.model.parked)
    @rule()
    def promote(self) -> None:
        """Time passes: all that is delayed is due, and what is parked may be tried again."""
        self.stage.raw("ZADD", self.stage.keys.due, 0, "q")
        for member in self.stage.raw("ZRANGEBYSCORE", self.stage.keys.delayed("q"), "-inf", PARKED - 1):
            self.stage.raw("ZADD", self.stage.keys.delayed("q"), 0, member)
        assert self.stage.carry(self.broker.maintain(["q"])).promoted == len(self.model.delayed)
        for message_id, attempts in sorted(self.model.delayed.items()):
            self.model.stream.append(Entry(message_id, attempts))
        self.model.delayed.clear()
        room = 3 - len(self.model.dead)
        for message_id in sorted(self.model.parked)[: max(room, 0)]:
            self.model.dead[message_id] = self.model.parked.pop(message_id)

    @precondition(lambda self: self.model.length)
    @rule(what=some.sampled_from(["consumer", "group", "indexes"]))
    def intrude(self, what: str) -> None:
        {
            "consumer": lambda: self.delete_consumer("one"),
            "group": self.destroy_group,
            "indexes": self.delete_indexes,
        }[what]()

    def delete_consumer(self, consumer: str) -> None:
        """An intruder deletes a consumer with all that it holds; a check-up finds it."""
        self.stage.raw("XGROUP", "DELCONSUMER", self._stream, "g", consumer)
        orphans = [entry for entry in self.model.in_flight() if entry.holder == consumer]
        assert self.stage.carry(self.broker.rescue("q")).found == len(orphans)
        self.model.counters["rescued"] += len(orphans)
        for entry in orphans:
            entry.holder, entry.count, entry.lapsed = SUSPECTS, 1, True

    def destroy_group(self) -> None:
        """An intruder destroys the group: how often what was held had been handed out is lost with it."""
        self.stage.raw("XGROUP", "DESTROY", self._stream, "g")
        assert self.stage.carry(self.broker.rescue_group("q")) == len(self.model.stream)
        for entry in self.model.in_flight():
            entry.holder, entry.count, entry.lapsed = None, 0, False

    def delete_indexes(self) -> None:
        """An intruder deletes what leads to delayed messages."""
        waiting = len(self.model.delayed) + len(self.model.parked)
        self.stage.raw("DEL", self.stage.keys.due, self.stage.keys.delayed("q"))
        assert self.stage.carry(self.broker.rescue_delayed("q")).found == waiting

    @rule()
    def check_up(self) -> None:
        """Where nothing is out of order, nothing changes."""
        self.stage.carry(self.broker.reap(["q"], idle_ms=-1))
        self.stage.carry(self.broker.repair_clock("q"))
        assert self.stage.carry(self.broker.rescue("q")).found == 0
        assert self.stage.carry(self.broker.rescue_delayed("q")).found == 0
        assert self.stage.carry(self.broker.rescue_group("q")) is None

    # -- operating --------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.length > 2)
    @rule(keep=some.sampled_from([True, True, True, False]))
    def purge(self, keep: bool) -> None:
        self.purges += 1
        model = self.model
        done = self.stage.carry(self.broker.purge("q", f"p{self.purges}", keep_ms=LONG_MS if keep else 0))
        counts = (len(model.ready()), len(model.in_flight()), len(model.delayed) + len(model.parked))
        assert (done.ready, done.in_flight, done.delayed) == counts
        if not any(counts):
            return
        model.counters["purged"] += sum(counts)
        if keep:
            self.trash.append(Trash(done, model.stream, model.delayed, model.parked))
        model.stream, model.delayed, model.parked = [], {}, {}

    @precondition(lambda self: self.trash)
    @rule(number=some.integers(0, 9))
    def undo_purge(self, number: int) -> None:
        trash = self.trash.pop(number % len(self.trash))
        whole = not self.model.length
        restored = len(trash.stream) + len(trash.delayed) + len(trash.parked)
        done = self.stage.carry(self.broker.undo_purge(trash.purge, count=100))
        assert done == Undone(restored, 0)
        if not whole:
            trash.stream = [Entry(entry.id, entry.runs) for entry in trash.stream]
        self.model.stream += trash.stream
        self.model.delayed |= trash.delayed
        self.model.parked |= trash.parked

    @precondition(lambda self: self.model.dead)
    @rule(picked=some.sets(some.integers(0, 2), min_size=1))
    def replay(self, picked: set[int]) -> None:
        letters = [entry for at, entry in enumerate(self._dead_letters()) if at in picked]
        if not letters:
            return
        done = self.stage.carry(self.broker.replay("q", [Revival(entry.entry_id, {}) for entry in letters]))
        room = 9 - self.model.length
        if room < len(letters):
            assert done == NoRoom("q", 9, max(room, 0))
            return
        assert done == Replayed((True,) * len(letters))
        self.model.counters["replayed"] += len(letters)
        for entry in letters:
            del self.model.dead[entry.letter.envelope.id]
            self.model.stream.append(Entry(entry.letter.envelope.id))

    @precondition(lambda self: self.model.dead)
    @rule(number=some.integers(0, 2))
    def discard_dead_letter(self, number: int) -> None:
        letters = self._dead_letters()
        entry = letters[number % len(letters)]
        discard = self.broker.discard_dead_letters("q", [entry.entry_id, "1-1"])
        assert self.stage.carry(discard) == [True, False]
        self.model.counters["dead_discarded"] += 1
        del self.model.dead[entry.letter.envelope.id]

    @rule(paused=some.booleans())
    def pause(self, paused: bool) -> None:
        """Workers go by it; it changes nothing of what is in the queue."""
        self.stage.carry(self.broker.pause(["q"]) if paused else self.broker.resume(["q"]))
        [health] = self.stage.carry(self.broker.survey(["q"], "one"))
        assert health.paused is paused

    # -- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def the_server_counts_as_the_model_does(self) -> None:
        model, state = self.model, self.stage.look("q")
        assert (state.ready, state.in_flight, state.delayed, state.parked, state.dead, state.kept) == (
            len(model.ready()),
            len(model.in_flight()),
            len(model.delayed),
            len(model.parked),
            len(model.dead),
            min(model.acked, 4),
        )
        assert state.counters is not None
        assert {name: count for name, count in state.counters.items() if count} == dict(+model.counters)

    @invariant()
    def the_server_knows_who_holds_what(self) -> None:
        rows = self.stage.raw("XPENDING", self._stream, "g", "-", "+", 100)
        held = {(row[0].decode(), row[1].decode(), row[3]) for row in rows}
        assert held == {(entry.entry_id, entry.holder, entry.count) for entry in self.model.in_flight()}
        [health] = self.stage.carry(self.broker.survey(["q"], "one"))
        holders = Counter(entry.holder for entry in self.model.in_flight())
        assert (health.pending, health.own, health.free) == (
            holders.total(),
            holders["one"],
            holders[NOBODY] + holders[SUSPECTS],
        )

    @invariant()
    def dead_letters_tell_why_and_after_how_many_attempts(self) -> None:
        found = {
            entry.letter.envelope.id: (entry.letter.reason.value, entry.letter.envelope.attempt)
            for entry in self._dead_letters()
        }
        assert found == self.model.dead

    def teardown(self) -> None:
        """Everything that is left is reachable, under its own id."""
        while self.model.delayed:
            self.promote()
        for entry in self.model.in_flight():
            if not entry.lapsed:
                words = ("IDLE", 10**9, "RETRYCOUNT", entry.count, "JUSTID")
                self.stage.raw("XCLAIM", self._stream, "g", str(entry.holder), 0, str(entry.entry_id), *words)
                entry.lapsed = True
        self.claim("one", knows=False)
        self.fetch("one", 100)
        assert not self.model.ready()
        self.the_server_counts_as_the_model_does()

    # -- inside -----------------------------------------------------------------------------------------

    @property
    def _stream(self) -> str:
        return str(self.stage.keys.queue("q"))

    def _hand_out(self, consumer: str, found: list[Any], expected: list[Entry], *, counted: bool) -> None:
        assert [item.envelope.id for item in found] == [entry.id for entry in expected]
        for item, entry in zip(found, expected, strict=True):
            entry.count += counted
            entry.holder, entry.lapsed, entry.entry_id = consumer, False, item.entry_id
            assert (item.delivery_count, item.attempt) == (entry.count, entry.runs)
            self.handles.append((consumer, item))

    def _handle(self, number: int) -> tuple[str, Delivered]:
        """Lately given ones more often than old ones."""
        recent = self.handles[-8:]
        return recent[number % len(recent)]

    def _owned(self, consumer: str, delivered: Delivered) -> Entry | None:
        """The entry, if this hand-out of it is still the one that counts."""
        entry = self.model.find(delivered.entry_id)
        ours = entry is not None and (entry.holder, entry.count) == (consumer, delivered.delivery_count)
        return entry if ours else None

    def _dead_letters(self) -> list[Any]:
        return self.stage.carry(self.broker.read_dead_letters("q", after="", count=100))


def test_every_server_does_what_the_model_does(server: Server):
    connection = BlockingRedisConnection.open(parse_address(server.url))
    machine = type("Machine", (QueueMachine,), {"connection": connection, "url": server.url})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=150,
                stateful_step_count=50,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        connection.close()

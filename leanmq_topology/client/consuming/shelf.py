"""What one client holds of one queue, and the course of a receive: what to ask the server, in which order.

One read at a time asks for a queue; what it brings lies here until it is handed out. Everything that takes
messages happens in that course, so none is ever taken for nobody.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from leanmq_topology.brokers.protocol import Broker, Damage, Operation, QueueHealth
from leanmq_topology.client.consuming.held import Held
from leanmq_topology.errors import BrokerUnavailableError, LeanMQError, TopologyNotAppliedError
from leanmq_topology.messages.acceptance import Acceptance
from leanmq_topology.messages.decision import decide_start
from leanmq_topology.messages.envelope import Delivered, Undecodable
from leanmq_topology.messages.outcome import DeadReason, Failure, MoveToDeadLetters, Outcome, Released
from leanmq_topology.topology.model import Queue
from leanmq_topology.upkeep.outage import Outage, Pauses
from leanmq_topology.upkeep.recovery import recover_own
from leanmq_topology.upkeep.scan import FRONT, Scan
from leanmq_topology.upkeep.steps import Steps, ask
from leanmq_topology.upkeep.watch import Watch

T = TypeVar("T")

BLOCK_SECONDS = 5.0
PAUSED_SECONDS = 0.1
"""How often a receive looks whether its queue may be read again."""
MISSING_SECONDS = 3.0
"""A queue that cannot be read has so long to be mended (its group is made again) before it is an error."""
LARGEST_CLAIM = 100


@dataclass(frozen=True, slots=True)
class Rest:
    """Asked of whoever carries a receive out: wait so long."""

    seconds: float


Turn = Generator[Operation[Any] | Rest, Any, T]
"""A course that may also rest."""


class Leftover(NamedTuple):
    """Something to be settled that no caller waits for."""

    item: Delivered | Undecodable
    outcome: Outcome
    started: bool = False


class Shelf:
    """`now_ms` is the server's time; `wake` calls the housekeeper; `learn` reads limits and schemas anew."""

    def __init__(
        self,
        queue: Queue,
        acceptance: Acceptance,
        broker: Broker,
        namespace: str,
        consumer: str,
        now_ms: Callable[[], int],
        outage: Outage,
        wake: Callable[[], None],
        learn: Callable[[], Steps[tuple[Queue, Acceptance]]],
    ) -> None:
        self.queue, self._acceptance, self._learn = queue, acceptance, learn
        self._broker, self._namespace, self.consumer = broker, namespace, consumer
        self._now_ms, self._outage, self._wake = now_ms, outage, wake
        self.held: dict[str, Held] = {}
        """All that was read and is not settled yet, by entry id; the housekeeper may copy it."""
        self._ready: deque[Held] = deque()
        self.leftovers: deque[Leftover] = deque()
        self.damage: Damage | None = None
        self.paused = False
        self.room = 0
        """How many messages the receive under way still wants."""
        self.waiting = False
        """A receive waits on the server."""
        self._waits_until = 0.0
        """Monotonic seconds; when the receive under way, if any, gives up."""
        self.stale = False
        """Somebody applied: limits and schemas are to be read again."""
        self.closed = False
        self.unwanted = False
        """Whoever waits for the read under way is gone."""
        self.users = 0
        """Iterators and receives under way."""
        self.bell = threading.Event()
        self.watch = Watch(broker, consumer, [self], lambda: None)
        self._scan = Scan(self)
        self._suspect = False
        self._missing_since = 0.0

    @property
    def name(self) -> str:
        return self.queue.name

    @property
    def readable(self) -> bool:
        return self.damage is None and not self.paused

    @property
    def lease_seconds(self) -> float:
        return self.queue.visibility_timeout_ms / 1000

    @property
    def is_called_back(self) -> bool:
        """Whether the read that waits on the server is to end now."""
        return self.closed or self.unwanted or self.stale or self.claim_due

    @property
    def is_quiet(self) -> bool:
        """Whether a receive would find only what came since the last one."""
        return self.readable and not (self._ready or self._suspect or self.is_called_back)

    @property
    def claim_due(self) -> bool:
        """Whether others left something behind that is to be looked for now."""
        if not self.readable:
            return False
        if self.name in self.watch.free:
            return True
        if time.monotonic() < self._scan.due_at:
            return False
        if self._scan.cursor != FRONT or self.watch.is_wanted(self):
            return True
        self._scan.plan_next(FRONT)
        return False

    @property
    def is_read(self) -> bool:
        """Whether a receive is under way that waits, and so takes what comes, and what others hand back."""
        return self.readable and self._waits_until > time.monotonic()

    @property
    def is_suspect(self) -> bool:
        return self._suspect

    def suspect(self) -> None:
        """A read was cut off: messages may be ours without our knowing."""
        self._suspect = True

    def note_health(self, health: QueueHealth) -> bool:
        """Called by the housekeeper. True: the read that waits has to be planned anew."""
        before = self.readable
        if health.damage is None:
            self.paused = health.paused
        self.damage = health.damage
        if self.paused:
            self.release_ready()
        return self.readable is not before

    # -- receiving --------------------------------------------------------------------------------------

    def receive(self, count: int, until: float | None, *, read: int) -> Turn[list[Held]]:
        """Up to `count` messages; waits until then (monotonic seconds; None: for ever) for the first.

        The server is asked for `read` at a time. Outages are waited for; one that lasts until the end is
        raised as `BrokerUnavailableError`. `TopologyNotAppliedError`: the queue is gone.
        """
        self._waits_until = float("inf") if until is None else until
        try:
            return (yield from self._receive(count, until, read))
        finally:
            self._waits_until = 0.0

    @property
    def has_ready(self) -> bool:
        """Something lies here that was read and not handed out."""
        return bool(self._ready)

    def plan_fetch(self, count: int) -> Operation[list[Delivered | Undecodable]] | None:
        """All that a receive which does not wait has to ask; None: there is more to do first (`receive`).

        `take_in` gets the answer, `note_failure` what was raised instead.
        """
        if (
            self.closed
            or self.stale
            or self._suspect
            or self.paused
            or self._ready
            or self.damage is not None
        ):
            return None
        if (self.watch.free or time.monotonic() >= self._scan.due_at) and self.claim_due:
            return None
        return self._broker.fetch((self.queue.name,), self.consumer, count=count, block_ms=0)

    def take_in(self, arrived: Sequence[Delivered | Undecodable], count: int) -> list[Held]:
        """What `plan_fetch` brought, up to `count` of it."""
        if self._outage.under_way:
            self._outage.end()
        self._missing_since = 0.0
        if not arrived:
            return []
        self._take(arrived)
        return self.take_ready(count)

    def note_failure(self, failure: LeanMQError) -> None:
        """What a receive that does not wait remembers of what it raises."""
        if isinstance(failure, BrokerUnavailableError):
            self._suspect = True
            self._outage.begin(failure)
        elif isinstance(failure, TopologyNotAppliedError):
            self._missing_since = 0.0

    def _receive(self, count: int, until: float | None, read: int) -> Turn[list[Held]]:
        pauses = Pauses()
        while not self.closed:
            try:
                found = yield from self._receive_once(count, until, read)
            except BrokerUnavailableError as failure:
                self._suspect = True
                self._outage.begin(failure)
                rest = pauses.seconds()
                if _left(until) < rest:
                    raise
                yield Rest(rest)
                continue
            except TopologyNotAppliedError:
                yield from self._wait_for_mending(until)
                continue
            self._outage.end()
            self._missing_since = 0.0
            pauses.reset()
            if found or self.unwanted or _left(until) <= 0:
                return found
        return []

    def _receive_once(self, count: int, until: float | None, read: int) -> Turn[list[Held]]:
        if self.stale:
            self.queue, self._acceptance = yield from self._learn()
            self.stale = False
        if self._suspect:
            yield from self.recover()
        found = self.take_ready(count)
        if found:
            return found
        if self.damage is not None:
            raise TopologyNotAppliedError([f"queues.{self.name}"], namespace=self._namespace)
        if self.paused:
            yield Rest(min(PAUSED_SECONDS, _left(until)))
            return []
        self.room = read
        try:
            if self.claim_due:
                yield from self._claim()
            if not self._ready:
                yield from self._fetch(read, min(_left(until), BLOCK_SECONDS))
        finally:
            self.room = 0
        return self.take_ready(count)

    def _fetch(self, count: int, wait_s: float) -> Steps[None]:
        block_ms = max(round(wait_s * 1000), 0)
        self.waiting = block_ms > 0
        try:
            arrived = yield from ask(
                self._broker.fetch([self.name], self.consumer, count=count, block_ms=block_ms)
            )
        finally:
            self.waiting = False
        self._take(arrived)

    def _claim(self) -> Steps[None]:
        known = [entry_id for entry_id, held in self.held.copy().items() if held.known]
        cursor, arrived = yield from ask(
            self._broker.claim(
                self.queue,
                self.consumer,
                cursor=self._scan.cursor,
                count=min(self.room, LARGEST_CLAIM),
                held=known,
            )
        )
        self._scan.plan_next(cursor)
        self.watch.free.discard(self.name)
        self._take(arrived)

    def recover(self) -> Steps[None]:
        """Take in what was handed to us in an answer that never came."""
        yield from recover_own(self._broker, self.name, self.consumer, self.held.copy, self._take)
        self._suspect = False

    def _wait_for_mending(self, until: float | None) -> Turn[None]:
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        if now - self._missing_since > MISSING_SECONDS or _left(until) <= 0:
            self._missing_since = 0.0
            raise TopologyNotAppliedError([f"queues.{self.name}"], namespace=self._namespace)
        self.watch.look_soon()
        self._wake()
        yield Rest(min(PAUSED_SECONDS, _left(until)))

    def _take(self, arrived: Sequence[Delivered | Undecodable]) -> None:
        lease_ends = time.monotonic() + self.queue.visibility_timeout_ms / 1000
        for item in arrived:
            if isinstance(item, Undecodable):
                failure = Failure("UndecodableEntry", item.reason)
                self._leave(Leftover(item, MoveToDeadLetters(DeadReason.UNDECODABLE, failure)))
                continue
            known = self.held.get(item.entry_id)
            if known is not None and known.known:  # our own lease had lapsed, and we took it over ourselves
                known.delivered, known.lease_ends = item, lease_ends
                continue
            held = self.held[item.entry_id] = Held(item, lease_ends)
            self._ready.append(held)

    # -- handing out ------------------------------------------------------------------------------------

    def take_ready(self, count: int) -> list[Held]:
        """Up to `count` of what lies here and may be run now; the rest goes where it belongs."""
        found: list[Held] = []
        while self._ready and len(found) < count and not self.paused:
            try:
                held = self._ready.popleft()
            except IndexError:
                break
            if not held.is_ours():
                self.forget(held)  # its lease lapsed while it lay here: it is somebody else's now
            elif self._admit(held):
                found.append(held)
        return found

    def _admit(self, held: Held) -> bool:
        delivered, outcome = held.delivered, None
        if delivered.envelope.expires_ms is not None or delivered.attempt > self.queue.max_deliveries:
            outcome = decide_start(delivered, self.queue, self._now_ms())
        if outcome is None:
            held.data, outcome = self._acceptance.judge(delivered.envelope)
        if outcome is None:
            return True
        self.give_up(held, outcome)
        return False

    def give_up(self, held: Held, outcome: Outcome, *, started: bool = False) -> None:
        """The housekeeper settles it, soon; nobody waits for that."""
        held.ended = True
        self._leave(Leftover(held.delivered, outcome, started))

    def release_ready(self) -> None:
        """Hand back what nobody has been given; its delivery does not count."""
        while self._ready:
            try:
                held = self._ready.popleft()
            except IndexError:
                return
            self.give_up(held, Released())

    def forget(self, held: Held) -> None:
        """It is not ours to settle any more, or settled."""
        if self.held.get(held.delivered.entry_id) is held:
            del self.held[held.delivered.entry_id]

    def forget_settled(self, entry_ids: Iterable[str]) -> None:
        """These were settled by their ids."""
        for entry_id in entry_ids:
            held = self.held.pop(entry_id, None)
            if held is not None:
                held.ended = True

    def drop_forgotten(self) -> None:
        """What the caller dropped, or somebody else took, needs no memory once its lease has long lapsed."""
        long_ago = time.monotonic() - self.lease_seconds
        for held in list(self.held.copy().values()):
            if not held.known and held.lease_ends < long_ago:
                self.forget(held)

    def _leave(self, leftover: Leftover) -> None:
        self.leftovers.append(leftover)
        self._wake()


def _left(until: float | None) -> float:
    """Seconds until then; never less than none."""
    return float("inf") if until is None else max(until - time.monotonic(), 0.0)

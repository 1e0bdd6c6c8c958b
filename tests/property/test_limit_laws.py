"""The retry limit is exact: whoever runs a message, however it ends, and whatever happens in between."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as some

from leanmq_topology.brokers.protocol import Dying, Retrying
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.messages.codec import decode_dead_letter
from leanmq_topology.messages.decision import decide_failure, decide_start
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.outcome import DeadReason, MoveToDeadLetters
from leanmq_topology.topology import model
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage

QUEUE = Queue(
    name="q", max_deliveries=3, max_crashes=2, dead_letter=model.DeadLetter(max_length=1),
    retry=model.Retry(delay_ms=1),
)  # fmt: skip
MESSAGES = ("a", "b", "c")
WORKERS = ("one", "two")


class Play:
    """Workers that fail at everything. `runs` is how often each message was started and did not succeed."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.held: dict[str, list[Delivered]] = {worker: [] for worker in WORKERS}
        self.runs: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.crashed_last: set[str] = set()
        """Whose newest run was a crash."""
        stage.send("q", *MESSAGES)

    # -- what a worker does with what it holds ----------------------------------------------------------

    def fetch(self, worker: str) -> None:
        """Take one ready message, if there is any."""
        self._take(worker, self.stage.fetch("q", consumer=worker, count=1))

    def lose_answer(self, worker: str) -> None:
        """An answer gets lost on its way; the worker asks what it holds."""
        self.stage.fetch("q", consumer=worker, count=1)
        known = [delivered.entry_id for delivered in self.held[worker]]
        self._take(worker, self.stage.fetch_own("q", worker, known))

    def fail(self, worker: str) -> None:
        """The handler raises."""
        for delivered in self._give_up(worker):
            self._start(delivered)
            outcome = decide_failure(ValueError(), delivered, QUEUE, 0.5)
            if isinstance(outcome, MoveToDeadLetters):
                dying = [Dying(delivered, outcome.reason, outcome.failure)]
                assert self.stage.carry(self.stage.broker.dead_letter("q", worker, dying)) == [True]
            else:
                retrying = [Retrying(delivered, 0)]
                assert self.stage.carry(self.stage.broker.retry("q", worker, retrying)) == [True]

    def release(self, worker: str) -> None:
        """Handed back unstarted: counts nothing."""
        for delivered in self._give_up(worker):
            assert self.stage.carry(self.stage.broker.release("q", worker, [delivered])) == [True]

    def lapse(self, worker: str) -> None:
        """The worker is not heard of while it runs a message."""
        for delivered in self._give_up(worker):
            self._start(delivered)
            self.stage.lapse("q", delivered)

    def crash(self, worker: str) -> None:
        """The worker's process is seen to die while it runs one message alone."""
        for delivered in self._give_up(worker):
            self._start(delivered)
            self.crashes[delivered.envelope.id] += 1
            self.crashed_last.add(delivered.envelope.id)
            assert self.stage.carry(self.stage.broker.crash("q", worker, [delivered])) == [True]

    def claim(self, worker: str) -> None:
        self._take(worker, self.stage.carry(self.stage.broker.claim(QUEUE, worker, cursor="0-0", count=9))[1])

    def promote(self, worker: str) -> None:
        self.stage.make_due("q")
        self.stage.carry(self.stage.broker.maintain(["q"]))

    # -- the law ----------------------------------------------------------------------------------------

    def _take(self, worker: str, arrived: list[Any]) -> None:
        for delivered in arrived:
            message_id = delivered.envelope.id
            assert delivered.attempt == self.runs[message_id] + 1
            assert self.runs[message_id] < QUEUE.max_deliveries
            assert self.crashes[message_id] < QUEUE.max_crashes
            self.held[worker].append(delivered)

    def _give_up(self, worker: str) -> Iterator[Delivered]:
        if self.held[worker]:
            yield self.held[worker].pop(0)

    def _start(self, delivered: Delivered) -> None:
        assert decide_start(delivered, QUEUE, self.stage.server_ms()) is None
        self.runs[delivered.envelope.id] += 1
        self.crashed_last.discard(delivered.envelope.id)

    def finish(self) -> None:
        """Run everything to its end: each message dies after exactly its limit, with its reason."""
        buried: dict[str, tuple[DeadReason, int]] = {}
        for _ in range(40):
            for worker in WORKERS:
                for step in (self.claim, self.fetch, self.fail, self.promote):
                    step(worker)
            buried |= self._take_dead_letters()
        for message_id in MESSAGES:
            reason = DeadReason.CRASHED if message_id in self.crashed_last else DeadReason.FAILED
            assert buried[message_id] == (reason, self.runs[message_id])
            crashed = self.crashes[message_id] >= QUEUE.max_crashes
            assert crashed or self.runs[message_id] == QUEUE.max_deliveries
        state = self.stage.look("q")
        assert (state.ready, state.in_flight, state.delayed, state.parked, state.dead) == (0, 0, 0, 0, 0)

    def _take_dead_letters(self) -> dict[str, tuple[DeadReason, int]]:
        """Read and remove them: there is room for one only, so that the others were parked."""
        rows = self.stage.raw("XRANGE", self.stage.keys.dead("q"), "-", "+")
        assert len(rows) <= 1
        self.stage.raw("XTRIM", self.stage.keys.dead("q"), "MAXLEN", 0)
        letters = [decode_dead_letter(flat) for _, flat in rows]
        return {letter.envelope.id: (letter.reason, letter.envelope.attempt) for letter in letters}


ACTIONS: tuple[Callable[[Play, str], None], ...] = (
    Play.fetch, Play.lose_answer, Play.fail, Play.release, Play.lapse, Play.crash, Play.claim, Play.promote,
)  # fmt: skip


@contextmanager
def open_play(server: Server) -> Iterator[Play]:
    connection = BlockingRedisConnection.open(parse_address(server.url))
    namespace = f"t{secrets.token_hex(6)}"
    topology = make_topology(namespace, QUEUE)
    yield Play(Stage(topology, RedisBroker(namespace), connection.execute, connection, server.url))
    connection.close()


def by_one(*acts: Callable[[Play, str], None]) -> list[tuple[Callable[[Play, str], None], str]]:
    return [(act, "one") for act in acts]


@settings(max_examples=40, deadline=None)
@given(steps=some.lists(some.tuples(some.sampled_from(ACTIONS), some.sampled_from(WORKERS)), max_size=40))
@example(steps=by_one(Play.fetch, Play.crash, Play.claim, Play.crash))
@example(steps=by_one(Play.fetch, *(Play.lapse, Play.claim) * 3))
@example(steps=by_one(*(Play.fetch,) * 3, Play.fail, Play.promote, Play.fetch, *(Play.lapse, Play.claim) * 2))
@example(steps=by_one(Play.fetch, *(Play.lapse, Play.claim) * 2, Play.crash))
@example(steps=by_one(Play.fetch, Play.crash, *(Play.claim, Play.lapse) * 2))
@example(steps=by_one(Play.fetch, Play.release, Play.lose_answer, Play.claim))
@example(steps=by_one(Play.fetch, Play.lapse, Play.claim, Play.release, Play.claim, Play.lapse, Play.claim))
def test_a_message_is_started_exactly_as_often_as_its_queue_allows(
    server: Server, steps: list[tuple[Callable[[Play, str], None], str]]
):
    with open_play(server) as play:
        for act, worker in steps:
            act(play, worker)
        play.finish()

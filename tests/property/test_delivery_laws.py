"""Laws of delivery: nothing is lost, nothing is doubled, and every server counts as the model does."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as some

from leanmq_topology.brokers.protocol import Dying, Retrying
from leanmq_topology.brokers.redis.address import parse_address
from leanmq_topology.brokers.redis.broker import RedisBroker
from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.messages.codec import decode_dead_letter
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.outcome import DeadReason, Failure
from leanmq_topology.topology.model import Queue
from tests.support.factories import make_topology
from tests.support.servers import Server
from tests.support.stage import Stage

ACTIONS = (
    "send",
    "send_delayed",
    "resend",
    "fetch",
    "ack",
    "retry",
    "die",
    "discard",
    "release",
    "lapse",
    "promote",
)
QUEUE = Queue(name="q")


@dataclass
class Model:
    """What must be true: where each message is, and how often it was handed out and counted."""

    ready: Counter[str] = field(default_factory=Counter)
    delayed: Counter[str] = field(default_factory=Counter)
    held: list[Delivered] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


class Play:
    """Carries actions out on a server and on the model alike."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.model = stage, Model()
        self.sent: list[str] = []
        self.last = stage.flush()

    def act(self, action: str) -> None:
        getattr(self, action)()

    def send(self, delay_ms: int | None = None) -> None:
        message_id = f"m{len(self.sent)}"
        self.last = self.stage.flush(self.stage.outgoing("q", message_id, delay_ms=delay_ms))
        self.stage.carry(self.stage.broker.send(self.last))
        self.sent.append(message_id)
        (self.model.ready if delay_ms is None else self.model.delayed)[message_id] += 1
        self.model.attempts[message_id] = 1

    def send_delayed(self) -> None:
        self.send(60_000)

    def resend(self) -> None:
        if self.last.sends:
            self.stage.carry(self.stage.broker.send(self.last))

    def fetch(self) -> None:
        for delivered in self.stage.fetch("q", count=2):
            self.take(delivered)
            self.model.ready -= Counter([delivered.envelope.id])

    def take(self, delivered: Delivered) -> None:
        assert delivered.attempt == self.model.attempts[delivered.envelope.id]
        self.model.held.append(delivered)

    def ack(self) -> None:
        if self.model.held:
            delivered = self.model.held.pop()
            assert self.stage.carry(self.stage.broker.ack("q", [delivered.entry_id])) == 1
            self.model.gone.add(delivered.envelope.id)

    def discard(self) -> None:
        if self.model.held:
            delivered = self.model.held.pop()
            assert self.stage.carry(self.stage.broker.discard("q", "me", [delivered])) == [True]
            self.model.gone.add(delivered.envelope.id)

    def retry(self) -> None:
        if self.model.held:
            delivered = self.model.held.pop(0)
            assert self.stage.carry(self.stage.broker.retry("q", "me", [Retrying(delivered, 60_000)])) == [
                True
            ]
            self.model.delayed[delivered.envelope.id] += 1
            self.model.attempts[delivered.envelope.id] += 1

    def die(self) -> None:
        if self.model.held:
            delivered = self.model.held.pop(0)
            dying = Dying(delivered, DeadReason.FAILED, Failure("E", ""))
            assert self.stage.carry(self.stage.broker.dead_letter("q", "me", [dying])) == [True]
            self.model.dead[delivered.envelope.id] = delivered.attempt

    def release(self) -> None:
        """Handed back and claimed again: as if nothing had been."""
        if self.model.held:
            delivered = self.model.held.pop()
            assert self.stage.carry(self.stage.broker.release("q", "me", [delivered])) == [True]
            self.claim(delivered)

    def lapse(self) -> None:
        """Held too long and claimed again: one attempt more."""
        if self.model.held:
            delivered = self.model.held.pop()
            self.stage.lapse("q", delivered)
            self.model.attempts[delivered.envelope.id] += 1
            self.claim(delivered)

    def claim(self, expected: Delivered) -> None:
        _, [again] = self.stage.carry(self.stage.broker.claim(QUEUE, "me", cursor="0-0", count=100))
        assert isinstance(again, Delivered)
        assert again.envelope == expected.envelope
        self.take(again)

    def promote(self) -> None:
        self.stage.make_due("q")
        moved = self.stage.carry(self.stage.broker.maintain(["q"])).promoted
        assert moved == self.model.delayed.total()
        self.model.ready += self.model.delayed
        self.model.delayed = Counter()

    def check(self) -> None:
        state = self.stage.look("q")
        found = (state.ready, state.in_flight, state.delayed, state.dead)
        model = self.model
        assert found == (model.ready.total(), len(model.held), model.delayed.total(), len(model.dead))
        assert sum(found) + len(model.gone) == len(self.sent)
        rows = self.stage.raw("XRANGE", self.stage.keys.dead("q"), "-", "+")
        letters = [decode_dead_letter(flat).envelope for _, flat in rows]
        assert {letter.id: letter.attempt for letter in letters} == model.dead


@settings(max_examples=40, deadline=None)
@given(actions=some.lists(some.sampled_from(ACTIONS), min_size=5, max_size=40))
def test_every_message_is_in_one_place_and_counted_once(server: Server, actions: list[str]):
    connection = BlockingRedisConnection.open(parse_address(server.url))
    namespace = f"t{secrets.token_hex(6)}"
    topology = make_topology(namespace, QUEUE)
    play = Play(Stage(topology, RedisBroker(namespace), connection.execute, connection, server.url))
    for action in actions:
        play.act(action)
    play.check()
    connection.close()

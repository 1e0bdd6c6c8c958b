from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from leanmq_topology.brokers.protocol import Dying, Retrying, Told, tell
from leanmq_topology.errors import BrokerError, BrokerUnavailableError, TopologyNotAppliedError
from leanmq_topology.messages.envelope import Delivered, Envelope, Undecodable
from leanmq_topology.messages.outcome import (
    DeadReason,
    Done,
    Dropped,
    Failure,
    MoveToDeadLetters,
    Outcome,
    Released,
    RetryLater,
)
from leanmq_topology.runner import settlements as module
from leanmq_topology.runner.settlements import ENOUGH, LARGE_BATCH, Settlements
from leanmq_topology.upkeep import outage
from leanmq_topology.upkeep.outage import Outage
from tests.support.processes import PATIENCE_SECONDS

WHY = Failure("ValueError", "no")


@dataclass(frozen=True)
class Asked:
    """An operation as the fake broker makes it: what was asked, of how many."""

    name: str
    queue: str
    items: tuple[Any, ...]
    late: int = 0
    expired: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = field(default_factory=dict)


class FakeBroker:
    """Makes operations that can be looked at."""

    def ack(self, queue: str, entry_ids: Sequence[str], *, late: int = 0) -> Asked:
        return Asked("ack", queue, tuple(entry_ids), late)

    def retry(self, queue: str, consumer: str, retrying: Sequence[Retrying]) -> Asked:
        return Asked("retry", queue, tuple(retrying))

    def dead_letter(self, queue: str, consumer: str, dying: Sequence[Dying]) -> Asked:
        return Asked("dead_letter", queue, tuple(dying))

    def discard(
        self,
        queue: str,
        consumer: str,
        deliveries: Sequence[Delivered],
        *,
        expired: Collection[str] = (),
        reasons: Mapping[str, str] | None = None,
    ) -> Asked:
        return Asked("discard", queue, tuple(deliveries), expired=frozenset(expired), reasons=reasons or {})

    def release(self, queue: str, consumer: str, deliveries: Sequence[Delivered]) -> Asked:
        return Asked("release", queue, tuple(deliveries))


@dataclass
class FakeConnection:
    """Carries out what it is given; fails as often as it is told to."""

    failures: list[Exception] = field(default_factory=list)
    ours: bool = True
    acknowledged: int | None = None
    """How many entries an acknowledgement finds; None: all."""
    seen: list[Asked] = field(default_factory=list)
    gate: asyncio.Event | None = None
    telling: list[asyncio.Future[None]] = field(default_factory=list)

    def begin(self, operation: Any, told: Told[Any]) -> None:
        self.begin_all([(operation, told)])

    def begin_all(self, begun: Iterable[tuple[Any, Told[Any]]]) -> None:
        self.telling += [asyncio.ensure_future(tell(self.execute(one), told)) for one, told in begun]

    async def execute(self, operation: Asked) -> Any:
        self.seen.append(operation)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        if operation.name == "ack":
            return len(operation.items) if self.acknowledged is None else self.acknowledged
        return [self.ours] * len(operation.items)


def delivered(number: int, queue: str = "work") -> Delivered:
    return Delivered(queue, f"{number}-0", Envelope(f"m{number}", "t", b"{}"))


@dataclass
class Settling:
    settlements: Settlements
    connection: FakeConnection
    over: list[str]
    task: asyncio.Task[None]

    def add(self, number: int, outcome: Outcome, queue: str = "work") -> None:
        self.settlements.add(delivered(number, queue), outcome, started=True)

    async def drained(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.settlements.drained()


@asynccontextmanager
async def settling(more_comes: Callable[[], bool] = lambda: False, **told: Any) -> AsyncIterator[Settling]:
    connection, over = FakeConnection(**told), list[str]()
    broker: Any = FakeBroker()
    heard: Any = lambda queue, entry_ids: over.extend(entry_ids)  # noqa: E731
    under_test = Settlements(broker, connection, "me", Outage(), heard, more_comes)  # type: ignore[arg-type]
    task = asyncio.create_task(under_test.run())
    yield Settling(under_test, connection, over, task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_decided_in_one_turn_is_one_call():
    async with settling() as at:
        for number in range(200):
            at.add(number, Done())
        await at.drained()
    [call] = at.connection.seen
    assert (call.name, call.items) == ("ack", tuple(f"{number}-0" for number in range(200)))
    assert len(at.over) == 200


async def test_after_a_large_batch_acknowledgements_gather_while_more_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "GATHER_SECONDS", 600)
    more = [True]
    async with settling(lambda: more[0]) as at:
        for number in range(LARGE_BATCH):
            at.add(number, Done())
        await at.drained()
        for number in range(ENOUGH - 1):
            at.add(number, Done())
        await turn_the_loop()
        assert len(at.connection.seen) == 1  # they wait for the one that makes them enough
        at.add(ENOUGH, Done())
        await at.drained()
        assert len(at.connection.seen[1].items) == ENOUGH
        more[0] = False
        at.add(0, Done())
        await at.drained()
        assert len(at.connection.seen) == 3


async def test_acknowledgements_gather_for_milliseconds_at_most():
    async with settling(lambda: True) as at:
        for number in range(LARGE_BATCH):
            at.add(number, Done())
        await at.drained()
        at.add(0, Done())
        await at.drained()
    assert [len(call.items) for call in at.connection.seen] == [LARGE_BATCH, 1]


@pytest.mark.parametrize("outcome", [Released(), RetryLater(5, WHY)])
async def test_nothing_else_waits_for_acknowledgements_to_gather(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome
):
    monkeypatch.setattr(module, "GATHER_SECONDS", 600)
    async with settling(lambda: True) as at:
        for number in range(LARGE_BATCH):
            at.add(number, Done())
        await at.drained()
        at.add(0, Done())
        await turn_the_loop()
        at.add(1, outcome)
        await at.drained()
    assert len(at.connection.seen) == 3


async def turn_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_is_decided_while_a_call_is_under_way_gathers_behind_it():
    gate = asyncio.Event()
    async with settling(gate=gate) as at:
        at.add(0, Done())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(1, 50):
            at.add(number, Done())
            await asyncio.sleep(0)
        assert len(at.connection.seen) == 1
        gate.set()
        await at.drained()
    assert [len(call.items) for call in at.connection.seen] == [1, 49]


async def test_each_kind_of_outcome_and_each_queue_is_a_call_of_its_own():
    async with settling() as at:
        for queue in ("work", "mail"):
            for number in range(3):
                at.add(number, Done(), queue)
                at.add(10 + number, RetryLater(50, WHY), queue)
                at.add(20 + number, MoveToDeadLetters(DeadReason.REJECTED, WHY), queue)
                at.add(30 + number, Dropped(), queue)
                at.add(40 + number, Released(), queue)
        await at.drained()
    calls = {(call.name, call.queue): len(call.items) for call in at.connection.seen}
    names = ("ack", "retry", "dead_letter", "discard", "release")
    assert calls == {(name, queue): 3 for name in names for queue in ("work", "mail")}


async def test_a_call_carries_no_more_than_the_server_should_do_at_once():
    async with settling() as at:
        for number in range(2500):
            at.add(number, Done())
        for number in range(250):
            at.add(number, RetryLater(1, WHY), "mail")
        await at.drained()
    sizes = [len(call.items) for call in at.connection.seen]
    assert sizes == [1000, 1000, 500, 100, 100, 50]


async def test_an_entry_that_cannot_be_read_is_dead_lettered_like_any_other():
    async with settling() as at:
        foreign = Undecodable("work", "1-0", "no id")
        at.settlements.add(foreign, MoveToDeadLetters(DeadReason.UNDECODABLE, WHY), started=False)
        await at.drained()
    assert at.connection.seen[0].items == (Dying(foreign, DeadReason.UNDECODABLE, WHY, started=False),)


async def test_nothing_is_lost_while_the_server_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outage.Pauses, "seconds", lambda self: 0.0)
    gone = [BrokerUnavailableError("away", unknown=True) for _ in range(3)]
    async with settling(failures=gone) as at:
        at.add(1, Done())
        await at.drained()
    assert [call.items for call in at.connection.seen] == [("1-0",)] * 4
    assert at.over == ["1-0"]


async def test_only_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outage.Pauses, "seconds", lambda self: 0.0)
    async with settling(failures=[BrokerUnavailableError("away")]) as at:
        at.add(1, Done())
        at.add(2, RetryLater(1, WHY))
        await at.drained()
    assert [call.name for call in at.connection.seen] == ["ack", "retry", "ack"]
    assert len(at.over) == 2


@pytest.mark.parametrize(
    "failure", [BrokerError("a mistake"), TopologyNotAppliedError(["queues.work"], namespace="a mistake")]
)
@pytest.mark.parametrize("calls", [1, 2])
async def test_a_settlement_that_the_server_refuses_is_given_up_and_said(
    failure: Exception, calls: int, caplog: pytest.LogCaptureFixture
):
    async with settling(failures=[failure]) as at:
        at.add(1, RetryLater(1, WHY))
        if calls == 2:
            at.add(2, Done())
        await at.drained()
    assert len(at.connection.seen) == calls
    assert len(at.over) == calls
    assert "a mistake" in caplog.text


@pytest.mark.parametrize(
    ("outcome", "mentions"),
    [(RetryLater(1, WHY), 1), (MoveToDeadLetters(DeadReason.FAILED, WHY), 1), (Released(), 0), (Done(), 0)],
)
async def test_a_lost_lease_is_said_where_it_changes_something(
    outcome: Outcome, mentions: int, caplog: pytest.LogCaptureFixture
):
    async with settling(ours=False) as at:
        at.add(1, outcome)
        await at.drained()
    assert caplog.text.count("was lost") == mentions


async def test_a_repeated_settlement_that_finds_nothing_is_no_lost_lease(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outage.Pauses, "seconds", lambda self: 0.0)
    async with settling(failures=[BrokerUnavailableError("away", unknown=True)], ours=False) as at:
        at.add(1, RetryLater(1, WHY))
        await at.drained()
    assert "was lost" not in caplog.text


async def test_an_error_of_our_own_is_not_swallowed():
    async with settling(failures=[TypeError("a mistake of ours")]) as at:
        at.add(1, Done())
        with pytest.raises(TypeError):
            await asyncio.wait_for(at.task, PATIENCE_SECONDS)


async def test_late_acknowledgements_travel_with_the_others_and_are_counted():
    async with settling() as at:
        for number in range(3):
            at.settlements.add(delivered(number), Done(), started=True, late=number > 0)
        await at.drained()
    [call] = at.connection.seen
    assert (call.name, len(call.items), call.late) == ("ack", 3, 2)


async def test_an_acknowledgement_that_found_nothing_is_said(caplog: pytest.LogCaptureFixture):
    async with settling(acknowledged=1) as at:
        at.add(0, Done())
        at.add(1, Done())
        await at.drained()
    assert "1 of 2 acknowledged messages of queue work were not there any more" in caplog.text


async def test_what_expired_is_told_apart_from_what_a_handler_discarded():
    async with settling() as at:
        at.add(0, Dropped("old news"))
        at.add(1, Dropped("expired", expired=True))
        await at.drained()
    [call] = at.connection.seen
    assert (call.name, len(call.items), call.expired) == ("discard", 2, {"1-0"})
    assert call.reasons["0-0"] == "old news"


# -- errands -------------------------------------------------------------------------------------------------


@dataclass
class Walk:
    """An errand of so many operations."""

    delivered: Delivered
    left: int = 1
    mistake: Exception | None = None
    heard: list[Any] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return self.left == 0

    def operation(self, broker: Any, consumer: str, producer: Any) -> Asked:
        return Asked("walk", self.delivered.queue, (self.delivered,))

    def take(self, answer: Any) -> bool:
        if self.mistake is not None:
            raise self.mistake
        self.heard.append(answer)
        self.left -= 1
        return self.left == 0


def begun(at: Settling) -> int:
    """How many operations have been given to the connection."""
    return len(at.connection.telling)


async def test_an_errand_leaves_in_the_turn_it_comes_in_when_nothing_else_is_under_way():
    async with settling() as at:
        at.settlements.run_errand(Walk(delivered(1)))
        assert begun(at) == 1
        at.settlements.run_errand(Walk(delivered(2)))
        at.settlements.run_errand(Walk(delivered(3)))
        assert begun(at) == 1, "those behind it travel together"
        await at.drained()
        assert sorted(at.over) == ["1-0", "2-0", "3-0"]
        at.settlements.run_errand(Walk(delivered(4)))
        assert begun(at) == 4
        await at.drained()


async def test_an_errand_waits_for_its_turn_while_other_settlements_are_under_way():
    async with settling(gate=asyncio.Event()) as at:
        at.add(1, Done())
        at.settlements.run_errand(Walk(delivered(2)))
        assert begun(at) == 0
        assert at.connection.gate is not None
        at.connection.gate.set()
        await at.drained()
        assert at.over == ["1-0", "2-0"]


async def test_nothing_is_drained_before_an_errand_that_left_at_once_is_over():
    async with settling(gate=asyncio.Event()) as at:
        at.settlements.run_errand(Walk(delivered(1)))
        at.add(2, Done())
        waiting = asyncio.create_task(at.settlements.drained())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert at.connection.gate is not None
        at.connection.gate.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting
        assert sorted(at.over) == ["1-0", "2-0"]


async def test_an_errand_that_takes_several_steps_or_met_an_outage_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outage.Pauses, "seconds", lambda self: 0.0)
    async with settling(failures=[BrokerUnavailableError("away")] * 2) as at:
        errand = Walk(delivered(1), left=3)
        at.settlements.run_errand(errand)
        await at.drained()
        assert (at.over, len(errand.heard), begun(at)) == (["1-0"], 3, 5)


async def test_a_mistake_in_an_errand_that_left_at_once_ends_the_settling():
    async with settling() as at:
        at.settlements.run_errand(Walk(delivered(1), mistake=ZeroDivisionError("ours")))
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(ZeroDivisionError):
                await at.task

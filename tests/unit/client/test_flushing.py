"""Sends of one turn travel together, and each sender gets its own answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from leanmq_topology.brokers.protocol import Flush, Full, SendResult, Stored, Told, tell
from leanmq_topology.client import flushing
from leanmq_topology.client.flushing import Flusher
from leanmq_topology.errors import BrokerFullError, BrokerUnavailableError
from leanmq_topology.messages.envelope import Envelope, Outgoing


class Line:
    """Broker and connection at once: a flush is its own operation, and answers come when told to."""

    def __init__(self) -> None:
        self.flushes: list[Flush] = []
        self.asked = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    def send(self, flush: Flush) -> Flush:
        return flush

    async def execute(self, flush: Flush) -> list[SendResult]:
        self.flushes.append(flush)
        self.arrived.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [
            Full("q", 1) if outgoing.envelope.id == "full" else Stored(outgoing.envelope.id, 1)
            for outgoing in flush.sends
        ]

    def begin(self, flush: Flush, told: Told[list[SendResult]]) -> None:
        self.asked += 1
        self.begun = asyncio.ensure_future(tell(self.execute(flush), told))

    async def has_flushed(self, count: int) -> None:
        while len(self.flushes) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def ids(self) -> list[list[str]]:
        return [[outgoing.envelope.id for outgoing in flush.sends] for flush in self.flushes]


class HeldLine:
    """Broker and connection at once: answers come when the test gives them, as callbacks of the loop."""

    def __init__(self) -> None:
        self.told: list[Told[list[SendResult]]] = []
        self.arrived = asyncio.Event()

    def send(self, flush: Flush) -> Flush:
        return flush

    def begin(self, _flush: Flush, told: Told[list[SendResult]]) -> None:
        self.told.append(told)
        self.arrived.set()


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def flusher(line: Line) -> Flusher:
    return Flusher(cast(Any, line), cast(Any, line))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leanmq_topology.client.persistence.random.random", lambda: 0.0)
    monkeypatch.setattr("leanmq_topology.client.patience.FIRST_WAIT_S", 0.001)


def make(message_id: str, *, size: int = 2, copies: int = 1) -> Outgoing:
    queues = tuple(f"q{n}" for n in range(copies))
    return Outgoing("q", "d", queues, Envelope(message_id, "", b"x" * size))


async def test_sends_of_one_turn_are_one_flush_with_a_result_each(line: Line, flusher: Flusher):
    answers = await asyncio.gather(*[flusher.submit([make(name)]) for name in ("a", "full", "b")])
    assert line.ids() == [["a", "full", "b"]]
    assert answers == [[Stored("a", 1)], [Full("q", 1)], [Stored("b", 1)]]


async def test_a_lone_send_leaves_within_its_call_when_nothing_else_is_to_run(line: Line, flusher: Flusher):
    await asyncio.sleep(0)  # what the test itself was begun with has run by then
    answer = flusher.submit_lone(make("a"))
    assert line.asked == 1
    assert await answer == [Stored("a", 1)]
    assert await flusher.submit_lone(make("b")) == [Stored("b", 1)]
    assert [flush.sequence for flush in line.flushes] == [1, 2]


async def test_lone_sends_of_one_turn_are_one_flush(line: Line, flusher: Flusher):
    async def send(name: str) -> list[SendResult]:
        return await flusher.submit_lone(make(name))

    answers = await asyncio.gather(*[send(name) for name in ("a", "b", "c")])
    assert line.ids() == [["a", "b", "c"]]
    assert answers == [[Stored("a", 1)], [Stored("b", 1)], [Stored("c", 1)]]


async def test_a_lone_send_waits_for_the_flush_in_flight_and_is_cancelled_until_then(
    line: Line, flusher: Flusher
):
    line.gate.clear()
    await asyncio.sleep(0)
    first = flusher.submit_lone(make("a"))
    later = [flusher.submit_lone(make(name)) for name in ("b", "c")]
    assert line.asked == 1
    later[0].cancel()
    line.gate.set()
    await asyncio.gather(first, later[1])
    assert line.ids() == [["a"], ["c"]]


async def test_who_waits_for_a_lone_send_goes_on_in_the_callback_of_its_answer_and_sends_the_next_from_it():
    loop, line, steps = asyncio.get_running_loop(), HeldLine(), []

    async def send() -> None:
        assert await flusher.submit_lone(make("a")) == [Stored("a", 1)]
        later = flusher.submit_lone(make("b"))
        steps.append(f"flush {len(line.told)} has left")
        assert await later == [Stored("b", 1)]

    def hear(name: str) -> None:
        line.told[-1]([Stored(name, 1)])
        steps.append(f"{name} is heard of")

    flusher = Flusher(cast(Any, line), cast(Any, line))
    sending = asyncio.ensure_future(send())
    for name in ("a", "b"):
        await line.arrived.wait()
        line.arrived.clear()
        loop.call_soon(hear, name)
    await asyncio.wait_for(sending, 10)
    assert steps == ["flush 2 has left", "a is heard of", "b is heard of"]
    await flusher.close()


async def test_a_lone_send_whose_task_gave_up_leaves_room_for_the_next():
    loop, line = asyncio.get_running_loop(), HeldLine()
    flusher = Flusher(cast(Any, line), cast(Any, line))
    await asyncio.sleep(0)
    flusher.submit_lone(make("a")).cancel()
    loop.call_soon(line.told[0], [Stored("a", 1)])
    await asyncio.wait_for(flusher.close(), 10)


async def test_a_loop_that_does_not_tell_what_it_is_to_run_has_sends_wait_for_its_next_turn(
    line: Line, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flushing, "READY_QUEUE", "_unknown")
    await asyncio.sleep(0)
    answers = [flusher.submit_lone(make(name)) for name in ("a", "b")]
    assert line.asked == 0
    await asyncio.gather(*answers)
    assert line.ids() == [["a", "b"]]


async def test_a_closed_client_takes_no_lone_send(flusher: Flusher):
    await flusher.close()
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await flusher.submit_lone(make("a"))


async def test_later_sends_gather_behind_the_flushes_in_flight(line: Line, flusher: Flusher):
    line.gate.clear()
    first = flusher.submit([make("a")])
    await line.has_flushed(1)
    second = flusher.submit([make("b")])
    await line.has_flushed(2)
    later = [flusher.submit([make(name)]) for name in ("c", "d")]
    line.gate.set()
    await asyncio.gather(first, second, *later)
    assert line.ids() == [["a"], ["b"], ["c", "d"]]


async def test_each_flush_in_flight_has_a_producer_of_its_own(line: Line, flusher: Flusher):
    for _ in range(2):
        line.gate.clear()
        sent = len(line.flushes)
        first = flusher.submit([make("a")])
        await line.has_flushed(sent + 1)
        second = flusher.submit([make("b")])
        await line.has_flushed(sent + 2)
        line.gate.set()
        await asyncio.gather(first, second)
        await asyncio.sleep(0)
    producers = [flush.producer for flush in line.flushes]
    assert len(set(producers[:2])) == len(set(producers)) == 2
    assert [flush.sequence for flush in line.flushes] == [1, 1, 2, 2]


async def test_many_sends_of_a_turn_leave_in_two_flushes_in_order(line: Line, flusher: Flusher):
    answers = await asyncio.gather(*[flusher.submit([make(str(n))]) for n in range(9)])
    assert line.ids() == [["0", "1", "2", "3", "4"], ["5", "6", "7", "8"]]
    assert answers == [[Stored(str(n), 1)] for n in range(9)]


async def test_uneven_flushes_even_out(line: Line, flusher: Flusher):
    line.gate.clear()

    async def send_twice(name: str) -> None:
        await flusher.submit([make(name)])
        await flusher.submit([make(name)])

    sending = [asyncio.ensure_future(send_twice("0"))]
    await line.has_flushed(1)
    sending += [asyncio.ensure_future(send_twice(str(n))) for n in range(1, 16)]
    await line.has_flushed(2)
    line.gate.set()
    await asyncio.gather(*sending)
    assert [len(flush.sends) for flush in line.flushes][:3] == [1, 8, 8]


async def test_what_was_gathered_waits_for_what_those_send_next_who_are_answered_first(line: Line):
    flusher = Flusher(cast(Any, line), cast(Any, line), in_flight=1)
    line.gate.clear()

    async def send_twice() -> None:
        await flusher.submit([make("a")])
        await flusher.submit([make("b")])

    sending = asyncio.ensure_future(send_twice())
    await line.has_flushed(1)
    gathered = flusher.submit([make("g")])
    line.gate.set()
    await asyncio.gather(sending, gathered)
    assert line.ids() == [["a"], ["g", "b"]]
    assert [flush.sequence for flush in line.flushes] == [1, 2]
    assert len({flush.producer for flush in line.flushes}) == 1


async def test_a_batch_travels_alone_and_keeps_its_place(line: Line, flusher: Flusher):
    await asyncio.gather(
        flusher.submit([make("a")]),
        flusher.submit([make("b"), make("c")], together=True),
        flusher.submit([make("d")]),
    )
    assert line.ids() == [["a"], ["b", "c"], ["d"]]
    assert [flush.all_or_none for flush in line.flushes] == [False, True, False]


async def test_a_flush_is_split_at_its_bounds(line: Line, flusher: Flusher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flushing, "MOST_FLUSH_BYTES", 100)
    monkeypatch.setattr(flushing, "MOST_COPIES", 5)
    sends = [
        make("a", size=60),
        make("b", size=60),
        make("c", size=300),
        make("d", copies=4),
        make("e", copies=2),
    ]
    await asyncio.gather(*[flusher.submit([outgoing]) for outgoing in sends])
    assert line.ids() == [["a"], ["b"], ["c"], ["d"], ["e"]]


async def test_a_send_cancelled_before_its_flush_leaves_is_withdrawn(line: Line, flusher: Flusher):
    line.gate.clear()
    first = flusher.submit([make("a")])
    await line.arrived.wait()
    gone, kept = flusher.submit([make("gone")]), flusher.submit([make("kept")])
    gone.cancel()
    line.gate.set()
    assert await kept == [Stored("kept", 1)]
    await first
    assert line.ids() == [["a"], ["kept"]]


async def test_a_send_cancelled_in_flight_leaves_the_others_alone(line: Line, flusher: Flusher):
    line.gate.clear()
    gone, kept = flusher.submit([make("gone")]), flusher.submit([make("kept")])
    await line.arrived.wait()
    gone.cancel()
    line.gate.set()
    assert await kept == [Stored("kept", 1)]


async def test_a_lost_answer_is_settled_by_the_same_flush(line: Line, flusher: Flusher):
    line.failures = [BrokerUnavailableError("cut", unknown=True), BrokerUnavailableError("refused")]
    assert await flusher.submit([make("a")]) == [Stored("a", 1)]
    assert len(line.flushes) == 3
    assert line.flushes == [line.flushes[0]] * 3


async def test_flushes_that_are_sent_again_keep_their_order_and_nothing_overtakes_them(
    line: Line, flusher: Flusher
):
    line.gate.clear()
    sent = [flusher.submit([make(name)]) for name in "abcdefgh"]
    await line.has_flushed(2)
    sent.append(flusher.submit([make("later")]))
    line.failures = [BrokerUnavailableError("cut", unknown=True) for _ in range(3)]
    line.gate.set()
    await asyncio.gather(*sent)
    first, second = [*"abcd"], [*"efgh"]
    assert line.ids() == [first, second, first, first, second, ["later"]]
    assert line.flushes[:2] == [line.flushes[3], line.flushes[4]]


async def test_when_patience_ends_each_sender_gets_its_own_error_and_the_next_flush_goes_on(
    line: Line, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("leanmq_topology.client.patience.LONGEST_S", 0.0)
    line.failures = [BrokerUnavailableError("cut", unknown=True)]
    failed = await asyncio.gather(*[flusher.submit([make(n)]) for n in "ab"], return_exceptions=True)
    assert [type(failure) for failure in failed] == [BrokerUnavailableError] * 2
    assert failed[0] is not failed[1]
    assert all(failure.unknown for failure in failed)  # type: ignore[union-attr]
    assert await flusher.submit([make("c")]) == [Stored("c", 1)]
    assert line.flushes[-1].sequence == 2


async def test_a_full_server_is_told_at_once(line: Line, flusher: Flusher):
    line.failures = [BrokerFullError("full", hint="drain it")]
    with pytest.raises(BrokerFullError) as caught:
        await flusher.submit([make("a")])
    assert caught.value.hint == "drain it"
    assert len(line.flushes) == 1


async def test_closing_waits_for_what_was_sent_and_refuses_more(line: Line, flusher: Flusher):
    line.gate.clear()
    sent = flusher.submit([make("a")])
    await line.arrived.wait()
    closing = asyncio.ensure_future(flusher.close())
    line.gate.set()
    await closing
    assert sent.result() == [Stored("a", 1)]
    with pytest.raises(BrokerUnavailableError, match="closed"):
        await flusher.submit([make("b")])

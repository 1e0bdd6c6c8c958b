"""The pipe without a socket: one write a turn, answers in order, cancellation and breaks mix nothing up."""

from __future__ import annotations

import asyncio

import pytest

from leanmq_topology.brokers.redis import pipe as pipe_module
from leanmq_topology.brokers.redis.failures import connection_lost
from leanmq_topology.brokers.redis.pipe import BUFFER_BYTES, RespPipe
from leanmq_topology.errors import BrokerUnavailableError
from tests.support.processes import PATIENCE_SECONDS


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def pipe(wire: Wire) -> RespPipe:
    made = RespPipe(asyncio.get_running_loop(), "redis://h")
    made.connection_made(wire)
    return made


def hear(pipe: RespPipe, said: bytes) -> None:
    """As the event loop does: bytes are read into the pipe's own buffer, as many as fit."""
    while said:
        buffer = pipe.get_buffer(-1)
        part, said = said[: len(buffer)], said[len(buffer) :]
        buffer[: len(part)] = part
        pipe.buffer_updated(len(part))


async def turn() -> None:
    """Let everything that is ready run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_calls_of_one_turn_leave_in_one_write_and_answers_find_their_call(pipe: RespPipe, wire: Wire):
    answers = [pipe.call(("ECHO", n), 10) for n in range(3)]
    await turn()
    assert len(wire.writes) == 1
    hear(pipe, b":0\r\n:1")
    assert [answer.done() for answer in answers] == [True, False, False]
    hear(pipe, b"\r\n:2\r\n")
    assert [answer.result() for answer in answers] == [0, 1, 2]


async def test_an_answer_larger_than_the_buffer_is_put_together(pipe: RespPipe):
    body = bytes(range(256)) * (3 * BUFFER_BYTES // 256)
    answers = [pipe.call(("GET", n), 10) for n in range(2)]
    await turn()
    hear(pipe, b"$%d\r\n%b\r\n:7\r\n" % (len(body), body))
    assert [answer.result() for answer in answers] == [body, 7]


async def test_reading_takes_no_memory_anew(pipe: RespPipe):
    """asyncio gives every read of a mere `Protocol` a buffer of 256 KiB."""
    assert isinstance(pipe, asyncio.BufferedProtocol)
    assert pipe.get_buffer(-1) is pipe.get_buffer(-1)


async def test_a_call_that_cannot_wait_leaves_at_once_with_what_was_queued_before_it(
    pipe: RespPipe, wire: Wire
):
    queued, urgent = pipe.call(("ECHO", 1), 10), asyncio.get_running_loop().create_future()
    pipe.queue(("ECHO", 2), 10, urgent)
    assert wire.writes == []
    pipe.write_queued()
    assert wire.writes == [b"*2\r\n$4\r\nECHO\r\n$1\r\n1\r\n*2\r\n$4\r\nECHO\r\n$1\r\n2\r\n"]
    await turn()
    assert len(wire.writes) == 1
    hear(pipe, b":1\r\n:2\r\n")
    assert (queued.result(), urgent.result()) == (1, 2)


async def test_a_call_cancelled_before_it_is_written_is_withdrawn(pipe: RespPipe, wire: Wire):
    gone, kept = pipe.call(("GONE",), 10), pipe.call(("KEPT",), 10)
    gone.cancel()
    await turn()
    assert wire.writes == [b"*1\r\n$4\r\nKEPT\r\n"]
    hear(pipe, b"+ok\r\n")
    assert kept.result() == b"ok"


async def test_the_answer_of_a_cancelled_call_goes_to_nobody(pipe: RespPipe):
    gone, kept = pipe.call(("GONE",), 10), pipe.call(("KEPT",), 10)
    await turn()
    gone.cancel()
    hear(pipe, b"+for gone\r\n+for kept\r\n")
    assert kept.result() == b"for kept"


async def test_a_break_leaves_written_calls_unknown_and_unwritten_ones_not_done(pipe: RespPipe, wire: Wire):
    written = pipe.call(("A",), 10)
    await turn()
    unwritten = pipe.call(("B",), 10)
    pipe.connection_lost(None)
    later = pipe.call(("C",), 10)
    failures = [answer.exception() for answer in (written, unwritten, later)]
    assert [failure.unknown for failure in failures if isinstance(failure, BrokerUnavailableError)] == [
        True,
        False,
        False,
    ]
    assert len({id(failure) for failure in failures}) == 3
    await turn()
    assert len(wire.writes) == 1


@pytest.mark.parametrize("noise", [b"+nobody asked\r\n", b"?what\r\n"])
async def test_an_answer_that_makes_no_sense_ends_the_connection(pipe: RespPipe, wire: Wire, noise: bytes):
    hear(pipe, noise)
    assert wire.aborted
    assert pipe.failure is not None


async def test_a_server_that_turns_us_away_is_heard(pipe: RespPipe):
    hear(pipe, b"-ERR max number of clients reached\r\n")
    with pytest.raises(BrokerUnavailableError, match="max number of clients"):
        await pipe.call(("A",), 10)


async def test_the_oldest_call_without_an_answer_in_time_ends_the_connection(pipe: RespPipe, wire: Wire):
    late, other = pipe.call(("A",), 0.01), pipe.call(("B",), 60)
    with pytest.raises(BrokerUnavailableError, match=r"no answer from redis://h within 0\.01 s") as caught:
        await asyncio.wait_for(late, PATIENCE_SECONDS)
    assert caught.value.unknown
    assert isinstance(other.exception(), BrokerUnavailableError)
    assert wire.aborted


async def test_a_call_behind_a_longer_one_fails_in_its_own_time(pipe: RespPipe):
    """The timer that ran was for the longer one."""
    longer, shorter = pipe.call(("A",), 60), pipe.call(("B",), 0.05)
    await turn()
    hear(pipe, b":1\r\n")
    assert longer.result() == 1
    with pytest.raises(BrokerUnavailableError):
        await asyncio.wait_for(shorter, PATIENCE_SECONDS)


async def test_a_calls_time_starts_when_the_one_before_it_was_answered(pipe: RespPipe):
    loop = asyncio.get_running_loop()
    first, second = pipe.call(("A",), 60), pipe.call(("B",), 0.05)
    await turn()
    await asyncio.sleep(0.06)  # longer than the second call may take, had it been the oldest
    started = loop.time()
    hear(pipe, b":1\r\n")
    assert first.result() == 1
    pipe._check_deadline()
    assert not second.done()
    with pytest.raises(BrokerUnavailableError):
        await asyncio.wait_for(second, PATIENCE_SECONDS)
    assert loop.time() - started >= 0.04


async def test_a_sender_waits_while_too_much_is_outstanding(pipe: RespPipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipe_module, "HIGH_WATER_BYTES", 100)
    big = pipe.call(("X", b"x" * 200), 10)
    await turn()
    waiter = asyncio.ensure_future(pipe.wait_for_room())
    await turn()
    assert not waiter.done()
    hear(pipe, b"+ok\r\n")
    await asyncio.wait_for(waiter, PATIENCE_SECONDS)
    assert big.result() == b"ok"


async def test_a_break_frees_who_waits_for_room(pipe: RespPipe, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pipe_module, "HIGH_WATER_BYTES", 100)
    lost = pipe.call(("X", b"x" * 200), 10)
    waiter = asyncio.ensure_future(pipe.wait_for_room())
    await turn()
    pipe.abort(connection_lost("gone", where="h", unknown=True))
    await asyncio.wait_for(waiter, PATIENCE_SECONDS)
    assert lost.exception() is not None

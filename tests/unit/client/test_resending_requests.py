"""A request that leaves ahead: who asked goes on with its reply, or it is sent again under its own name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from leanmq_topology.brokers.protocol import Arrived, Flush, Reply, Stale, Stored
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.requesting import Request, write_request
from leanmq_topology.client.requesting_tasks import Requester
from leanmq_topology.client.requesting_threads import SyncRequester
from leanmq_topology.errors import BrokerUnavailableError, RequestTimeoutError
from leanmq_topology.messages.envelope import Envelope, Outgoing
from leanmq_topology.messages.routing import Destination
from tests.support.factories import make_topology

LOST = BrokerUnavailableError("cut", unknown=True)
SECONDS = 5.0


class FakeBroker:
    """An operation is its name and what it was given."""

    def attempt(self, flush: Flush) -> Any:
        return "attempt", flush

    def send(self, flush: Flush) -> Any:
        return "send", flush

    def read_inbox(self, inbox: str, after: str, **options: int) -> Any:
        return "read", inbox

    def open_inbox(self, inbox: str, **options: int) -> Any:
        return "open", inbox


def outgoing(name: str) -> list[Outgoing]:
    return [Outgoing("ask", "d", ("work",), Envelope(name, "t", b"{}"))]


# -- threads -------------------------------------------------------------------------------------------------


class FakeLine:
    """Loses the answer to the first attempt, and answers every other one."""

    def __init__(self) -> None:
        self.attempts: list[Flush] = []

    def begin(self, operations: Any, within_s: float) -> None:
        self.attempts += [flush for name, flush in operations if name == "attempt"]

    def finish(self, within_s: float) -> Any:
        if len(self.attempts) == 1:
            raise LOST
        return [Stored("id", 1)]


def test_a_thread_that_sends_again_shares_its_name_with_no_other_that_sends_ahead():
    line, resent = FakeLine(), list[Flush]()

    def execute(operation: Any, until: float) -> Any:
        name, flush = operation
        if name == "send":
            resent.append(flush)
            slot = requester.expect("second")  # as another thread would, before this one is over
            assert requester.send(slot, until, outgoing("second")) == [Stored("id", 1)]
            requester.forget("second", slot)
        return [Stored("id", 1)]

    requester = SyncRequester(cast(Any, FakeBroker()), execute, lambda: cast(Any, line))
    first_slot = requester.expect("first")
    assert requester.send(first_slot, time.monotonic() + SECONDS, outgoing("first")) == [Stored("id", 1)]
    [first, second] = line.attempts
    assert resent == [first]
    assert first.producer != second.producer


class StaleLine(FakeLine):
    """Refuses the attempt, its address having changed; then the reply to somebody else's request arrives."""

    answered = False

    def finish(self, within_s: float) -> Any:
        if self.answered:
            return [Arrived("1-0", Reply("inbox", "second"))]
        self.answered = True
        return [Stale("ask", None)]


def test_a_thread_whose_address_changed_lets_others_read_before_it_sends_again():
    """Learning the address and sending again may take long, and it would not read meanwhile."""
    requester = SyncRequester(cast(Any, FakeBroker()), cast(Any, None), lambda: cast(Any, StaleLine()))
    deadline = time.monotonic() + SECONDS
    first, second = requester.expect("first"), requester.expect("second")
    assert requester.send(first, deadline, outgoing("first")) == [Stale("ask", None)]
    assert requester.wait(second, deadline) == Reply("inbox", "second")


# -- tasks ---------------------------------------------------------------------------------------------------


class FakeConnection:
    """Both connections of a client; answers by hand."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, Callable[[Any], None]]] = []
        self.sent: list[Flush] = []
        self.goes_on = asyncio.Event()
        self.sending = asyncio.Event()

    def begin(self, operation: Any, told: Any) -> None:
        self.begun.append((operation, told))

    async def execute(self, operation: Any) -> Any:
        name, flush = operation
        if name == "send":
            self.sent.append(flush)
            self.sending.set()
            await self.goes_on.wait()
            return [Stored("id", 1)]
        return None

    def take(self) -> list[tuple[Any, Callable[[Any], None]]]:
        taken, self.begun = self.begun, []
        return taken


class Tasks:
    """A client whose tasks ask, and both of whose connections answer by hand."""

    def __init__(self) -> None:
        self.line = FakeConnection()
        self.destination = Destination("ask", "d", ())
        self.view = AppliedView(make_topology("shop"))

        async def open_connection() -> Any:
            return self.line

        self.requester = Requester(cast(Any, FakeBroker()), cast(Any, self.line), open_connection, self.view)

    async def open(self) -> None:
        await self.requester.open()
        self.requester._line = cast(Any, self.line)

    def ask(self, name: str, seconds: float = SECONDS) -> asyncio.Task[Any]:
        request = write_request(
            self.destination,
            {},
            self.view,
            inbox=self.requester._box.name,
            timeout_ms=5000,
            id=name,
            headers=None,
            correlation_id=None,
            now_ms=0,
        )
        addressed = cast(Request, _Addressed(request, outgoing(name)))
        due_at = asyncio.get_running_loop().time() + seconds
        asking = self.requester.ask(
            addressed, self.destination, cast(Any, None), seconds=seconds, due_at=due_at
        )
        return asyncio.create_task(asking)

    def reply_to(self, name: str) -> list[Arrived]:
        return [Arrived("1-0", Reply(self.requester._box.name, name))]


async def test_a_task_that_sends_again_shares_its_name_with_no_other_that_sends_ahead():
    tasks = Tasks()
    await tasks.open()
    line = tasks.line
    first = tasks.ask("first")
    await asyncio.sleep(0)
    (sent_first, hear_sent), (_, hear_read) = line.take()
    hear_sent(LOST)
    async with asyncio.timeout(SECONDS):
        await line.sending.wait()
    hear_read(tasks.reply_to("first"))
    second = tasks.ask("second")
    await asyncio.sleep(0)
    (sent_second, _), _ = line.take()
    assert line.sent == [sent_first[1]]
    assert sent_first[1].producer != sent_second[1].producer
    line.goes_on.set()
    assert (await first).request_id == "first"
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_lone_task_goes_on_in_the_callback_that_its_reply_comes_in_with(
    monkeypatch: pytest.MonkeyPatch,
):
    """And its time is looked after by the timer of the one before it."""
    tasks, loop, timers = Tasks(), asyncio.get_running_loop(), list[float]()
    await tasks.open()
    call_at = loop.call_at

    def count(when: float, *args: Any, **named: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **named)

    monkeypatch.setattr(loop, "call_at", count)
    for name in ("first", "second"):
        asking = tasks.ask(name)
        await asyncio.sleep(0)
        _, (_, hear_read) = tasks.line.take()
        done = loop.create_future()

        def hear(
            hear_read: Any = hear_read, name: str = name, done: Any = done, asking: Any = asking
        ) -> None:
            hear_read(tasks.reply_to(name))
            done.set_result(asking.done())

        loop.call_soon(hear)
        assert await done
        assert (await asking).request_id == name
    assert len(timers) == 1


async def test_a_lone_task_whose_reply_does_not_come_waits_no_longer_than_it_said():
    tasks = Tasks()
    await tasks.open()
    hasty = tasks.ask("hasty", seconds=0.001)
    with pytest.raises(RequestTimeoutError) as caught:
        await hasty
    assert (caught.value.message_id, tasks.requester.waiting) == ("hasty", 0)


class _Addressed:
    """A request that is addressed already."""

    def __init__(self, request: Request, sends: list[Outgoing]) -> None:
        self.id, self.target, self._sends, self.read = request.id, request.target, sends, request.read

    def address(self, destination: Destination, view: AppliedView) -> list[Outgoing]:
        return self._sends

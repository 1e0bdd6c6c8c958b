"""A request that may not have been stored is sent again under a name nobody else sends by meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from leanmq_topology.brokers.protocol import Arrived, Flush, Reply, Stale, Stored
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.requesting import Request, write_request
from leanmq_topology.client.requesting_tasks import Requester
from leanmq_topology.client.requesting_threads import SyncRequester
from leanmq_topology.errors import BrokerUnavailableError
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
            with requester.expect("second") as slot:  # as another thread would, before this one is over
                assert requester.send(slot, until, outgoing("second")) == [Stored("id", 1)]
        return [Stored("id", 1)]

    requester = SyncRequester(cast(Any, FakeBroker()), execute, lambda: cast(Any, line))
    with requester.expect("first") as slot:
        assert requester.send(slot, time.monotonic() + SECONDS, outgoing("first")) == [Stored("id", 1)]
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
    with requester.expect("first") as first, requester.expect("second") as second:
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

    def begin_all(self, begun: Any) -> None:
        self.begun += begun

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


async def test_a_task_that_sends_again_shares_its_name_with_no_other_that_sends_ahead():
    line = FakeConnection()
    view = AppliedView(make_topology("shop"))
    destination = Destination("ask", "d", ())
    view.find = lambda target: destination  # type: ignore[method-assign,assignment]

    async def open_connection() -> Any:
        return line

    requester = Requester(cast(Any, FakeBroker()), cast(Any, line), open_connection, view)
    await requester.open()
    requester._line = cast(Any, line)
    written = list[Request]()

    def ask(name: str) -> asyncio.Task[Any]:
        def write(inbox: str) -> Request:
            request = write_request(
                destination,
                {},
                inbox=inbox,
                timeout_ms=5000,
                id=name,
                headers=None,
                correlation_id=None,
                now_ms=0,
            )
            written.append(request)
            request_outgoing = outgoing(name)
            return cast(Request, _Addressed(request, request_outgoing))

        began = asyncio.get_running_loop().time()
        return asyncio.create_task(requester.ask("ask", write, cast(Any, None), seconds=SECONDS, began=began))

    first = ask("first")
    await asyncio.sleep(0)
    (sent_first, hear_sent), (_, hear_read) = line.take()
    hear_sent(LOST)
    async with asyncio.timeout(SECONDS):
        await line.sending.wait()
    hear_read([Arrived("1-0", Reply(requester._box.name, "first"))])
    second = ask("second")
    await asyncio.sleep(0)
    (sent_second, _), _ = line.take()
    assert line.sent == [sent_first[1]]
    assert sent_first[1].producer != sent_second[1].producer
    line.goes_on.set()
    assert (await first).request_id == "first"
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


class _Addressed:
    """A request that is addressed already."""

    def __init__(self, request: Request, sends: list[Outgoing]) -> None:
        self.id, self.target, self._sends, self.read = request.id, request.target, sends, request.read

    def address(self, destination: Destination, view: AppliedView) -> list[Outgoing]:
        return self._sends

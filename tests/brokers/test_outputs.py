"""What handlers send: with the acknowledgement or not at all, on real servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from leanmq_topology import Message, Retry
from leanmq_topology.brokers.redis.calls import load_script
from leanmq_topology.errors import (
    BatchTooLargeError,
    InvalidMessageError,
    LeanMQError,
    UnknownTargetError,
)
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.topology.model import Batch, FanoutRoute, OnFalse, Queue, Target, Topology
from tests.support.chaos_proxy import ChaosProxy
from tests.support.servers import Server
from tests.support.workers import (
    PATIENCE_SECONDS,
    QUICK,
    Place,
    happens,
    load,
    make_topology,
    work_queue,
    working,
)

Here = Callable[..., Place]


@pytest.fixture
def here(server: Server, namespace: str, tmp_path: Path) -> Here:
    """Applies `work`, `out`, `more` and the route `both` to the last two; options are those of `work`."""

    def apply(out: Queue | None = None, **work: Any) -> Place:
        queues = (work_queue(**work), out or Queue(name="out"), Queue(name="more"))
        place = Place(server, declare(namespace, tmp_path, *queues))
        place.apply()
        return place

    return apply


def declare(namespace: str, folder: Path, *queues: Queue, to: tuple[str, ...] = ("out", "more")) -> Topology:
    route = FanoutRoute(name="both", to=tuple(Target(queue=name) for name in sorted(to)))
    return replace(make_topology(namespace, folder, *queues), routes={"both": route})


def numbers(place: Place, queue: str) -> list[int]:
    """What lies in a queue, in order."""
    with place.link() as link:
        found = link.connection.execute(link.broker.peek(queue, count=1000))
    return [int(entry.envelope.data.split(b":")[1].rstrip(b"}")) for entry in found]


def sender(colour: str, send: Callable[[Message], Any]) -> Callable[..., Any]:
    """A handler of this colour that does this."""

    async def in_the_loop(message: Message) -> Any:
        return send(message)

    async def after_waiting(message: Message) -> Any:
        await asyncio.sleep(0)
        return send(message)

    def in_a_thread(message: Message) -> Any:
        return send(message)

    return {"async def": in_the_loop, "async def that waits": after_waiting, "def": in_a_thread}[colour]


COLOURS = pytest.mark.parametrize("colour", ["async def", "async def that waits", "def"])


@COLOURS
async def test_what_a_handler_sends_arrives_once_for_each_message_that_succeeds(here: Here, colour: str):
    place = here()

    def send(message: Message) -> None:
        message.send("out", {"n": message.data["n"]})
        message.send("both", {"n": 1000 + message.data["n"]})

    await place.send(*range(100))
    async with working(place, load(sender(colour, send))):
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], state.dead) == (100, 0)
    expected = sorted([*range(100), *range(1000, 1100)])
    assert sorted(numbers(place, "out")) == expected
    assert sorted(numbers(place, "more")) == list(range(1000, 1100))


@COLOURS
async def test_a_run_that_fails_sends_nothing_and_the_retry_sends_once(here: Here, colour: str):
    place = here()
    runs: list[int] = []

    def send(message: Message) -> None:
        runs.append(message.attempt)
        message.send("out", {"n": message.attempt})
        if message.attempt == 1:
            raise ValueError("not yet")
        if message.attempt == 2:
            raise Retry(after=0)

    await place.send(7)
    async with working(place, load(sender(colour, send))):
        await place.until_settled()
    assert (runs, numbers(place, "out")) == ([1, 2, 3], [3])


@pytest.mark.parametrize("policy", [OnFalse.DEAD_LETTER, OnFalse.RETRY, OnFalse.ACK])
async def test_a_handler_that_returns_false_sends_only_where_false_is_a_success(here: Here, policy: OnFalse):
    place = here(max_deliveries=2)

    async def handler(message: Message) -> bool:
        message.send("out", {"n": 1})
        return False

    await place.send(7)
    async with working(place, load(handler, on_false=policy, then="more")):
        await place.until_settled()
    assert numbers(place, "out") == ([1] if policy is OnFalse.ACK else [])
    assert numbers(place, "more") == []


async def test_a_message_that_is_sent_belongs_to_the_conversation_of_the_one_it_answers(here: Here):
    place = here()

    async def handler(message: Message) -> None:
        message.send("out", {"n": 1}, headers={"color": "red"}, delay=0, ttl="1h")
        message.send("more", {"n": 2}, correlation_id="own", id="mine")

    async with place.client() as client:
        sent = await client.send("work", {"n": 1}, correlation_id="c-1")
    async with working(place, load(handler)):
        await place.until_settled()
    with place.link() as link:
        [out] = link.connection.execute(link.broker.peek("out", count=9))
        [more] = link.connection.execute(link.broker.peek("more", count=9))
    assert out.envelope.headers["correlationid"] == "c-1"
    assert out.envelope.headers["causationid"] == more.envelope.headers["causationid"] == sent
    assert (out.envelope.headers["color"], out.envelope.type) == ("red", "number")
    assert out.envelope.expires_ms is not None
    assert (more.envelope.headers["correlationid"], more.envelope.id) == ("own", "mine")


@COLOURS
async def test_what_cannot_be_sent_is_refused_where_the_handler_sends_it(here: Here, colour: str):
    place = here()
    refused: list[type[LeanMQError]] = []

    def send(message: Message) -> None:
        for target, data in (("out", {"n": "one"}), ("owt", {"n": 1}), ("out", {"n": float("nan")})):
            try:
                message.send(target, data)
            except LeanMQError as failure:
                refused.append(type(failure))
        message.send("out", {"n": 1})

    await place.send(7)
    async with working(place, load(sender(colour, send))):
        await place.until_settled()
    assert refused == [InvalidMessageError, UnknownTargetError, InvalidMessageError]
    assert numbers(place, "out") == [1]


async def test_more_than_one_step_may_carry_is_a_failure_that_sends_nothing(here: Here):
    place = here(max_deliveries=1)

    async def handler(message: Message) -> None:
        for _ in range(501):
            message.send("both", {"n": 1})

    await place.send(7)
    async with working(place, load(handler)):
        await place.until_settled()
    [dead] = place.dead_letters()
    assert dead.failure.type == BatchTooLargeError.__name__
    assert numbers(place, "out") == []


async def test_a_message_sends_nothing_once_its_handler_has_ended(here: Here):
    place = here()
    kept: list[Message] = []

    async def handler(message: Message) -> None:
        message.send("out", {"n": 1})
        kept.append(message)

    await place.send(7)
    async with working(place, load(handler)):
        await place.until_settled()
    with pytest.raises(LeanMQError, match="has ended"):
        kept[0].send("out", {"n": 2})
    assert numbers(place, "out") == [1]


def test_a_message_that_nobody_handles_sends_nothing():
    with pytest.raises(LeanMQError, match="is not being handled"):
        Message("m", {}, 0.0, message_id="m").send("out", {})


# -- then -------------------------------------------------------------------------------------------------


@COLOURS
async def test_what_a_handler_returns_goes_on_to_the_target_of_then_and_none_goes_nowhere(
    here: Here, colour: str
):
    place = here()

    def give(message: Message) -> dict[str, int] | None:
        n = message.data["n"]
        return {"n": n * 10} if n % 2 else None

    await place.send(*range(10))
    async with working(place, load(sender(colour, give), then="both")):
        state = await place.until_settled()
    assert state.counters is not None
    assert state.counters["acked"] == 10
    assert sorted(numbers(place, "out")) == sorted(numbers(place, "more")) == [10, 30, 50, 70, 90]


async def test_a_value_that_its_target_refuses_makes_the_run_a_failure(here: Here):
    place = here(max_deliveries=2)

    async def handler(message: Message) -> dict[str, str]:
        message.send("more", {"n": 1})
        return {"n": "many"}

    await place.send(7)
    async with working(place, load(handler, then="out")):
        await place.until_settled()
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "InvalidMessageError")
    assert "/n" in dead.failure.message
    assert numbers(place, "out") == numbers(place, "more") == []


async def test_a_chain_of_handlers_in_one_worker_passes_a_message_on_to_its_end(here: Here):
    place = here()

    async def first(data: dict[str, int]) -> dict[str, int]:
        return {"n": data["n"] + 1}

    def second(data: dict[str, int]) -> dict[str, int]:
        return {"n": data["n"] * 2}

    await place.send(*range(50))
    async with working(place, load(first, then="out"), load(second, "out", then="more")):
        await place.until_settled()
        await place.until_settled("out")
    assert sorted(numbers(place, "more")) == [(n + 1) * 2 for n in range(50)]


async def test_each_result_of_a_batch_goes_on_with_its_own_message(here: Here):
    place = here(max_deliveries=1)

    async def handler(message: list[Message]) -> list[Any]:
        for one in message:
            one.send("more", one.data)
        return [ValueError("no") if one.data["n"] == 3 else {"n": one.data["n"] * 10} for one in message]

    await place.send(*range(10))
    async with working(place, load(handler, batch=Batch(size=5, wait_ms=10), then="out")):
        await place.until_settled()
    assert sorted(numbers(place, "out")) == [n * 10 for n in range(10) if n != 3]
    assert sorted(numbers(place, "more")) == [n for n in range(10) if n != 3]
    assert len(place.dead_letters()) == 1


# -- what gets in between ----------------------------------------------------------------------------------


async def test_a_target_that_is_full_fails_the_run_which_is_tried_again_until_there_is_room(here: Here):
    place = here(Queue(name="out", max_length=1), max_deliveries=1000, retry=QUICK)
    refused = threading.Event()

    async def handler(message: Message) -> None:
        if message.attempt > 1:
            refused.set()
        message.send("more", {"n": message.attempt})
        message.send("out", {"n": 2})

    await place.send(1, queue="out")
    await place.send(7)
    async with working(place, load(handler)):
        assert await asyncio.to_thread(refused.wait, PATIENCE_SECONDS)
        assert numbers(place, "more") == []
        place.command("XTRIM", place.key("q", "out"), "MAXLEN", 0)
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], numbers(place, "out")) == (1, [2])
    assert len(numbers(place, "more")) == 1


async def test_a_target_that_stays_full_dead_letters_the_message_with_that_reason(here: Here):
    place = here(Queue(name="out", max_length=1), max_deliveries=2)

    async def handler(message: Message) -> None:
        message.send("out", {"n": 2})

    await place.send(1, queue="out")
    await place.send(7)
    async with working(place, load(handler)):
        await place.until_settled()
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "QueueFullError")
    assert "'out'" in dead.failure.message


async def test_a_route_that_changed_while_the_handler_ran_is_followed(
    here: Here, namespace: str, tmp_path: Path
):
    place = here()
    started, applied = threading.Event(), threading.Event()

    def handler(message: Message) -> None:
        message.send("both", {"n": 1})
        started.set()
        assert applied.wait(PATIENCE_SECONDS)

    queues = work_queue(), Queue(name="out"), Queue(name="more")
    await place.send(7)
    async with working(place, load(handler)):
        assert await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
        await asyncio.to_thread(
            Place(place.server, declare(namespace, tmp_path, *queues, to=("more",))).apply
        )
        applied.set()
        await place.until_settled()
    assert (numbers(place, "out"), numbers(place, "more")) == ([], [1])


async def test_a_target_that_is_gone_by_the_end_fails_the_run(here: Here):
    place = here(max_deliveries=1)

    async def handler(message: Message) -> None:
        message.send("out", {"n": 1})
        message.send("more", {"n": 1})

    await place.send(7)
    place.command("HSET", place.key("m", "out"), "state", "retired")
    async with working(place, load(handler)):
        await place.until_settled()
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type) == (DeadReason.FAILED, "TopologyNotAppliedError")
    assert numbers(place, "more") == []


async def test_a_worker_that_lost_the_message_meanwhile_sends_nothing(
    here: Here, caplog: pytest.LogCaptureFixture
):
    place = here(visibility_timeout_ms=60_000)
    started, goes_on = asyncio.Event(), asyncio.Event()

    async def handler(message: Message) -> None:
        message.send("out", {"n": 1})
        started.set()
        await goes_on.wait()

    await place.send(7)
    async with working(place, load(handler)):
        await happens(started)
        [held] = place.command("XPENDING", place.key("q", "work"), "g", "-", "+", 1)
        place.command("XCLAIM", place.key("q", "work"), "g", "thief", 0, held[0], "JUSTID", "RETRYCOUNT", 2)
        goes_on.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "nothing it sent has left" not in caplog.text:
                await asyncio.sleep(0.01)
    assert numbers(place, "out") == []
    assert place.state().in_flight == 1


# -- what gets lost on the way ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["answers", "requests"])
async def test_what_is_sent_arrives_exactly_once_although_the_line_keeps_breaking(here: Here, lost: str):
    place = here()
    mark = load_script("ack_with_outputs").sha.encode()

    async def handler(message: Message) -> dict[str, int]:
        message.send("more", message.data)
        return message.data  # type: ignore[no-any-return]

    with ChaosProxy(place.server.socket_path) as proxy:
        broken = Place(cast(Server, SimpleNamespace(url=proxy.url)), place.topology)
        lose = proxy.lose_answers if lost == "answers" else proxy.lose_requests
        async with working(broken, load(handler, then="out")):
            for round_number in range(1, 6):
                lose(1, to=mark)
                await place.send(*range(40 * (round_number - 1), 40 * round_number))
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while proxy.lost + proxy.dropped < round_number:
                        await asyncio.sleep(0.01)  # the proxy has no way to signal what it lost
            await place.until_settled()
    assert sorted(numbers(place, "out")) == sorted(numbers(place, "more")) == list(range(200))


async def test_a_server_that_is_away_when_the_handler_ends_is_waited_for(here: Here):
    place = here()
    started, cut = asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> dict[str, int]:
        started.set()
        await cut.wait()
        return data

    await place.send(7)
    async with working(place, load(handler, then="out")):
        await happens(started)
        place.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        cut.set()
        await place.until_settled()
    assert numbers(place, "out") == [7]

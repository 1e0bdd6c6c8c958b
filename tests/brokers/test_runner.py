"""A real worker on real servers: what it runs, how often, and what becomes of it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from leanmq_topology import Discard, Message, Reject, Retry
from leanmq_topology.brokers.redis.keys import GROUP
from leanmq_topology.errors import TopologyNotAppliedError
from leanmq_topology.messages.outcome import DeadReason
from leanmq_topology.topology.model import OnExpire, OnFalse, Queue
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
    """Applies these queues on the server of this run."""

    def apply(*queues: Queue) -> Place:
        place = Place(server, make_topology(namespace, tmp_path, *queues))
        place.apply()
        return place

    return apply


class Collected:
    """Numbers that a handler got; `reached` waits for so many of them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, number: int) -> None:
        self.numbers.append(number)
        self._loop.call_soon_threadsafe(self._changed.set)

    async def reached(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.numbers) < count:
                self._changed.clear()
                await self._changed.wait()


# -- success and failure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["async def", "async def that waits", "def"])
async def test_every_message_is_handled_once_and_leaves_the_queue(here: Here, kind: str):
    place, got = here(work_queue()), Collected()

    async def at_once(data: dict[str, int]) -> None:
        got.add(data["n"])

    async def waits(data: dict[str, int]) -> None:
        await asyncio.sleep(0)
        got.add(data["n"])

    def in_a_thread(data: dict[str, int]) -> None:
        got.add(data["n"])

    handler = {"async def": at_once, "async def that waits": waits, "def": in_a_thread}[kind]
    await place.send(*range(300))
    async with working(place, load(handler)):
        await got.reached(300)
        state = await place.until_settled()
    assert sorted(got.numbers) == list(range(300))
    assert state.counters is not None
    assert (state.counters["sent"], state.counters["acked"], state.dead) == (300, 300, 0)


async def test_messages_are_started_in_the_order_they_were_sent(here: Here):
    place, got = here(work_queue()), Collected()

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    async with working(place, load(handler, concurrency=1)):
        await place.send(*range(50))
        await got.reached(50)
    assert got.numbers == list(range(50))


async def test_a_handler_gets_the_whole_message_where_it_asks_for_it(here: Here):
    place = here(work_queue())
    came: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def handler(message: Message) -> None:
        came.set_result(message)

    async with place.client() as client:
        sent = await client.send("work", {"n": 7}, headers={"color": "red"}, correlation_id="c-1")
    async with working(place, load(handler)), asyncio.timeout(PATIENCE_SECONDS):
        message = await came
    assert (message.id, message.data, message.type, message.queue) == (sent, {"n": 7}, "number", "work")
    assert (message.attempt, message.redelivered, message.correlation_id) == (1, False, "c-1")
    assert message.headers["color"] == "red"


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_a_failing_message_is_retried_with_growing_delay_and_ends_dead(here: Here, asynchronous: bool):
    place, times = here(work_queue(max_deliveries=4, retry=replace(QUICK, delay_ms=60))), []

    def fails(message: Message) -> None:
        times.append((message.attempt, time.monotonic()))
        raise LookupError(f"no card {message.data['n']}")

    async def fails_in_the_loop(message: Message) -> None:
        fails(message)

    await place.send(5)
    async with working(place, load(fails_in_the_loop if asynchronous else fails)):
        await place.until(lambda state: state.dead == 1)
        state = await place.until_settled()
    assert [attempt for attempt, _ in times] == [1, 2, 3, 4]
    gaps = [later - earlier for (_, earlier), (_, later) in pairwise(times)]
    assert gaps[0] >= 0.06
    assert gaps[1] >= 0.12
    assert gaps[2] >= 0.2
    [dead] = place.dead_letters()
    assert (dead.reason, dead.failure.type, dead.failure.message) == (
        DeadReason.FAILED,
        "LookupError",
        "no card 5",
    )
    assert (dead.envelope.attempt, dead.envelope.data) == (4, b'{"n":5}')
    assert state.counters is not None
    assert (state.counters["retried"], state.counters["dead_lettered"]) == (3, 1)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_message_is_run_exactly_as_often_as_its_limit_says(here: Here, limit: int):
    place, got = here(work_queue(max_deliveries=limit)), Collected()

    async def fails(data: dict[str, int]) -> None:
        got.add(data["n"])
        raise ValueError

    await place.send(*range(10))
    async with working(place, load(fails)):
        await place.until(lambda state: state.dead == 10)
    assert sorted(got.numbers) == sorted(list(range(10)) * limit)


async def raises_reject(data: Any) -> None:
    raise Reject("never")


async def raises_discard(data: Any) -> None:
    raise Discard("not wanted")


async def returns_false(data: Any) -> bool:
    return False


async def exits(data: Any) -> None:
    raise SystemExit(1)


async def cancels_its_task(data: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


def gives_a_coroutine(data: Any) -> Any:
    return raises_reject(data)


FATES = {
    "Reject": (raises_reject, {}, DeadReason.REJECTED, "Reject"),
    "Discard": (raises_discard, {}, None, None),
    "False": (returns_false, {}, DeadReason.FAILED, "False"),
    "False that acknowledges": (returns_false, {"on_false": OnFalse.ACK}, None, None),
    "False that retries": (returns_false, {"on_false": OnFalse.RETRY}, DeadReason.FAILED, "False"),
    "sys.exit()": (exits, {}, DeadReason.FAILED, "SystemExit"),
    "a handler that cancels itself": (cancels_its_task, {}, DeadReason.FAILED, "CancelledError"),
    "a def that returns a coroutine": (gives_a_coroutine, {}, DeadReason.FAILED, "TypeError"),
}


@pytest.mark.parametrize(("handler", "declared", "reason", "error"), FATES.values(), ids=FATES)
async def test_what_a_handler_returns_or_raises_decides(
    here: Here, handler: Any, declared: dict[str, Any], reason: DeadReason | None, error: str | None
):
    place = here(work_queue(max_deliveries=2))
    await place.send(1, 2)
    async with working(place, load(handler, **declared)):
        await place.until_settled()
    assert [(dead.reason, dead.failure.type) for dead in place.dead_letters()] == [(reason, error)] * (
        2 if reason else 0
    )


async def test_a_handler_may_say_when_to_try_again(here: Here):
    place, times = here(work_queue(retry=replace(QUICK, delay_ms=60_000))), []
    done = asyncio.Event()

    async def handler(message: Message) -> None:
        times.append(time.monotonic())
        if message.attempt == 1:
            raise Retry(after=0.05)
        done.set()

    await place.send(1)
    async with working(place, load(handler)):
        await happens(done)
    assert times[1] - times[0] >= 0.05


# -- what never starts -----------------------------------------------------------------------------------


async def test_a_message_that_breaks_its_schema_on_arrival_is_dead_lettered_whole(here: Here):
    place, got = here(work_queue()), Collected()

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    common = {"headers": "", "attempt": "0", "expires": ""}
    place.add_raw(id="a", type="number", data='{"n": "many"}', **common)
    place.add_raw(id="b", type="other", data='{"n": 1}', **common)
    place.add_raw(id="c", type="number", data="{", **common)
    place.add_raw(hello="world")
    await place.send(1)
    async with working(place, load(handler)):
        await place.until(lambda state: state.dead == 4)
    assert got.numbers == [1]
    first, second, third = place.dead_letters()
    assert (first.reason, first.envelope.data) == (DeadReason.INVALID, b'{"n": "many"}')
    assert "/n" in first.failure.message
    assert (second.reason, "accepts number" in second.failure.message) == (DeadReason.INVALID, True)
    assert (third.reason, third.envelope.data) == (DeadReason.UNDECODABLE, b"{")
    foreign = place.command("XREVRANGE", place.key("d", "work"), "+", "-", "COUNT", 10)
    kept = [fields for _, fields in foreign if b"hello" in fields]
    assert len(kept) == 1
    assert b"undecodable" in kept[0]


@pytest.mark.parametrize("on_expire", list(OnExpire))
async def test_an_expired_message_is_never_started(here: Here, on_expire: OnExpire):
    place, got = here(work_queue(on_expire=on_expire)), Collected()

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    common = {"type": "number", "headers": "", "attempt": "0"}
    place.add_raw(id="late", data='{"n": 1}', expires="1000", **common)
    place.add_raw(id="early", data='{"n": 2}', expires="9999999999999", **common)
    async with working(place, load(handler)):
        await got.reached(1)
        state = await place.until_settled()
    assert got.numbers == [2]
    reasons = [dead.reason for dead in place.dead_letters()]
    assert reasons == ([DeadReason.EXPIRED] if on_expire is OnExpire.DEAD_LETTER else [])
    assert state.counters is not None
    assert state.counters["acked"] == 1


async def test_a_delayed_message_is_not_early_and_hardly_late(here: Here):
    place = here(work_queue())
    came: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def handler(data: Any) -> None:
        came.set_result(time.monotonic())

    async with working(place, load(handler)):
        sent_at = time.monotonic()
        async with place.client() as client:
            await client.send("work", {"n": 1}, delay=0.3)
        async with asyncio.timeout(PATIENCE_SECONDS):
            waited = await came - sent_at
    assert waited >= 0.3
    assert waited < 10  # 250 ms late at most on an idle machine; test runs share theirs


# -- several at once -------------------------------------------------------------------------------------


async def test_def_handlers_run_concurrently(here: Here):
    place = here(work_queue())
    meeting = threading.Barrier(3, timeout=PATIENCE_SECONDS)

    def handler(data: Any) -> None:
        meeting.wait()  # breaks, and fails, unless three are here at once

    await place.send(1, 2, 3)
    async with working(place, load(handler, concurrency=3)):
        state = await place.until_settled()
    assert state.counters is not None
    assert (state.counters["acked"], state.counters["retried"]) == (3, 0)


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_no_more_than_concurrency_run_at_once(here: Here, asynchronous: bool):
    place, got = here(work_queue()), Collected()
    running, most, lock = 0, 0, threading.Lock()

    def count(change: int) -> None:
        nonlocal running, most
        with lock:
            running += change
            most = max(most, running)

    async def in_the_loop(data: dict[str, int]) -> None:
        count(1)
        for _ in range(3):
            await asyncio.sleep(0)
        count(-1)
        got.add(data["n"])

    def in_a_thread(data: dict[str, int]) -> None:
        count(1)
        time.sleep(0.001)  # stands for work
        count(-1)
        got.add(data["n"])

    await place.send(*range(60))
    async with working(place, load(in_the_loop if asynchronous else in_a_thread, concurrency=3)):
        await got.reached(60)
    assert 1 < most <= 3


async def test_a_queue_whose_handler_is_stuck_does_not_hold_up_another(here: Here):
    place = here(work_queue(), Queue(name="slow", retry=QUICK))
    got, release = Collected(), asyncio.Event()

    async def stuck(data: Any) -> None:
        await release.wait()

    async def quick(data: dict[str, int]) -> None:
        got.add(data["n"])

    await place.send(*range(20), queue="slow")
    async with working(place, load(stuck, "slow", concurrency=1), load(quick)):
        await place.until(lambda state: state.in_flight == 1, "slow")
        await place.send(*range(200))
        await got.reached(200)
        release.set()
        await place.until_settled("slow")


async def test_a_queue_that_was_full_is_read_again_as_soon_as_it_has_room(
    here: Here, monkeypatch: pytest.MonkeyPatch
):
    """A read that waits for the idle queue would take longer than this test has patience."""
    monkeypatch.setattr("leanmq_topology.runner.reader.BLOCK_MS", 3_600_000)
    place = here(work_queue(), Queue(name="idle", retry=QUICK))
    got, steps = Collected(), asyncio.Semaphore(0)

    async def stepped(data: dict[str, int]) -> None:
        await steps.acquire()
        got.add(data["n"])

    async def idle(data: Any) -> None:
        pass

    async with working(place, load(stepped, concurrency=1), load(idle, "idle")):
        await place.send(*range(10))
        await place.until(lambda state: state.in_flight == 1)
        for _ in range(10):
            steps.release()
        await got.reached(10)


async def test_a_set_prefetch_caps_what_is_held(here: Here):
    place, release = here(work_queue()), asyncio.Event()

    async def stuck(data: Any) -> None:
        await release.wait()

    await place.send(*range(50))
    async with working(place, load(stuck, concurrency=2, prefetch=5)):
        state = await place.until(lambda state: state.in_flight == 5)
        assert state.ready == 45
        release.set()
        await place.until_settled()


async def test_what_is_taken_over_while_a_read_waits_counts_towards_a_set_prefetch(here: Here):
    place, release = here(work_queue(visibility_timeout_ms=1000), Queue(name="idle")), asyncio.Event()
    handled = asyncio.Event()

    async def stuck(data: Any) -> None:
        await release.wait()

    async def idle(data: Any) -> None:
        handled.set()

    await place.send(1, 2, 3, 4)
    place.command("XREADGROUP", "GROUP", GROUP, "gone", "STREAMS", place.key("q", "work"), ">")
    async with working(place, load(stuck, concurrency=1, prefetch=2), load(idle, "idle")) as running:
        lane = running.worker._lanes["work"]
        await place.until(lambda state: len(lane.held) == 2)
        await place.send(5, 6)
        await place.send(0, queue="idle")
        await happens(handled)
        assert (len(lane.held), place.state().ready) == (2, 2)
        release.set()
        await place.until_settled()


# -- stopping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_stopping_lets_what_runs_end_and_hands_the_rest_back_uncounted(here: Here, asynchronous: bool):
    place, got = here(work_queue()), Collected()
    release = threading.Event()

    def in_a_thread(message: Message) -> None:
        got.add(message.data["n"])
        assert release.wait(PATIENCE_SECONDS)

    async def in_the_loop(message: Message) -> None:
        got.add(message.data["n"])
        await asyncio.to_thread(release.wait, PATIENCE_SECONDS)

    await place.send(*range(10))
    handler = load(in_the_loop if asynchronous else in_a_thread, concurrency=2, prefetch=8)
    async with working(place, handler) as first:
        await place.until(lambda state: state.in_flight == 8)
        await got.reached(2)
        stopping = asyncio.create_task(first.stop())
        attempts: dict[int, int] = {}

        async def note(message: Message) -> None:
            attempts[message.data["n"]] = message.attempt

        async with working(place, load(note)):
            await place.until(lambda state: state.in_flight == 2)  # all but the two that run, at once
            assert not stopping.done()
            release.set()
            ended = await stopping
            await place.until_settled()
    assert ended.clean
    assert sorted(got.numbers + list(attempts)) == list(range(10))
    assert set(attempts.values()) == {1}
    assert place.state().consumers == 0


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_what_does_not_end_in_time_is_due_again_with_its_run_counted(here: Here, asynchronous: bool):
    place, started, forever = here(work_queue()), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def hangs(data: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    def hangs_in_a_thread(data: Any) -> None:
        loop.call_soon_threadsafe(started.set)
        forever.wait(PATIENCE_SECONDS)

    await place.send(1)
    async with working(
        place, load(hangs if asynchronous else hangs_in_a_thread), drain_seconds=0.05
    ) as running:
        await happens(started)
        ended = await running.stop()
    assert not ended.clean
    came: asyncio.Future[int] = loop.create_future()

    async def note(message: Message) -> None:
        came.set_result(message.attempt)

    async with working(place, load(note)), asyncio.timeout(PATIENCE_SECONDS):
        assert await came == 2
    forever.set()


async def test_a_worker_that_ended_leaves_no_heartbeat_and_no_name(here: Here):
    place = here(work_queue())

    async def handler(data: Any) -> None: ...

    with place.link() as link:
        async with working(place, load(handler)) as running:
            [name] = link.connection.execute(link.broker.list_consumers(["work"])) or [running.worker.name]
            [worker] = link.connection.execute(link.broker.inspect_workers([name]))
            assert worker.facts["handlers"] == "on-work"
            assert len(worker.name) <= 12
        assert link.connection.execute(link.broker.list_consumers(["work"])) == []
        assert link.connection.execute(link.broker.inspect_workers([name])) == []


# -- leases ----------------------------------------------------------------------------------------------


async def test_a_handler_that_blocks_the_event_loop_keeps_its_lease(here: Here):
    place, got = here(work_queue(visibility_timeout_ms=2000)), Collected()

    async def blocks(data: dict[str, int]) -> None:
        got.add(data["n"])
        other.start()
        time.sleep(5)  # the point: nothing else of this loop runs for more than two leases

    other = threading.Thread(target=asyncio.run, args=(_work_elsewhere(place, got, until=5.5),))
    async with working(place, load(blocks)):
        await place.send(1)
        state = await place.until_settled()
    await asyncio.to_thread(other.join)
    assert got.numbers == [1]
    assert state.counters is not None
    assert state.counters["acked"] == 1


async def _work_elsewhere(place: Place, got: Collected, *, until: float) -> None:
    """Another worker, in a loop of its own, that would take the message if its lease lapsed."""

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"] + 1000)

    async with working(place, load(handler)):
        await asyncio.sleep(until)


async def test_a_message_whose_worker_vanished_is_run_by_another(here: Here):
    place, got = here(work_queue(visibility_timeout_ms=400)), Collected()
    await place.send(7)
    place.command("XREADGROUP", "GROUP", "g", "vanished", "STREAMS", place.key("q", "work"), ">")

    async def handler(message: Message) -> None:
        got.add(message.attempt)

    async with working(place, load(handler)):
        await got.reached(1)
    assert got.numbers == [2]  # the lapsed lease counts as a delivery


async def test_lapsed_leases_count_towards_the_limit(here: Here):
    place, got = here(work_queue(visibility_timeout_ms=300, max_deliveries=1)), Collected()
    await place.send(7)
    place.command("XREADGROUP", "GROUP", "g", "vanished", "STREAMS", place.key("q", "work"), ">")

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    async with working(place, load(handler)):
        await place.until(lambda state: state.dead == 1)
    assert got.numbers == []


async def test_messages_of_an_answer_that_was_lost_are_found_again(here: Here):
    place, got = here(work_queue()), Collected()

    async def handler(message: Message) -> None:
        got.add(message.attempt)

    async with working(place, load(handler)) as running:
        reader = running.worker._reader
        assert reader is not None
        # What a reader would have got, had its connection not gone down with the answer.
        paused = place.key("q", "work")
        await place.send(1, delay=3600)  # keeps the worker's own reader from being faster
        entry = [
            "id",
            "x",
            "type",
            "number",
            "data",
            '{"n": 1}',
            "headers",
            "",
            "attempt",
            "0",
            "expires",
            "",
        ]
        script = (
            "redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) "
            "return redis.call('XREADGROUP', 'GROUP', 'g', ARGV[1], 'STREAMS', KEYS[1], '>')"
        )
        place.command("EVAL", script, 1, paused, running.worker.name, *entry)
        place.command("CLIENT", "KILL", "ID", reader._connection.connection_id)
        await got.reached(1)
    assert got.numbers == [1]  # never run before, so its first attempt; and long before its lease of 30 s


# -- the topology ----------------------------------------------------------------------------------------


async def test_a_topology_that_was_never_applied_is_refused_and_nothing_is_written(
    server: Server, namespace: str, tmp_path: Path
):
    place = Place(server, make_topology(namespace, tmp_path, work_queue()))

    async def handler(data: Any) -> None: ...

    with pytest.raises(TopologyNotAppliedError):
        async with working(place, load(handler)):
            pass
    assert place.command("KEYS", f"{{{namespace}}}*") == []


async def test_a_queue_that_was_never_applied_is_named(here: Here):
    place = here(work_queue())
    more = replace(place.topology, queues={**place.topology.queues, "more": Queue(name="more")})

    async def handler(data: Any) -> None: ...

    with pytest.raises(TopologyNotAppliedError) as caught:
        async with working(Place(place.server, more), load(handler, "more")):
            pass
    assert caught.value.missing == ("queues.more",)


async def test_limits_follow_what_is_applied_while_the_worker_runs(
    here: Here, caplog: pytest.LogCaptureFixture
):
    place, got = here(work_queue(max_deliveries=1000, retry=replace(QUICK, max_delay_ms=30))), Collected()

    async def fails(message: Message) -> None:
        got.add(message.attempt)
        raise ValueError

    await place.send(1)
    async with working(place, load(fails)):
        await got.reached(2)
        changed = replace(place.topology.queues["work"], max_deliveries=3)
        Place(place.server, replace(place.topology, queues={"work": changed})).apply()
        await place.until(lambda state: state.dead == 1)
    assert got.numbers[-1] < 1000


async def test_a_queue_that_is_deleted_by_hand_does_not_stop_the_others(here: Here):
    place, got = here(work_queue(), Queue(name="gone", retry=QUICK)), Collected()

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    async with working(place, load(handler), load(handler, "gone")):
        place.command("DEL", place.key("q", "gone"))
        await place.send(1, 2, 3)
        await got.reached(3)
        await place.until_settled()


async def test_a_lost_connection_is_made_up_for_while_a_queue_is_gone(here: Here):
    place, got = here(work_queue(), Queue(name="gone", retry=QUICK)), Collected()

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    async with working(place, load(handler, "gone"), load(handler)) as running:
        reader = running.worker._reader
        assert reader is not None
        place.command("DEL", place.key("q", "gone"))
        place.command("CLIENT", "KILL", "ID", reader._connection.connection_id)
        await place.send(1, 2, 3)
        await got.reached(3)
        await place.until_settled()


async def test_a_worker_in_which_a_part_fails_leaves_no_handler_running(
    here: Here, monkeypatch: pytest.MonkeyPatch
):
    place, started, ended = here(work_queue()), asyncio.Event(), asyncio.Event()

    async def handler(data: dict[str, int]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def stumble() -> float:
        raise KeyError("a mistake of ours")

    before = asyncio.all_tasks()
    await place.send(1)
    async with working(place, load(handler)) as running:
        await happens(started)
        monkeypatch.setattr(running.worker._upkeep, "_rest", stumble)
        with pytest.raises(KeyError, match="a mistake of ours"):
            await running.task
    assert ended.is_set()
    assert asyncio.all_tasks() == before


# -- the client in a handler -----------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async def", "def"])
async def test_a_handler_sends_with_the_client_it_asked_for(here: Here, asynchronous: bool):
    place, got = here(work_queue(), Queue(name="next", retry=QUICK)), Collected()

    async def in_the_loop(data: dict[str, int], mq: Any) -> None:
        await mq.send("next", {"n": data["n"] + 100})

    def in_a_thread(data: dict[str, int], mq: Any) -> None:
        mq.send("next", {"n": data["n"] + 100})

    async def handler(data: dict[str, int]) -> None:
        got.add(data["n"])

    await place.send(1, 2, 3)
    async with working(place, load(in_the_loop if asynchronous else in_a_thread), load(handler, "next")):
        await got.reached(3)
        await place.until_settled("next")
    assert sorted(got.numbers) == [101, 102, 103]

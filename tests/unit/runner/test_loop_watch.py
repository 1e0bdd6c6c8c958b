"""A loop that has stopped turning, and who is to blame."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.runner import loop_watch
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.loop_crew import LoopCrew
from leanmq_topology.runner.loop_watch import LoopWatch
from leanmq_topology.runner.pipeline import Pipeline, Verdict
from leanmq_topology.runner.thread_crew import ThreadCrew
from leanmq_topology.topology.model import OnFalse, Queue

PATIENCE_SECONDS = 30
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Looks often, so that no test takes long."""
    monkeypatch.setattr(loop_watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(loop_watch, "STALL_SECONDS", 0.2)
    with caplog.at_level(logging.INFO, "leanmq.runner"):
        yield


async def run(crew_kind: Callable[..., Any], handler: Callable[[Any], Any], *numbers: int) -> None:
    """These messages through a crew of this kind."""
    left, over = len(numbers), asyncio.Event()

    def finish(message: Incoming, verdict: Verdict) -> None:
        nonlocal left
        left -= 1
        if not left:
            over.set()

    crew = crew_kind("charge", 2, finish, finish, limit_seconds=60, stuck=pytest.fail)
    pipeline = Pipeline(Queue(name="work"), OnFalse.ACK, lambda offer, client: handler(offer), ())
    messages = [
        Incoming(Delivered("work", f"{n}-0", Envelope(f"m-{n}", "order", b"{}")), time.monotonic() + 60)
        for n in numbers
    ]
    crew.give(messages, pipeline)
    crew.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await over.wait()
    await crew.abort(1)


def wait_for(holds: Callable[[], bool]) -> None:
    """Block the calling thread, not waiting for the loop, until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def test_a_handler_that_blocks_the_loop_is_named_with_its_message_and_its_line(
    caplog: pytest.LogCaptureFixture,
):
    async def handler(message: Incoming) -> None:
        wait_for(lambda: "blocked the event loop" in caplog.text)

    watch = LoopWatch(HERE)
    watch.start()
    await run(LoopCrew, handler, 7)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "turns again" not in caplog.text:
            await asyncio.sleep(0.01)
    watch.stop()
    blocked, free = [record for record in caplog.records if record.name == "leanmq.runner"]
    text = blocked.getMessage()
    assert text.startswith("handler charge with order m-7, at test_loop_watch.py:")
    assert "leases are kept" in text
    assert (blocked.levelname, getattr(blocked, "event", "")) == ("WARNING", "loop_blocked")
    assert (free.levelname, getattr(free, "handler", "")) == ("INFO", "charge")


async def test_it_is_named_as_well_when_it_blocks_only_after_it_has_waited(caplog: pytest.LogCaptureFixture):
    async def handler(message: Incoming) -> None:
        await asyncio.sleep(0.01)
        wait_for(lambda: "blocked the event loop" in caplog.text)

    watch = LoopWatch(HERE)
    watch.start()
    await run(LoopCrew, handler, 1)
    watch.stop()
    assert "handler charge with order m-1" in caplog.text


async def test_one_that_waits_or_works_in_a_thread_is_not_blamed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loop_watch, "_BUSY", 0.9)  # a busy machine is not to be taken for a held lock

    async def waits(message: Incoming) -> None:
        await asyncio.sleep(0.5)

    def works(message: Incoming) -> None:
        time.sleep(0.5)

    watch = LoopWatch(HERE)
    watch.start()
    await run(LoopCrew, waits, 1)
    await run(ThreadCrew, works, 1)
    watch.stop()
    assert "handler charge" not in caplog.text


@pytest.mark.parametrize("kind", [LoopCrew, ThreadCrew])
async def test_whoever_holds_the_lock_of_the_interpreter_is_named_once_it_is_free(
    kind: Any, caplog: pytest.LogCaptureFixture
):
    def hold() -> None:
        started = time.monotonic()
        sum(range(1_000_000))
        once = max(time.monotonic() - started, 0.001)
        sum(range(int(1_000_000 * 0.6 / once)))  # so long in C, without a chance for anybody else

    def told() -> bool:
        return "held Python's lock" in caplog.text

    def in_a_thread(message: Incoming) -> None:
        for _ in range(10):
            hold()
            for _ in range(50):
                if told():
                    return
                time.sleep(0.01)  # lets the watch look

    async def in_the_loop(message: Incoming) -> None:
        in_a_thread(message)

    watch = LoopWatch(HERE)
    watch.start()
    await run(kind, in_the_loop if kind is LoopCrew else in_a_thread, 3)
    watch.stop()
    assert "held Python's lock" in caplog.text
    assert "messages may run twice" in caplog.text


async def test_the_watch_ends_with_its_worker():
    watch = LoopWatch(HERE)
    watch.start()
    watch.stop()
    await asyncio.to_thread(watch._thread.join, PATIENCE_SECONDS)
    assert not watch._thread.is_alive()
    assert threading.active_count() >= 1

"""Batches: how messages come together, and what becomes of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import (
    DeadReason,
    Discard,
    Done,
    Dropped,
    MoveToDeadLetters,
    Outcome,
    Reject,
    Retry,
    RetryLater,
)
from leanmq_topology.runner.batches import BatchCrew, read_results
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.loop_crew import LoopCrew
from leanmq_topology.runner.pipeline import SUCCEEDED, Pipeline, Verdict
from leanmq_topology.runner.thread_crew import ThreadCrew
from leanmq_topology.topology.model import OnFalse, Queue

Handler = Callable[[list[int]], Any]


@pytest.mark.parametrize("value", [None, False])
def test_one_answer_may_stand_for_all(value: object):
    assert read_results(value, 3) == [value] * 3


@pytest.mark.parametrize("value", [[1, False, ValueError], (1, 2), [], {"a": 1}, True, "abc", 3])
def test_what_is_neither_nothing_nor_one_result_a_message_is_an_error(value: object):
    problem = read_results(value, 3)
    assert isinstance(problem, TypeError)
    assert "one result for each of its 3 messages" in str(problem)


def test_results_keep_their_order():
    results = [None, False, ValueError("no")]
    assert read_results(results, 3) == results
    assert read_results(tuple(results), 3) == results


class Shift:
    """A batch crew at work on a handler, and what became of its messages."""

    def __init__(
        self,
        handler: Handler,
        *,
        size: int = 3,
        wait_seconds: float = 0.0,
        concurrency: int = 1,
        threads: bool = False,
        limit_seconds: float = 60,
    ) -> None:
        self.finished: dict[int, Verdict] = {}
        self.forgotten: list[int] = []
        self.stuck: list[str] = []
        self._changed = asyncio.Event()
        self._kind: Any = ThreadCrew if threads else LoopCrew
        self._rules = {"limit_seconds": limit_seconds, "stuck": self.stuck.append}
        self._concurrency = concurrency
        self.crew = BatchCrew(
            size, wait_seconds, concurrency, self._hire, self._finish, self._forget, self._succeed
        )
        self.pipeline = self.make_pipeline(handler)

    def make_pipeline(self, handler: Handler, *gates: Any) -> Pipeline:
        return Pipeline(Queue(name="work"), OnFalse.DEAD_LETTER, lambda offer, _: handler(offer.data), gates)

    def _hire(self, finish: Any, forget: Any) -> Any:
        return self._kind("mail", self._concurrency, finish, forget, **self._rules)

    def _finish(self, message: Incoming, verdict: Verdict) -> None:
        assert message.data not in self.finished
        self.finished[message.data] = verdict
        self._changed.set()

    def _succeed(self, messages: Sequence[Incoming], seconds: float) -> None:
        for message in messages:
            self._finish(message, SUCCEEDED)

    def _forget(self, message: Incoming) -> None:
        self.forgotten.append(message.data)
        self._changed.set()

    def give(self, *numbers: int, lease_seconds: float = 60, pipeline: Pipeline | None = None) -> None:
        messages = []
        for number in numbers:
            delivered = Delivered("work", f"{number}-0", Envelope(str(number), "t", b"{}"))
            message = Incoming(delivered, time.monotonic() + lease_seconds)
            message.data = number
            messages.append(message)
        self.crew.give(messages, pipeline or self.pipeline)
        self.crew.start()

    async def until_over(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.finished) + len(self.forgotten) < count:
                self._changed.clear()
                await self._changed.wait()

    def outcomes(self) -> list[Outcome]:
        return [self.finished[number].outcome for number in sorted(self.finished)]


class Noted:
    """A handler that notes its batches and answers with a function of them."""

    def __init__(self, answer: Callable[[list[int]], Any] = lambda numbers: None) -> None:
        self.batches: list[list[int]] = []
        self._answer = answer

    async def in_the_loop(self, numbers: list[int]) -> Any:
        return self.in_a_thread(numbers)

    def in_a_thread(self, numbers: list[int]) -> Any:
        self.batches.append(numbers)
        return self._answer(numbers)

    def handler(self, threads: bool) -> Handler:
        return self.in_a_thread if threads else self.in_the_loop


both = pytest.mark.parametrize("threads", [False, True], ids=["async def", "def"])


@both
async def test_a_full_batch_starts_at_once_and_the_rest_when_its_first_has_waited(threads: bool):
    noted = Noted()
    shift = Shift(noted.handler(threads), wait_seconds=0.05, threads=threads)
    shift.give(0, 1)
    shift.give(2, 3)
    await shift.until_over(3)
    assert noted.batches == [[0, 1, 2]]
    await shift.until_over(4)
    assert noted.batches == [[0, 1, 2], [3]]
    assert shift.outcomes() == [Done()] * 4


async def test_what_comes_while_all_are_busy_fills_the_next_batch():
    release, sizes = asyncio.Event(), []

    async def handler(numbers: list[int]) -> None:
        sizes.append(len(numbers))
        await release.wait()

    shift = Shift(handler, size=10)
    shift.give(0)
    for number in range(1, 8):
        shift.give(number)
    assert shift.crew.running == 1
    release.set()
    await shift.until_over(8)
    assert sizes == [1, 7]


async def test_no_more_batches_run_than_concurrency_says():
    release, most, running = asyncio.Event(), 0, 0

    async def handler(numbers: list[int]) -> None:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await release.wait()
        running -= 1

    shift = Shift(handler, size=2, concurrency=3)
    shift.give(*range(20))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (most, shift.crew.running, shift.crew.unstarted) == (3, 6, 14)
    release.set()
    await shift.until_over(20)
    assert most == 3


@both
async def test_each_message_has_the_fate_of_its_own_result(threads: bool):
    results = [None, False, Retry("later", after=1), Reject("bad"), Discard("old"), ValueError("no"), "x"]
    noted = Noted(lambda numbers: results)
    shift = Shift(noted.handler(threads), size=len(results), threads=threads)
    shift.give(*range(len(results)))
    await shift.until_over(len(results))
    outcomes = shift.outcomes()
    kinds = [Done, MoveToDeadLetters, RetryLater, MoveToDeadLetters, Dropped, RetryLater, Done]
    assert [type(outcome) for outcome in outcomes] == kinds
    reasons = [o.reason for o in outcomes if isinstance(o, MoveToDeadLetters)]
    assert reasons == [DeadReason.FAILED, DeadReason.REJECTED]
    assert isinstance(outcomes[2], RetryLater)
    assert outcomes[2].delay_ms == 1000


@both
@pytest.mark.parametrize("answer", [lambda numbers: [None], lambda numbers: 1 / 0], ids=["too few", "raised"])
async def test_an_error_of_the_batch_is_an_error_of_every_message(threads: bool, answer: Any):
    shift = Shift(Noted(answer).handler(threads), threads=threads)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    assert [type(outcome) for outcome in shift.outcomes()] == [RetryLater] * 3
    assert all(verdict.raised is not None for verdict in shift.finished.values())


async def test_what_must_not_run_is_sorted_out_and_the_rest_runs():
    noted = Noted()
    refusal = MoveToDeadLetters(DeadReason.INVALID, None)  # type: ignore[arg-type]

    def refuse_odd(message: Incoming) -> Outcome | None:
        return refusal if message.data % 2 else None

    shift = Shift(noted.in_the_loop, size=4)
    pipeline = shift.make_pipeline(noted.in_the_loop, refuse_odd)
    shift.give(0, 1, 2, pipeline=pipeline)
    await shift.until_over(3)
    assert noted.batches == [[0, 2]]
    assert shift.outcomes() == [Done(), refusal, Done()]
    shift.give(3, 5, pipeline=pipeline)
    await shift.until_over(5)
    assert noted.batches == [[0, 2]]


async def test_a_message_whose_lease_lapsed_while_it_waited_is_left_out_and_forgotten():
    noted = Noted()
    shift = Shift(noted.in_the_loop, wait_seconds=0.05)
    shift.give(0, lease_seconds=-1)
    shift.give(1)
    await shift.until_over(2)
    assert (noted.batches, shift.forgotten) == ([[1]], [0])


async def test_a_batch_goes_by_one_set_of_rules():
    noted = Noted()
    shift = Shift(noted.in_the_loop, size=3)
    release = asyncio.Event()

    async def wait(numbers: list[int]) -> None:
        await release.wait()

    shift.give(9, pipeline=shift.make_pipeline(wait))
    shift.give(0)
    shift.give(1, pipeline=shift.make_pipeline(noted.in_the_loop))
    release.set()
    await shift.until_over(3)
    assert noted.batches == [[0], [1]]


@both
async def test_what_has_not_started_can_be_taken_back(threads: bool):
    noted = Noted()
    shift = Shift(noted.handler(threads), wait_seconds=3600, threads=threads)
    shift.give(0, 1)
    assert [message.data for message in shift.crew.take_back()] == [0, 1]
    shift.give(2, 3, 4)
    await shift.until_over(3)
    assert noted.batches == [[2, 3, 4]]
    await shift.crew.abort(1)


async def test_an_aborted_batch_is_due_again_at_once():
    started = asyncio.Event()

    async def handler(numbers: list[int]) -> None:
        started.set()
        await asyncio.Event().wait()

    shift = Shift(handler)
    shift.give(0, 1, 2)
    await started.wait()
    await shift.crew.abort(1)
    assert [o.delay_ms for o in shift.outcomes() if isinstance(o, RetryLater)] == [0, 0, 0]
    assert shift.crew.running == 0


async def test_a_batch_that_takes_too_long_has_failed_as_a_whole():
    async def handler(numbers: list[int]) -> None:
        await asyncio.Event().wait()

    shift = Shift(handler, limit_seconds=0.02)
    shift.give(0, 1, 2)
    await shift.until_over(3)
    assert {type(verdict.raised) for verdict in shift.finished.values()} == {TimeoutError}


async def test_all_of_a_batch_is_finished_in_one_turn_of_the_loop():
    turns: dict[int, int] = {}
    turn = 0

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def handler(numbers: list[int]) -> Any:
        await asyncio.sleep(0)
        return [None, False, None, False, None]

    counting: asyncio.Task[None] = asyncio.create_task(count())
    shift = Shift(handler, size=5)
    finish, succeed = shift.crew._finish_one, shift.crew._succeed

    def note_finished(message: Incoming, verdict: Verdict) -> None:
        turns[message.data] = turn
        finish(message, verdict)

    def note_succeeded(messages: Sequence[Incoming], seconds: float) -> None:
        turns.update((message.data, turn) for message in messages)
        succeed(messages, seconds)

    shift.crew._finish_one, shift.crew._succeed = note_finished, note_succeeded  # type: ignore[method-assign]
    shift.give(*range(5))
    await shift.until_over(5)
    counting.cancel()
    assert len(set(turns.values())) == 1

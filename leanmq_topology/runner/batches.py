"""Several messages run by one call of a batch handler, each with an outcome of its own.

Messages gather until a batch is full or its first one has waited long enough, and then only if a member of
the crew is free: while all are busy, what comes makes the next batches fuller.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from leanmq_topology.runner.binding import Invoke
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import SUCCEEDED, Pipeline, Steps, Verdict

Judged = tuple[Incoming, Verdict | None]
"""What becomes of a message. None: its lease lapsed before it could start."""


class Verdicts(NamedTuple):
    """What becomes of each message of a batch."""

    succeeded: list[Incoming]
    """Of these there is nothing more to be said."""
    others: list[Judged]


class Batch:
    """Messages that are run together. It is what batch handlers are offered (`data`, `message`: lists)."""

    __slots__ = ("judged", "messages", "started_at")

    lost, lease_ends = False, math.inf  # each message is judged by itself, when the batch is admitted

    def __init__(self, messages: list[Incoming]) -> None:
        self.messages = messages
        """Those the handler gets, once the batch was admitted."""
        self.judged: list[Judged] = []
        """Those it does not get."""
        self.started_at: float | None = None

    @property
    def data(self) -> list[Any]:
        return [message.data for message in self.messages]

    @property
    def message(self) -> list[Any]:
        return [message.message for message in self.messages]

    def is_ours(self, now: float) -> bool:
        return True

    def stop_renewal(self) -> None:
        for message in self.messages:
            message.stop_renewal()


class BatchSteps(Struct, frozen=True):
    """The steps of a pipeline, taken for a whole batch at a time."""

    pipeline: Pipeline

    @property
    def invoke(self) -> Invoke:
        return self.pipeline.invoke

    def admit(self, batch: Batch, now: float) -> Verdicts | None:
        """Sort out what must not run; None if anything is left."""
        batch.started_at = now
        if self.pipeline.admit_all(batch.messages, now):
            return None
        running: list[Incoming] = []
        admit, start = self.pipeline.admit, running.append
        for message in batch.messages:
            if message.lost or now >= message.lease_ends:
                batch.judged.append((message, None))
            elif (verdict := admit(message, now)) is None:
                start(message)
            else:
                batch.judged.append((message, verdict))
        batch.messages = running
        return None if running else Verdicts([], batch.judged)

    def succeed(self, batch: Batch, value: object) -> Verdicts:
        """The handler returned one result for all messages, or one for each."""
        if value is None and self.pipeline.is_all_success(batch.messages):
            return Verdicts(batch.messages, batch.judged)
        results = read_results(value, len(batch.messages))
        if isinstance(results, TypeError):
            return self.fail(batch, results)
        verdicts = Verdicts([], list(batch.judged))
        for message, result in zip(batch.messages, results, strict=True):
            verdict = self._judge(message, result)
            if verdict is SUCCEEDED:
                verdicts.succeeded.append(message)
            else:
                verdicts.others.append((message, verdict))
        return verdicts

    def fail(self, batch: Batch, raised: BaseException) -> Verdicts:
        """The handler raised: every message of the batch has failed."""
        failed: list[Judged] = [(message, self.pipeline.fail(message, raised)) for message in batch.messages]
        return Verdicts([], batch.judged + failed)

    def interrupt(self, batch: Batch) -> Verdicts:
        """The worker gave up on a running handler."""
        interrupted: list[Judged] = [
            (message, self.pipeline.interrupt(message)) for message in batch.messages
        ]
        return Verdicts([], batch.judged + interrupted)

    def _judge(self, message: Incoming, result: object) -> Verdict:
        if isinstance(result, BaseException):
            return self.pipeline.fail(message, result)
        return self.pipeline.succeed(message, result)


def read_results(value: object, count: int) -> list[object] | TypeError:
    """One result a message, or what is wrong with what a batch handler returned."""
    if value is None or value is False:
        return [value] * count
    wanted = f"a batch handler returns None or a list with one result for each of its {count} messages"
    if not isinstance(value, list | tuple):
        return TypeError(f"{wanted}, not {type(value).__name__}")
    if len(value) != count:
        return TypeError(f"{wanted}, not {len(value)} results")
    for result in value:
        if isinstance(result, type) and issubclass(result, BaseException):
            return TypeError(f"{wanted}: a result may be {result.__name__}(), but not the class itself")
    return list(value)


class BatchRunners(Protocol):
    """Those who run batches: a crew of tasks or threads."""

    def give(self, units: Iterable[Batch], steps: Steps[Batch, Verdicts]) -> None: ...
    def start(self) -> None: ...
    def take_back(self) -> list[Batch]: ...
    async def abort(self, grace_seconds: float) -> None: ...


class _Lot(NamedTuple):
    """Messages that came together and wait for their batch: never none."""

    messages: list[Incoming]
    pipeline: Pipeline
    """The rules they go by."""
    since: float
    """Monotonic seconds."""


class BatchCrew:
    """Puts messages together and has `hire`d runners run them, `concurrency` batches at a time at most.

    A batch holds `size` messages, or what has come `wait_seconds` after its first one. `succeed` hears of all
    that simply succeeded, `finish` and `forget` of each other message: all of a batch in one turn of the
    loop, so that one step settles them.
    """

    def __init__(
        self,
        size: int,
        wait_seconds: float,
        concurrency: int,
        hire: Callable[[Callable[[Batch, Verdicts], None], Callable[[Batch], None]], BatchRunners],
        finish: Callable[[Incoming, Verdict], None],
        forget: Callable[[Incoming], None],
        succeed: Callable[[Sequence[Incoming], float], None],
    ) -> None:
        self._size, self._wait_seconds, self._concurrency = size, wait_seconds, concurrency
        self._finish_one, self._forget_one, self._succeed = finish, forget, succeed
        self._runners = hire(self._finish, self._forget)
        self._lots: deque[_Lot] = deque()
        self._gathered = 0
        """Messages in all lots."""
        self._open: set[Batch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def unstarted(self) -> int:
        """Messages that wait for a member; those that wait for others to fill their batch do not count."""
        return self._gathered if self._gathered >= self._size else 0

    @property
    def running(self) -> int:
        return sum(len(batch.messages) for batch in self._open)

    @property
    def in_hand(self) -> int:
        return self._gathered + self.running

    def give(self, messages: Iterable[Incoming], pipeline: Pipeline) -> None:
        """Have these run once they are `start`ed, in this order, as batches fill up."""
        lot = _Lot(list(messages), pipeline, time.monotonic())
        if lot.messages:
            self._lots.append(lot)
            self._gathered += len(lot.messages)

    def start(self) -> None:
        """Run what was given and fills a batch."""
        self._send_off()

    def take_back(self) -> list[Incoming]:
        """What was given and not yet started; it will not be."""
        unstarted = [message for batch in self._runners.take_back() for message in self._reopen(batch)]
        unstarted += [message for lot in self._lots for message in lot.messages]
        self._lots.clear()
        self._gathered = 0
        self._stop_timer()
        return unstarted

    async def abort(self, grace_seconds: float) -> None:
        """End what runs; each of its messages is finished as interrupted."""
        self._stop_timer()
        await self._runners.abort(grace_seconds)

    def _reopen(self, batch: Batch) -> list[Incoming]:
        self._open.discard(batch)
        return batch.messages

    def _send_off(self) -> None:
        """Start every batch that is full, or has waited long enough, as far as members are free."""
        while self._gathered and len(self._open) < self._concurrency:
            oldest = self._lots[0]
            due_in = oldest.since + self._wait_seconds - time.monotonic()
            if self._gathered < self._size and due_in > 0:
                self._look_again(due_in)
                break
            batch = Batch(self._take(oldest.pipeline))
            self._open.add(batch)
            self._runners.give([batch], BatchSteps(oldest.pipeline))
        self._runners.start()

    def _take(self, pipeline: Pipeline) -> list[Incoming]:
        """The next messages, up to a full batch, as long as they go by the same rules."""
        taken: list[Incoming] = []
        while self._lots and len(taken) < self._size and self._lots[0].pipeline is pipeline:
            messages, wanted = self._lots[0].messages, self._size - len(taken)
            taken += messages[:wanted]
            if len(messages) > wanted:
                del messages[:wanted]
            else:
                self._lots.popleft()
        self._gathered -= len(taken)
        return taken

    def _look_again(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._send_off()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, batch: Batch, verdicts: Verdicts) -> None:
        self._open.discard(batch)
        if verdicts.succeeded:
            assert batch.started_at is not None
            self._succeed(verdicts.succeeded, time.monotonic() - batch.started_at)
        for message, verdict in verdicts.others:
            if verdict is None:
                self._forget_one(message)
            else:
                self._finish_one(message, verdict)
        self._send_off()

    def _forget(self, batch: Batch) -> None:
        self._finish(batch, Verdicts([], [(message, None) for message in batch.messages]))

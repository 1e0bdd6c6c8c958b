"""The steps of one message, by name: admit, invoke, then succeed, fail or be interrupted.

A pipeline belongs to one queue and its handler and never changes; when what is applied changes, a new one is
made. It is safe to use from several threads. What one may want to remove lives around it, in `middleware`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import msgspec

from leanmq_topology.brokers.protocol import Reply
from leanmq_topology.errors import InvalidMessageError, LeanMQError
from leanmq_topology.messages.decision import DONE, decide_failure, decide_return, describe_failure
from leanmq_topology.messages.message import HEADER_REPLY_TO
from leanmq_topology.messages.outcome import DeadReason, Decline, Done, MoveToDeadLetters, Outcome, Retry
from leanmq_topology.runner.binding import Invoke
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.outbox import Output, OutputWriter
from leanmq_topology.runner.replies import write_decline, write_reply
from leanmq_topology.topology.model import OnFalse, Queue

U = TypeVar("U", contravariant=True)
V = TypeVar("V", covariant=True)


class Unit(Protocol):
    """What a crew runs with one call of a handler: a message, or a batch of them."""

    started_at: float | None
    """Monotonic seconds; None until the handler is about to be called."""
    lease_ends: float
    """Monotonic seconds; from then on it is not ours to run."""
    lost: bool
    """Nor is it then."""

    def is_ours(self, now: float) -> bool: ...
    def stop_renewal(self) -> None: ...


class Steps(Protocol[U, V]):
    """How a crew runs a unit, step by step; `Pipeline` is that for single messages."""

    def admit(self, unit: U, now: float, /) -> V | None: ...
    @property
    def invoke(self) -> Callable[[U, Any], Any]: ...
    def succeed(self, unit: U, value: object, /) -> V: ...
    def fail(self, unit: U, raised: BaseException, /) -> V: ...
    def interrupt(self, unit: U, /) -> V: ...


Gate = Callable[[Incoming], Outcome | None]
"""Looks at a message before its handler does. None lets it through; an outcome is final."""

Sieve = Callable[[Sequence[Incoming]], bool]
"""A gate for many messages in one go. False, and nothing decided: one of them may not get through."""

INTERRUPTED: Final = "the worker stopped while the handler ran"


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a message, and how that came about."""

    outcome: Outcome
    raised: BaseException | None = None
    """What the handler raised, if it did."""
    value: object = None
    """What the handler returned and nothing used."""
    outputs: tuple[Output, ...] = ()
    """What is sent in the step that acknowledges it."""
    reply: Reply | None = None
    """What is replied in that step."""


SUCCEEDED: Final = Verdict(DONE)
"""The handler returned None, nobody waits for a reply and nothing is sent: as with almost every message."""


class Pipeline(msgspec.Struct, frozen=True):
    queue: Queue
    on_false: OnFalse
    invoke: Invoke
    """Calls the handler; raises what it raises."""
    gates: tuple[Gate, ...]
    writer: OutputWriter | None = None
    """Makes messages of what handlers send; None: they cannot."""
    then: str | None = None
    """Where the return value is sent."""
    mark: Callable[[Incoming], None] | None = None
    """Hears of a message before a handler is called with it."""
    success: Verdict = SUCCEEDED
    """On what simply succeeded; another than `SUCCEEDED` where each is to be concluded by itself."""
    sieves: tuple[Sieve, ...] | None = None
    """One for each gate; None where a gate has none."""

    def admit(self, message: Incoming, now: float) -> Verdict | None:
        """None: the handler may run, and counts as started from `now` on (monotonic seconds)."""
        for gate in self.gates:
            if (outcome := gate(message)) is not None:
                return Verdict(outcome)
        message.started_at = now
        message.writer = self.writer
        if self.mark is not None:
            self.mark(message)
        return None

    def admit_all(self, messages: Sequence[Incoming], now: float) -> bool:
        """Admit all of these; False, and none admitted, if they have to be looked at one by one."""
        if self.sieves is None:
            return False
        for message in messages:
            if message.lost or now >= message.lease_ends:
                return False
        for sieve in self.sieves:
            if not sieve(messages):
                return False
        mark, writer = self.mark, self.writer
        for message in messages:
            message.started_at = now
            message.writer = writer
            if mark is not None:
                mark(message)
        return True

    def succeed(self, message: Incoming, value: object) -> Verdict:
        """The handler returned `value`."""
        if HEADER_REPLY_TO in message.delivered.envelope.headers:
            return self._reply(message, value)
        outcome: Outcome = DONE
        if value is False:
            outcome = decide_return(value, message.delivered, self.queue, self.on_false, _chance())
        if message.outbox is not None or self.then is not None:
            return self._send(message, value, outcome)
        return self.success if value is None else Verdict(outcome, None, value)

    def is_all_success(self, messages: Sequence[Incoming]) -> bool:
        """Whether there is nothing to be said of any of these, where the handler returned None."""
        if self.success is not SUCCEEDED:
            return False
        for message in messages:  # `all` of a generator takes twice the time
            if message.outbox is not None or HEADER_REPLY_TO in message.delivered.envelope.headers:
                return False
        return True

    def fail(self, message: Incoming, raised: BaseException) -> Verdict:
        """The handler raised; what it sent is dropped."""
        if message.outbox is not None:
            message.outbox.close()
        if isinstance(raised, Decline):
            return self._decline(message, raised)
        return self._fail(message, raised)

    def _fail(self, message: Incoming, raised: BaseException) -> Verdict:
        outcome = decide_failure(raised, message.delivered, self.queue, _chance())
        return Verdict(outcome, raised)

    def interrupt(self, message: Incoming) -> Verdict:
        """The worker gave up on a running handler: the run counts, and the message is due again at once."""
        return self.fail(message, Retry(INTERRUPTED, after=0))

    def _reply(self, message: Incoming, value: object) -> Verdict:
        """On a request whatever the handler returned is the reply, `False` too."""
        assert self.writer is not None  # who runs handlers replies for them
        try:
            reply = write_reply(message.delivered.envelope, value, self.queue, self.writer)
        except LeanMQError as failure:
            return self.fail(message, failure)
        if message.outbox is None and self.then is None:
            return Verdict(DONE, reply=reply)
        verdict = self._send(message, value, DONE)
        return verdict if verdict.raised else msgspec.structs.replace(verdict, value=None, reply=reply)

    def _decline(self, message: Incoming, declined: Decline) -> Verdict:
        """A declared error is an answer: the message is done, and nobody has to look at it later."""
        assert self.writer is not None
        try:
            reply = write_decline(message.delivered.envelope, declined, self.queue, self.writer)
        except InvalidMessageError as failure:  # declining is final, however badly it was done
            return Verdict(MoveToDeadLetters(DeadReason.FAILED, describe_failure(failure)), failure)
        if reply is None:
            return self._fail(message, declined)
        return Verdict(DONE, reply=reply)

    def _send(self, message: Incoming, value: object, outcome: Outcome) -> Verdict:
        """All that a run sends belongs to its success; a value that cannot be sent makes it a failure."""
        outbox = message.open_outbox()
        assert outbox is not None  # there is a writer
        if self.then is not None and value is not None and value is not False and isinstance(outcome, Done):
            try:
                outbox.send(self.then, value)
            except LeanMQError as failure:
                return self.fail(message, failure)
            value = None
        outputs = outbox.close()
        if not isinstance(outcome, Done):
            outputs = ()
        return Verdict(outcome, None, value, outputs)


_chance = random.random

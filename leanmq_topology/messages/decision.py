"""What becomes of a delivery: decided here from facts, carried out elsewhere.

Anything a handler returns is success, except the object `False`. Anything it raises is a failure, except the
verdicts `Retry`, `Reject`, `Discard` and `Decline`.
"""

from __future__ import annotations

from typing import Final

from leanmq_topology.messages.backoff import backoff_ms
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.message import HEADER_REPLY_TO
from leanmq_topology.messages.outcome import (
    MAX_FAILURE_TEXT,
    DeadReason,
    Decline,
    Discard,
    Done,
    Dropped,
    Failure,
    MoveToDeadLetters,
    Outcome,
    Reject,
    Retry,
    RetryLater,
)
from leanmq_topology.topology.model import OnExpire, OnFalse, Queue

DONE: Final = Done()
_FALSE: Final = Failure("False", "the handler returned False")


def decide_start(delivered: Delivered, queue: Queue, now_ms: int) -> Outcome | None:
    """None: run it. Otherwise what becomes of it instead, because it expired or used up its deliveries.

    `now_ms` is the server's time.
    """
    expires_ms = delivered.envelope.expires_ms
    if expires_ms is not None and now_ms >= expires_ms:
        waited_for = HEADER_REPLY_TO in delivered.envelope.headers
        return _expire(queue, now_ms - expires_ms, discard=waited_for)
    if delivered.attempt > queue.max_deliveries:
        lapsed = f"its lease lapsed on the last of {queue.max_deliveries} deliveries"
        return MoveToDeadLetters(DeadReason.FAILED, Failure("LeaseLapsed", lapsed))
    return None


def decide_return(
    value: object, delivered: Delivered, queue: Queue, on_false: OnFalse, chance: float
) -> Outcome:
    """What a handler's return value means. `chance` in [0, 1) spreads retries."""
    if value is not False or on_false is OnFalse.ACK:
        return DONE
    if on_false is OnFalse.DEAD_LETTER:
        return MoveToDeadLetters(DeadReason.FAILED, _FALSE)
    return _retry(_FALSE, delivered, queue, None, chance)


def decide_failure(raised: BaseException, delivered: Delivered, queue: Queue, chance: float) -> Outcome:
    """What an exception out of a handler means. `chance` in [0, 1) spreads retries."""
    failure = describe_failure(raised)
    match raised:
        case Discard():
            return Dropped(raised.reason or "discarded")
        case Reject() | Decline():
            return MoveToDeadLetters(DeadReason.REJECTED, failure)
        case Retry():
            after_ms = None if raised.after is None else max(0, round(raised.after * 1000))
            return _retry(failure, delivered, queue, after_ms, chance)
    if _is_never_retried(raised, queue):
        return MoveToDeadLetters(DeadReason.FAILED, failure)
    return _retry(failure, delivered, queue, None, chance)


def describe_failure(raised: BaseException) -> Failure:
    """Class name and text of an exception, the text cut to what is kept."""
    return Failure(type(raised).__qualname__, _read_text(raised)[:MAX_FAILURE_TEXT])


def _read_text(raised: BaseException) -> str:
    """An exception that cannot say what it means must not keep its message from being settled."""
    try:
        return str(raised)
    except Exception as failure:
        return f"its text cannot be had ({type(failure).__qualname__})"


def _retry(
    failure: Failure, delivered: Delivered, queue: Queue, after_ms: int | None, chance: float
) -> RetryLater | MoveToDeadLetters:
    if delivered.attempt >= queue.max_deliveries:
        return MoveToDeadLetters(DeadReason.FAILED, failure)
    wait_ms = backoff_ms(queue.retry, delivered.attempt, chance) if after_ms is None else after_ms
    return RetryLater(wait_ms, failure)


def _expire(queue: Queue, late_ms: int, *, discard: bool) -> Dropped | MoveToDeadLetters:
    """A request that expired is nothing to look at later: its client was told so, at the same time."""
    if discard or queue.on_expire is OnExpire.DISCARD:
        return Dropped("expired", expired=True)
    return MoveToDeadLetters(
        DeadReason.EXPIRED, Failure("Expired", f"expired {late_ms} ms before it could start")
    )


def _is_never_retried(raised: BaseException, queue: Queue) -> bool:
    """`retry.never` names a class or a base of it, bare (`ValueError`) or with its module."""
    never = queue.retry.never
    return bool(never) and any(
        kind.__name__ in never or f"{kind.__module__}.{kind.__qualname__}" in never
        for kind in type(raised).__mro__
    )

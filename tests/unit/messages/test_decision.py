"""What becomes of a delivery."""

from __future__ import annotations

import pytest

from leanmq_topology.errors import SettingError
from leanmq_topology.messages.decision import decide_failure, decide_return, decide_start
from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import (
    DeadReason,
    Discard,
    Done,
    Dropped,
    Failure,
    MoveToDeadLetters,
    Reject,
    Retry,
    RetryLater,
)
from leanmq_topology.topology import model
from leanmq_topology.topology.model import Jitter, OnExpire, OnFalse, Queue

QUEUE = Queue(name="q", max_deliveries=3, retry=model.Retry(delay_ms=100, jitter=Jitter.NONE))


def deliver(*, attempt: int = 0, count: int = 1, expires_ms: int | None = None) -> Delivered:
    return Delivered("q", "1-0", Envelope("m", "t", b"{}", {}, attempt, expires_ms), count)


@pytest.mark.parametrize("value", [None, True, 0, "", [], {}, 0.0, object()])
def test_any_return_but_the_object_false_is_success(value: object):
    for on_false in OnFalse:
        assert decide_return(value, deliver(), QUEUE, on_false, 0.5) == Done()


def test_false_follows_on_false():
    def decide(on_false: OnFalse) -> object:
        return decide_return(False, deliver(), QUEUE, on_false, 0.5)

    assert decide(OnFalse.ACK) == Done()
    assert isinstance(decide(OnFalse.RETRY), RetryLater)
    dead = decide(OnFalse.DEAD_LETTER)
    assert isinstance(dead, MoveToDeadLetters)
    assert dead.reason is DeadReason.FAILED


def test_false_with_retry_ends_in_the_dead_letter_queue_at_the_limit():
    outcome = decide_return(False, deliver(attempt=2), QUEUE, OnFalse.RETRY, 0.5)
    assert isinstance(outcome, MoveToDeadLetters)


def test_an_exception_is_retried_later_and_later_until_the_limit():
    outcomes = [decide_failure(ValueError("no"), deliver(attempt=n), QUEUE, 0.5) for n in (0, 1, 2)]
    failure = Failure("ValueError", "no")
    assert outcomes == [
        RetryLater(100, failure),
        RetryLater(200, failure),
        MoveToDeadLetters(DeadReason.FAILED, failure),
    ]


def test_redeliveries_count_as_attempts():
    assert isinstance(decide_failure(ValueError(), deliver(count=3), QUEUE, 0.5), MoveToDeadLetters)


def test_one_delivery_means_no_retry():
    once = Queue(name="q", max_deliveries=1)
    assert isinstance(decide_failure(ValueError(), deliver(), once, 0.5), MoveToDeadLetters)


class HomeError(Exception):
    pass


class ChildError(HomeError):
    pass


@pytest.mark.parametrize(
    ("never", "raised", "dies"),
    [
        ("ValueError", ValueError(), True),
        ("ValueError", UnicodeDecodeError("utf-8", b"", 0, 1, "x"), True),
        ("HomeError", ChildError(), True),
        (f"{__name__}.HomeError", ChildError(), True),
        ("ChildError", HomeError(), False),
        ("ValueErrors", ValueError(), False),
    ],
)
def test_never_names_a_class_or_a_base_of_it(never: str, raised: Exception, dies: bool):
    queue = Queue(name="q", retry=model.Retry(never=(never,)))
    assert isinstance(decide_failure(raised, deliver(), queue, 0.5), MoveToDeadLetters) is dies


def test_retry_after_waits_as_asked_and_counts():
    assert decide_failure(Retry(after=2.5), deliver(), QUEUE, 0.5) == RetryLater(2500, Failure("Retry", ""))
    assert isinstance(decide_failure(Retry(after=0), deliver(attempt=2), QUEUE, 0.5), MoveToDeadLetters)


def test_retry_without_a_time_uses_the_backoff():
    outcome = decide_failure(Retry("busy"), deliver(attempt=1), QUEUE, 0.5)
    assert outcome == RetryLater(200, Failure("Retry", "busy"))


def test_reject_goes_to_the_dead_letters_at_once():
    outcome = decide_failure(Reject("stolen card"), deliver(), QUEUE, 0.5)
    assert outcome == MoveToDeadLetters(DeadReason.REJECTED, Failure("Reject", "stolen card"))


def test_discard_forgets():
    assert decide_failure(Discard("old news"), deliver(), QUEUE, 0.5) == Dropped("old news")


def test_a_fresh_message_starts():
    assert decide_start(deliver(expires_ms=1001), QUEUE, 1000) is None
    assert decide_start(deliver(attempt=1, count=2), QUEUE, 1000) is None


def test_an_expired_message_never_starts():
    outcome = decide_start(deliver(expires_ms=1000), QUEUE, 1000)
    assert isinstance(outcome, MoveToDeadLetters)
    assert outcome.reason is DeadReason.EXPIRED
    forgetful = Queue(name="q", on_expire=OnExpire.DISCARD)
    assert decide_start(deliver(expires_ms=999), forgetful, 1000) == Dropped("expired", expired=True)


def test_a_message_past_its_limit_is_never_run_again():
    outcome = decide_start(deliver(attempt=1, count=3), QUEUE, 1000)
    assert isinstance(outcome, MoveToDeadLetters)
    assert outcome.reason is DeadReason.FAILED


@pytest.mark.parametrize("after", ["5s", b"5", float("nan"), float("inf"), float("-inf"), 1e13, object()])
def test_a_retry_after_no_time_is_refused_where_it_is_made(after: float):
    with pytest.raises(SettingError, match=r"^after: .* is not a number of seconds"):
        Retry("busy", after=after)


def test_an_exception_that_cannot_say_what_it_means_is_a_failure_like_any_other():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise KeyError("said")

    outcome = decide_failure(MuteError(), deliver(), QUEUE, 0.5)
    assert isinstance(outcome, RetryLater)
    assert outcome.failure.type.endswith("MuteError")
    assert outcome.failure.message == "its text cannot be had (KeyError)"

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from leanmq_topology.messages.envelope import Delivered, Envelope
from leanmq_topology.messages.outcome import (
    DeadReason,
    Done,
    Dropped,
    Failure,
    MoveToDeadLetters,
    Outcome,
    Reject,
    RetryLater,
)
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.middleware.event_log import EventLog
from leanmq_topology.runner.pipeline import Verdict
from leanmq_topology.topology.model import Handler, Queue

HERE = Path(__file__).parent
SECRET = b'{"card": "4242424242424242"}'


def log_of(
    caplog: pytest.LogCaptureFixture, *verdicts: Verdict, folder: Path = HERE, started: bool = True
) -> list[logging.LogRecord]:
    """What a handler's log says of these verdicts on one message in its second attempt."""
    log = EventLog(Handler(name="charge", queue="billing", call="m:f"), folder)
    message = Incoming(Delivered("billing", "1-0", Envelope("m-1", "order.placed", SECRET, {}, 1)), 0.0)
    message.started_at = time.monotonic() if started else None
    with caplog.at_level(logging.INFO, "leanmq.runner"):
        for verdict in verdicts:
            log(message, verdict, Queue(name="billing", max_deliveries=5))
    return caplog.records


def raised(failure: Exception) -> Exception:
    try:
        raise failure
    except Exception as caught:
        return caught


def failed(outcome: Outcome, failure: Exception) -> Verdict:
    return Verdict(outcome, raised(failure))


def test_an_exception_without_a_text_to_be_had_is_told_by_its_class(caplog: pytest.LogCaptureFixture):
    class MuteError(Exception):
        def __str__(self) -> str:
            raise KeyError("said")

    [record] = log_of(caplog, failed(RetryLater(1500, Failure("MuteError", "")), MuteError()))
    assert "MuteError: its text cannot be had (KeyError)" in record.getMessage()


def test_success_is_quiet(caplog: pytest.LogCaptureFixture):
    assert log_of(caplog, Verdict(Done())) == []


def test_a_retry_says_which_attempt_when_again_and_where_it_failed(caplog: pytest.LogCaptureFixture):
    outcome = RetryLater(1500, Failure("KeyError", "'card'"))
    [record] = log_of(caplog, failed(outcome, KeyError("card")))
    assert record.levelno == logging.WARNING
    text = record.getMessage()
    assert "charge order.placed m-1 retry: attempt 2 of 5, again in 1.5 s: KeyError: 'card'" in text
    assert "(test_event_log.py:" in text


def test_a_dead_letter_says_its_reason(caplog: pytest.LogCaptureFixture):
    outcome = MoveToDeadLetters(DeadReason.REJECTED, Failure("Reject", "no such card"))
    [record] = log_of(caplog, failed(outcome, Reject("no such card")))
    assert record.levelno == logging.ERROR
    assert "dead-lettered: rejected, attempt 2 of 5: Reject: no such card" in record.getMessage()


def test_a_message_that_never_started_says_why(caplog: pytest.LogCaptureFixture):
    outcome = MoveToDeadLetters(DeadReason.INVALID, Failure("InvalidMessageError", "at /n: must be a number"))
    [record] = log_of(caplog, Verdict(outcome), started=False)
    assert "invalid, attempt 2 of 5: at /n: must be a number" in record.getMessage()


def test_a_discarded_message_is_information(caplog: pytest.LogCaptureFixture):
    [record] = log_of(caplog, Verdict(Dropped("expired")))
    assert (record.levelno, "discarded: expired" in record.getMessage()) == (logging.INFO, True)


def test_fields_ride_along_and_the_payload_does_not(caplog: pytest.LogCaptureFixture):
    [record] = log_of(caplog, failed(RetryLater(10, Failure("ValueError", "no")), ValueError("no")))
    fields = {name: getattr(record, name) for name in ("event", "queue", "handler", "message_id", "attempt")}
    assert fields == {
        "event": "retry", "queue": "billing", "handler": "charge", "message_id": "m-1", "attempt": 2,
    }  # fmt: skip
    assert "4242" not in str(vars(record))


def test_an_unused_value_is_mentioned_once(caplog: pytest.LogCaptureFixture):
    verdict = Verdict(Done(), None, {"total": 1})
    [record] = log_of(caplog, verdict, verdict, verdict)
    assert "returned dict, which nothing uses" in record.getMessage()


def test_only_the_first_line_of_a_long_error_is_shown(caplog: pytest.LogCaptureFixture):
    failure = ValueError("first " + "x" * 500 + "\nsecond")
    [record] = log_of(caplog, failed(RetryLater(10, Failure("ValueError", "")), failure))
    assert "second" not in record.getMessage()
    assert len(record.getMessage()) < 500


def test_a_failure_outside_the_folder_names_the_whole_path(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    verdict = failed(RetryLater(10, Failure("ValueError", "")), ValueError())
    [record] = log_of(caplog, verdict, folder=tmp_path)
    assert f"({__file__}:" in record.getMessage()


def test_the_correlation_of_a_message_rides_along_where_it_has_one(caplog: pytest.LogCaptureFixture):
    log = EventLog(Handler(name="charge", queue="billing", call="m:f"), HERE)
    envelope = Envelope("m-1", "order.placed", SECRET, {"correlationid": "c-1"}, 1)
    message = Incoming(Delivered("billing", "1-0", envelope), 0.0)
    message.started_at = time.monotonic() - 3600
    with caplog.at_level(logging.DEBUG, "leanmq.runner"):
        log(message, Verdict(Done()), Queue(name="billing"))
    [record] = caplog.records
    fields = {name: getattr(record, name) for name in ("event", "correlation_id")}
    assert fields == {"event": "handled", "correlation_id": "c-1"}
    assert 3600 <= record.__dict__["seconds"] < 3700

"""One log line for each thing that did not simply succeed, in words a person on call can act on.

Payloads never appear. Fields ride along for JSON logs: event, queue, handler, message_id, type, attempt, and
the correlation id where there is one.
"""

from __future__ import annotations

import logging
import time
import traceback
from pathlib import Path
from typing import Any

from leanmq_topology.messages.decision import describe_failure
from leanmq_topology.messages.message import HEADER_CORRELATION
from leanmq_topology.messages.outcome import (
    Decline,
    Discard,
    Done,
    Dropped,
    MoveToDeadLetters,
    Outcome,
    Reject,
    Released,
    Retry,
    RetryLater,
)
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.pipeline import Verdict
from leanmq_topology.topology.model import Handler, Queue

logger = logging.getLogger("leanmq.runner")


def is_told_all() -> bool:
    """Whether plain successes have a line, too."""
    return logger.isEnabledFor(logging.DEBUG)


class EventLog:
    """Speaks for one handler. `folder` is the topology's: places in it are named relative to it."""

    def __init__(self, handler: Handler, folder: Path) -> None:
        self._handler = handler
        self._folder = folder.resolve()
        self._value_was_mentioned = False

    @property
    def tells_all(self) -> bool:
        """Whether it has a line for plain successes, too."""
        return is_told_all()

    def __call__(self, message: Incoming, verdict: Verdict, queue: Queue) -> None:
        outcome = verdict.outcome
        if isinstance(outcome, Done):
            self._report_success(message, verdict)
            return
        event, level, text = self._describe(message, verdict, queue)
        logger.log(
            level, "%s %s: %s", self._name(message), event, text, extra=self._fields(event, message, outcome)
        )

    def _report_success(self, message: Incoming, verdict: Verdict) -> None:
        if self.tells_all:
            seconds = 0.0 if message.started_at is None else time.monotonic() - message.started_at
            extra = self._fields("handled", message, verdict.outcome) | {"seconds": round(seconds, 6)}
            logger.debug("%s handled in %.3f s", self._name(message), seconds, extra=extra)
        unused = verdict.value is not None and verdict.value is not False
        if unused and not self._value_was_mentioned:
            self._value_was_mentioned = True
            logger.warning(
                "handler %s returned %s, which nothing uses; said once",
                self._handler.name,
                type(verdict.value).__name__,
                extra={"event": "unused_value", "handler": self._handler.name},
            )

    def _describe(self, message: Incoming, verdict: Verdict, queue: Queue) -> tuple[str, int, str]:
        attempt = f"attempt {message.delivered.attempt} of {queue.max_deliveries}"
        match verdict.outcome:
            case RetryLater(delay_ms=delay_ms):
                return (
                    "retry",
                    logging.WARNING,
                    f"{attempt}, again in {_seconds(delay_ms)}: {self._cause(verdict)}",
                )
            case MoveToDeadLetters(reason=reason, failure=failure):
                cause = failure.message if message.started_at is None else self._cause(verdict)
                text = f"{reason}, {attempt}: {cause}"
                return "dead-lettered", logging.ERROR, text
            case Dropped(reason=reason):
                return "discarded", logging.INFO, reason
            case _:
                return "released", logging.INFO, "it was not started"

    def _cause(self, verdict: Verdict) -> str:
        raised = verdict.raised
        if raised is None:
            return "the handler returned False"
        if isinstance(raised, Retry | Reject | Discard | Decline):
            return f"{type(raised).__name__}: {raised.reason}" if raised.reason else type(raised).__name__
        text = _first_line(describe_failure(raised).message)
        place = self._place(raised)
        return f"{type(raised).__name__}{f': {text}' if text else ''}{f' ({place})' if place else ''}"

    def _place(self, raised: BaseException) -> str | None:
        """The innermost line of the user's own code that the failure passed through."""
        frames = traceback.extract_tb(raised.__traceback__)
        for frame in reversed(frames):
            path = Path(frame.filename)
            if path.is_relative_to(self._folder):
                return f"{path.relative_to(self._folder)}:{frame.lineno}"
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None

    def _name(self, message: Incoming) -> str:
        envelope = message.delivered.envelope
        return f"{self._handler.name} {envelope.type or 'message'} {envelope.id}"

    def _fields(self, event: str, message: Incoming, outcome: Outcome) -> dict[str, Any]:
        delivered = message.delivered
        fields: dict[str, Any] = {
            "event": event,
            "queue": delivered.queue,
            "handler": self._handler.name,
            "message_id": delivered.envelope.id,
            "type": delivered.envelope.type,
            "attempt": delivered.attempt,
        }
        correlation = delivered.envelope.headers.get(HEADER_CORRELATION)
        if correlation:
            fields["correlation_id"] = correlation
        match outcome:
            case RetryLater(delay_ms=delay_ms, failure=failure):
                return {**fields, "delay_ms": delay_ms, "error": failure.type}
            case MoveToDeadLetters(reason=reason, failure=failure):
                return {**fields, "reason": reason.value, "error": failure.type}
            case Dropped(reason=text):
                return {**fields, "reason": text}
            case Released() | _:
                return fields


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3g} s" if milliseconds < 100_000 else f"{milliseconds // 1000} s"


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:200]}…"

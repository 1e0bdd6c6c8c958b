"""What became of one delivery: a closed set, each member one atomic step on the broker."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.errors import SettingError


class DeadReason(StrEnum):
    """Why a message lies in the dead-letter queue."""

    FAILED = "failed"
    CRASHED = "crashed"
    EXPIRED = "expired"
    INVALID = "invalid"
    UNDECODABLE = "undecodable"
    REJECTED = "rejected"
    OVERFLOW = "overflow"
    MANUAL = "manual"


class Failure(Struct, frozen=True):
    """What went wrong, as it is kept with a dead letter. `message` is truncated to 2 KiB."""

    type: str
    message: str


LAPSED: Final = Failure(
    "LeaseLapsed", "its worker died or fell silent while it held it, on the last of its deliveries"
)
CRASHED: Final = Failure("Crashed", "its process died while it ran alone, as often as the queue allows")
CRASHED_LAST: Final = Failure("Crashed", "its process died while it ran alone, on the last of its deliveries")
EXPIRED: Final = Failure("Expired", "it expired before it could start")


class Done(Struct, frozen=True):
    """The handler succeeded: acknowledge."""


class RetryLater(Struct, frozen=True):
    """Deliver again, not before `delay_ms` from now; the failure counts."""

    delay_ms: int
    failure: Failure


class MoveToDeadLetters(Struct, frozen=True):
    reason: DeadReason
    failure: Failure


class Dropped(Struct, frozen=True):
    """Acknowledge and forget, by the explicit wish of handler or topology; counted apart from success."""

    reason: str = "discarded"
    expired: bool = False
    """By `on_expire: discard`, not by the handler."""


class Released(Struct, frozen=True):
    """Never started: hand back at once, the delivery does not count."""


Outcome = Done | RetryLater | MoveToDeadLetters | Dropped | Released

MAX_FAILURE_TEXT: Final = 2048
LONGEST_AFTER_SECONDS: Final = 365 * 24 * 60 * 60


class Retry(Exception):  # noqa: N818  these four are verdicts a handler raises, not errors
    """Raised by a handler: deliver again, after `after` seconds (by the queue's backoff if None).

    Raises `SettingError` where it is made for an `after` that is no number of seconds, up to a year.
    """

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        if after is not None and not _is_some_time(after):
            raise SettingError("after", f"{after!r} is not a number of seconds, up to a year")
        super().__init__(reason)
        self.reason, self.after = reason, after


class Reject(Exception):  # noqa: N818
    """Raised by a handler: dead-letter this message now, without further deliveries."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Discard(Exception):  # noqa: N818
    """Raised by a handler: acknowledge this message and forget it."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Decline(Exception):  # noqa: N818
    """Raised by the handler of a request: answer it with the error that its route declares.

    It is an answer, not a failure: the message is acknowledged in the same step, and the caller gets a
    `RemoteError` with this `data`, which must fit the type that the route names as `error`, and with `reason`
    as its text. Where nobody waits for an answer, or the route declares no error, it is what `Reject(reason)`
    is.
    """

    def __init__(self, data: Any, reason: str = "") -> None:
        super().__init__(reason)
        self.data, self.reason = data, reason


def _is_some_time(after: object) -> bool:
    return isinstance(after, int | float) and abs(after) <= LONGEST_AFTER_SECONDS

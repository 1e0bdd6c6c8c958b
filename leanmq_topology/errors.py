"""Every error this package raises on purpose, as one tree.

    LeanMQError
    ├── InvalidTopologyError (ValueError)        the file is wrong; .diagnostics holds every finding
    ├── InvalidMessageError (ValueError)         data breaks its schema; .path, .reason
    ├── UnknownTargetError (ValueError)          no queue or route of that name; .target, .closest
    ├── UnknownMessageError (ValueError)         no message of that id where it was looked for; .message_id
    ├── TopologyNotAppliedError                  used, but never applied; .missing
    ├── QueueFullError                           max_length reached; .queue
    ├── BatchTooLargeError (ValueError)          over what one atomic step carries; .copies, .size
    ├── TransactionError                         nothing was sent; .failures, or it had ended before
    ├── RequestTimeoutError (TimeoutError)       no reply in time; .route, .message_id, .seconds
    ├── RemoteError (ValueError)                 its handler could not answer; .type, .text, .data, .route
    ├── LeaseLostError                           somebody else owns the delivery now
    ├── BlockedChangeError                       the plan holds changes that need permission; .addresses
    ├── ConcurrentApplyError                     another apply holds the lock; .holder
    ├── StalePlanError                           the server changed since the plan was made
    ├── HandlerError                             a handler cannot be loaded or called; .handler
    ├── LifespanError                            what handlers share cannot be opened, or ended too early
    ├── SettingError (ValueError)                a flag or an environment variable is wrong; .name
    └── BrokerError
        ├── BrokerUnavailableError (ConnectionError)   not reachable, or not ready in time
        ├── BrokerRefusedError                   reached, but it says no: password, rights, version, policy
        ├── BrokerFullError                      out of memory by its own limit
        └── SendUnconfirmedError                 stored, not as durably as asked; .message_id, .reached

Facts are attributes, so that callers never parse a message. `exit_code` is what the command line ends with
when the error reaches it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from leanmq_topology.diagnostics import Diagnostic


class LeanMQError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 1
    hint: str | None = None
    """What mends it, in one sentence, where that is known."""
    stored_ids: tuple[str, ...] = ()
    """Of a `send_many(..., atomic=False)` that failed: the messages stored before, in order."""
    unknown_ids: tuple[str, ...] = ()
    """Of such a call, too: messages of which it is not known whether they were stored."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidTopologyError(LeanMQError, ValueError):
    """A topology file is wrong. `diagnostics` holds every finding, in file order."""

    exit_code = 3

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        errors = [found for found in self.diagnostics if found.is_error]
        first = f": {errors[0].where()}: {errors[0].message}" if errors else ""
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"the topology is invalid{first}{more}")


class InvalidMessageError(LeanMQError, ValueError):
    """Data breaks its schema or the payload rules.

    `path` is a JSON Pointer into the data (`""` is the whole), `reason` says what is wrong there.
    """

    exit_code = 3

    def __init__(self, path: str, reason: str, *, type: str | None = None, hint: str | None = None) -> None:
        self.path, self.reason, self.type = path, reason, type
        self.index: int | None = None
        """Of a `send_many`: which of its messages it is, the first being 0."""
        of = f"message {type!r} is invalid" if type else "message is invalid"
        super().__init__(f"{of} at {path or '/'}: {reason}", hint=hint)


class UnknownTargetError(LeanMQError, ValueError):
    """No queue or route has this name."""

    exit_code = 3

    def __init__(self, target: str, *, closest: str | None = None) -> None:
        self.target, self.closest = target, closest
        hint = f"did you mean {closest!r}?" if closest else None
        super().__init__(f"no queue or route is named {target!r}", hint=hint)


class UnknownMessageError(LeanMQError, ValueError):
    """No message has this id where it was looked for."""

    def __init__(self, message_id: str, place: str, *, hint: str | None = None) -> None:
        self.message_id = message_id
        super().__init__(f"no message {message_id!r} lies in {place}", hint=hint)


class TopologyNotAppliedError(LeanMQError):
    """What is used was never applied to the server. Nothing was written."""

    exit_code = 4

    def __init__(self, missing: Sequence[str], *, namespace: str, leaving: bool = False) -> None:
        self.missing, self.namespace = tuple(missing), namespace
        self.leaving = leaving
        """It was removed from the file that was applied last, and drains: it takes no more messages."""
        what = ", ".join(self.missing) if self.missing else "the topology"
        if leaving:
            super().__init__(
                f"{what} is being removed from namespace {namespace!r} and takes no more messages",
                hint="send elsewhere; whoever declares it again and applies that undoes its removal",
            )
        else:
            super().__init__(
                f"{what} is not applied in namespace {namespace!r}", hint="run `leanmq apply` first"
            )


class QueueFullError(LeanMQError):
    """A target is at its `max_length` and its `overflow` finds no room. Nothing was written."""

    def __init__(self, queue: str, max_length: int) -> None:
        self.queue, self.max_length = queue, max_length
        super().__init__(f"queue {queue!r} is full (max_length {max_length})")


class BatchTooLargeError(LeanMQError, ValueError):
    """More than one atomic step may carry: 1,000 copies or 4 MiB. Nothing was written."""

    exit_code = 3

    def __init__(self, *, copies: int, size: int) -> None:
        self.copies, self.size = copies, size
        super().__init__(
            f"{copies} copies of {size} bytes in all: one atomic step carries at most 1000 and 4 MiB",
            hint="send in smaller batches, or pass atomic=False",
        )


class TransactionError(LeanMQError):
    """A transaction sent nothing: some of its messages are wrong, or it had ended already."""

    exit_code = 3

    def __init__(
        self, message: str, *, failures: Sequence[tuple[int, str, LeanMQError]] = (), hint: str | None = None
    ) -> None:
        self.failures = tuple(failures)
        """Of each send that is wrong: its place (0 is the first), its target, its error."""
        super().__init__(message, hint=hint)

    @classmethod
    def wrong(cls, failures: Sequence[tuple[int, str, LeanMQError]], *, total: int) -> TransactionError:
        """One that names every send that is wrong."""
        told = "; ".join(f"send {place + 1}, to {target!r}: {error}" for place, target, error in failures)
        verb = "is" if len(failures) == 1 else "are"
        return cls(
            f"nothing was sent: {len(failures)} of {total} sends {verb} wrong: {told}", failures=failures
        )


class RequestTimeoutError(LeanMQError, TimeoutError):
    """No reply came in time. Whether the request was handled is not known; it is not started any more."""

    exit_code = 7

    def __init__(self, route: str, message_id: str, seconds: float) -> None:
        self.route, self.message_id, self.seconds = route, message_id, seconds
        super().__init__(
            f"no reply to {route} within {seconds:g} s; whether the request was handled is not known",
            hint="is a worker running for its queue? `leanmq status` shows",
        )


class RemoteError(LeanMQError, ValueError):
    """The handler of a request could not answer it, for good. Its text is that of the handler's exception.

    `type` is the name of the exception's class. There is no traceback: that is in the worker's log. Where the
    handler declined the request with the error that its route declares, `type` is that message type and
    `data` what it said, which fits the type's schema; else `data` is None.
    """

    def __init__(self, type: str, text: str, *, route: str, message_id: str, data: Any = None) -> None:
        self.type, self.text, self.route, self.message_id = type, text, route, message_id
        self.data = data
        super().__init__(text or type)

    @property
    def message(self) -> str:
        said = f"{self.type}: {self.text}" if self.text else self.type
        return said if self.data is None else f"{said} {json.dumps(self.data, ensure_ascii=False)}"


class LeaseLostError(LeanMQError):
    """The lease lapsed and somebody else owns the delivery now; this settlement changed nothing."""

    def __init__(
        self, message_id: str, *, message_ids: Sequence[str] = (), reason: str | None = None
    ) -> None:
        self.message_id = message_id
        self.message_ids = tuple(message_ids) or (message_id,)
        """Every message of the call that was not settled; the others were."""
        count = len(self.message_ids)
        of = f"message {message_id}" if count == 1 else f"{count} messages, {message_id} first,"
        super().__init__(
            f"the lease on {of} was lost" if reason is None else f"{of} cannot be settled: {reason}"
        )


class BlockedChangeError(LeanMQError):
    """The plan holds changes that need a permission they were not given."""

    exit_code = 4

    def __init__(self, addresses: Sequence[str], reason: str, *, hint: str | None = None) -> None:
        self.addresses = tuple(addresses)
        super().__init__(f"blocked: {', '.join(self.addresses)}: {reason}", hint=hint)


class ConcurrentApplyError(LeanMQError):
    """Another apply holds the lock, or took it over while this one ran."""

    exit_code = 6

    def __init__(self, holder: str, *, hint: str | None = None) -> None:
        self.holder = holder
        super().__init__(
            f"another apply is under way ({holder})", hint=hint or "wait for it to end, then apply again"
        )


class StalePlanError(LeanMQError):
    """The server changed since the plan was made."""

    exit_code = 6

    def __init__(self) -> None:
        super().__init__("the server changed since this plan was made", hint="plan again")


class HandlerError(LeanMQError):
    """A handler cannot be loaded or has the wrong shape."""

    exit_code = 3

    def __init__(self, handler: str, reason: str, *, hint: str | None = None) -> None:
        self.handler = handler
        super().__init__(f"handlers.{handler}: {reason}", hint=hint)


class LifespanError(LeanMQError):
    """The lifespan, which opens what handlers share, failed: at its start, or while it was needed."""


class SettingError(LeanMQError, ValueError):
    """A flag or an environment variable has a value that cannot be used."""

    exit_code = 64

    def __init__(self, name: str, reason: str, *, hint: str | None = None) -> None:
        self.name = name
        super().__init__(f"{name}: {reason}", hint=hint)


class BrokerError(LeanMQError):
    """The broker could not do what was asked."""

    exit_code = 5


class BrokerUnavailableError(BrokerError, ConnectionError):
    """The broker cannot be reached, or was not ready in time.

    `unknown` is True when the operation had been written and its answer was lost, so that it may have been
    carried out; False means it was not.
    """

    def __init__(self, message: str, *, hint: str | None = None, unknown: bool = False) -> None:
        self.unknown = unknown
        super().__init__(message, hint=hint)


class BrokerRefusedError(BrokerError):
    """The broker was reached but refuses: password, rights, version or policy."""


class BrokerFullError(BrokerError):
    """The broker is at its memory limit. Nothing was written; workers can still drain it."""


class SendUnconfirmedError(BrokerError):
    """The message is stored, but not confirmed at the durability asked for. Resending with its id is safe."""

    def __init__(
        self,
        message_id: str,
        reached: str,
        *,
        message_ids: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        self.message_id, self.reached = message_id, reached
        self.message_ids = tuple(message_ids) or (message_id,)
        """Every message of the call that is stored and not confirmed."""
        count = len(self.message_ids)
        what = f"message {message_id} is" if count == 1 else f"{count} messages, {message_id} first, are"
        why = f" (the server answers: {reason})" if reason else ""
        super().__init__(
            f"{what} stored, but confirmed only at {reached}{why}",
            hint="send it again with the same id: it is not stored twice" if count == 1 else None,
        )

"""Asking and being answered: what both colours of client know of it. No I/O here.

Replies come to one inbox a client. It is made by the first request, lives a minute unless it is renewed, and
gets a new name when it was gone: a reply to the old one finds nobody and is counted by the server.
"""

from __future__ import annotations

import base64
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from leanmq_topology.brokers.protocol import Arrived, Correspondent, Duplicate, Reply, Sender, SendResult
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.handling import being_handled
from leanmq_topology.client.options import SendOptions, read_duration, read_options
from leanmq_topology.client.sender import Batch, Draft, Form, write_draft
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.contracts.schemas import MISFIT
from leanmq_topology.errors import InvalidMessageError, LeanMQError, RemoteError, SettingError
from leanmq_topology.messages.envelope import Outgoing
from leanmq_topology.messages.message import HEADER_REPLY_TO, HEADER_ROUTE
from leanmq_topology.messages.outcome import EXPIRED
from leanmq_topology.messages.routing import Contract, Destination
from leanmq_topology.topology.durability import MEMORY, Durability
from leanmq_topology.topology.model import DAY_MS, RequestRoute, Topology

W = TypeVar("W")

LIFETIME_MS: Final = 60_000
RENEW_SECONDS: Final = 20.0
LONGEST_READ_MS: Final = 5_000
READ_AT_ONCE: Final = 1_000
TRIM_AFTER: Final = 100
"""Replies read before the inbox is told that they were."""
MOST_WAITING: Final = 5_000
"""Requests of one client at a time; the inbox holds twice as many replies."""
MOST_REMEMBERED: Final = 1_000
"""Answered requests, to tell a second reply from one that came too late."""
NAME_BYTES: Final = 10
LONGEST_TIMEOUT_MS: Final = DAY_MS
CLOCKS_DIFFER_S: Final = 0.1
"""A server counts whole milliseconds and workers reckon by it: a request's time may be up there first."""
LONGEST_TEXT: Final = 500
"""Characters of a failure's text that are raised at a caller: enough to tell what is wrong."""


class RequestBroker(Correspondent, Sender, Protocol):
    """The verbs that asking needs."""


class ReplyCounts(Struct, frozen=True):
    """Replies that found nobody waiting for them here."""

    late: int
    """They came after their request had timed out or was cancelled."""
    duplicate: int
    """Their request had been answered: its handler ran twice."""


class Mailbox(Generic[W]):
    """One inbox, and who waits for which reply. `W` is whatever a waiter of this colour is."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.name = new_inbox_name()
        self.read_to = "0"
        self.waiting: dict[str, W] = {}
        self.counts = ReplyCounts(0, 0)
        self._kept_at: float | None = None
        self._unkept = 0
        self._answered: OrderedDict[str, None] = OrderedDict()

    @property
    def is_open(self) -> bool:
        return self._kept_at is not None

    def needs_keeping(self, now: float) -> bool:
        """Whether it is time to renew it, or to drop what was read. `now` is monotonic seconds."""
        return self._kept_at is None or now - self._kept_at > RENEW_SECONDS or self._unkept >= TRIM_AFTER

    def note_kept(self, now: float) -> None:
        """It was made or renewed by a call that began at `now`."""
        self._kept_at, self._unkept = now, 0

    def move(self) -> None:
        """The inbox is gone: go on with one of another name, from its beginning."""
        self.name, self.read_to = new_inbox_name(), "0"
        self._kept_at, self._unkept = None, 0

    def add(self, request_id: str, waiter: W) -> None:
        if request_id in self.waiting:
            raise SettingError("id", f"a request {request_id!r} of this client is under way")
        if len(self.waiting) >= MOST_WAITING:
            raise LeanMQError(
                f"{MOST_WAITING} requests of this client wait for their replies already",
                hint="wait for some of them, or ask from several processes",
            )
        self.waiting[request_id] = waiter

    def take(self, arrived: Iterable[Arrived]) -> list[tuple[W, Reply]]:
        """Who gets which of these replies. What nobody waits for is dropped and counted."""
        found = []
        for item in arrived:
            self.read_to = item.place
            self._unkept += 1
            waiter = self.waiting.pop(item.reply.request_id, None)
            if waiter is None:
                self._count(item.reply.request_id, is_expiry=_is_expiry(item.reply))
            else:
                self._remember(item.reply.request_id)
                found.append((waiter, item.reply))
        return found

    def _count(self, request_id: str, *, is_expiry: bool) -> None:
        if request_id in self._answered:
            self.counts = replace(self.counts, duplicate=self.counts.duplicate + 1)
        elif not is_expiry:
            self.counts = replace(self.counts, late=self.counts.late + 1)

    def _remember(self, request_id: str) -> None:
        self._answered[request_id] = None
        if len(self._answered) > MOST_REMEMBERED:
            self._answered.popitem(last=False)


def ran_out(reply: Reply, left_s: float) -> bool:
    """Whether a reply says no more than its caller's own clock, with so many seconds left, is about to say.

    With more left it is news: the queue gives its messages less time than the caller.
    """
    return left_s < CLOCKS_DIFFER_S and _is_expiry(reply)


def _is_expiry(reply: Reply) -> bool:
    """Whether it only says that the request expired, as its client was to expect."""
    return reply.failure is not None and reply.failure.type == EXPIRED.type


def new_inbox_name() -> str:
    return base64.b32encode(os.urandom(NAME_BYTES)).decode().lower()


class Request(Batch):
    """One message that is answered."""

    __slots__ = ("_lone", "id")

    def __init__(
        self, target: str, options: SendOptions, now_ms: int, draft: Draft, lone: Outgoing | None = None
    ) -> None:
        """`lone` is what `address` would make of it."""
        self.target, self.options, self.now_ms, self.drafts = target, options, now_ms, (draft,)
        self.id, self._lone = draft.id, lone

    def address(self, destination: Destination, view: AppliedView) -> list[Outgoing]:
        """As of any batch."""
        lone = self._lone
        if lone is not None and lone.digest == destination.digest:
            return [lone]
        return super().address(destination, view)

    def find_form(self, destination: Destination, view: AppliedView) -> Form:
        """Requests without options of their own share one form, as plain sends do."""
        return _find_form(destination, self.options, view)

    def level(self, destination: Destination) -> Durability:
        """What confirms a request is its reply: waiting for a disk before would only take its time."""
        return MEMORY

    def read(self, results: Sequence[SendResult], view: AppliedView) -> list[str] | None:
        """As of any batch; but a request that was not stored is not answered. Raises `SettingError` then."""
        for result in results:
            if isinstance(result, Duplicate):
                raise SettingError(
                    "id",
                    f"request {self.id!r} to {self.target} is a duplicate of {result.id!r},"
                    " and its reply goes to whoever sent that",
                    hint="leave the id out to ask anew",
                )
        return super().read(results, view)


def foresee_timeout_ms(topology: Topology, route: str, timeout: float | str | None) -> int | None:
    """How long a request may take, as far as is known before the server is asked what is applied.

    Raises `SettingError` for a time that is none.
    """
    if timeout is not None:
        return read_duration("timeout", timeout, LONGEST_TIMEOUT_MS)
    declared = topology.routes.get(route)
    return declared.timeout_ms if isinstance(declared, RequestRoute) else None


def choose_timeout_ms(destination: Destination, timeout: float | str | None) -> int:
    """How long to wait. Raises `SettingError` for a name that nobody answers at, or a time that is none."""
    if destination.reply is None:
        raise SettingError(
            "route",
            f"nobody answers at {destination.name!r}: it is not a route of type request",
            hint=f"send to it instead, or declare: routes: {{{destination.name}: {{type: request, …}}}}",
        )
    if timeout is None:
        return destination.timeout_ms
    limit_ms = read_duration("timeout", timeout, LONGEST_TIMEOUT_MS)
    if limit_ms == 0:
        raise SettingError("timeout", "must be longer than 0")
    return limit_ms


def write_request(
    destination: Destination,
    data: Any,
    view: AppliedView,
    *,
    inbox: str,
    timeout_ms: int,
    id: str | None,
    headers: Mapping[str, str] | None,
    correlation_id: str | None,
    now_ms: int,
) -> Request:
    """A request as it is sent. It expires when nobody waits for its reply any more.

    Raises `InvalidMessageError`.
    """
    route = destination.name
    if id is None and not headers and correlation_id is None and being_handled.get() is None:
        options = _plain_options(inbox, route, timeout_ms)
        lone = _find_form(destination, options, view).write_lone(data, now_ms)
        if lone is not None:
            envelope = lone.envelope
            return Request(route, options, now_ms, Draft(envelope.id, data, envelope.data), lone)
    else:
        asked = read_options(id=id, ttl=timeout_ms / 1000, headers=headers, correlation_id=correlation_id)
        options = replace(asked, headers={**asked.headers, **_mark(inbox, route)})
    return Request(route, options, now_ms, write_draft(data, options))


def _find_form(destination: Destination, options: SendOptions, view: AppliedView) -> Form:
    form = view.request_forms.get(destination.name)
    if form is None or form.destination is not destination or form.options is not options:
        form = view.request_forms[destination.name] = Form(destination, options, view)
    return form


@lru_cache(maxsize=256)
def _plain_options(inbox: str, route: str, timeout_ms: int) -> SendOptions:
    """One object for all that ask alike, so that what follows from it is worked out once."""
    return SendOptions(ttl_ms=timeout_ms, headers=_mark(inbox, route))


def _mark(inbox: str, route: str) -> dict[str, str]:
    return {HEADER_REPLY_TO: inbox, HEADER_ROUTE: route}


def read_reply(destination: Destination, reply: Reply) -> Any:
    """The data of a reply. Raises `RemoteError`, or `InvalidMessageError` for one that breaks its schema."""
    if reply.failure is not None:
        raise RemoteError(
            reply.failure.type,
            reply.failure.message[:LONGEST_TEXT],
            route=destination.name,
            message_id=reply.request_id,
            data=_read_data(reply, destination.error) if reply.data else None,
        )
    return _read_data(reply, destination.reply)


def _read_data(reply: Reply, contract: Contract | None) -> Any:
    if contract is not None and (fitting := contract.schema.decode_fitting(reply.data)) is not MISFIT:
        return fitting
    data = decode_data(reply.data)
    violation = contract.schema.find_violation(data) if contract is not None else None
    if contract is not None and violation is not None:
        raise InvalidMessageError(violation.path, violation.reason, type=contract.type)
    return data

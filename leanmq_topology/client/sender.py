"""From data to what leaves the process: validated, typed, routed. Pure; both clients stand on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, ClassVar, Final, NamedTuple

from leanmq_topology.brokers.protocol import Duplicate, Full, SendResult, Stale, Stored, Unconfirmed
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.identity import new_message_id, new_message_ids
from leanmq_topology.client.options import PLAIN, SendOptions
from leanmq_topology.client.timestamps import format_time
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.contracts.schemas import MessageSchema
from leanmq_topology.errors import (
    BatchTooLargeError,
    InvalidMessageError,
    LeanMQError,
    QueueFullError,
    SendUnconfirmedError,
    SettingError,
)
from leanmq_topology.messages.deduplication import mark_named
from leanmq_topology.messages.envelope import Envelope, Once, Outgoing
from leanmq_topology.messages.message import HEADER_SCHEMA, HEADER_TIME, HEADER_TOPIC
from leanmq_topology.messages.routing import Contract, Destination, check_data, choose_type, route
from leanmq_topology.topology.durability import MEMORY, Durability

MOST_COPIES: Final = 1000
MOST_BYTES: Final = 4 * 1024 * 1024
"""What one atomic step may write, every copy counted."""
MOST_REFRESHES: Final = 3
"""Times a send follows an address that changes under it."""


class Draft(NamedTuple):
    """One message as the caller meant it; it stays the same however often it is routed."""

    id: str
    data: Any
    raw: bytes
    fits: MessageSchema | None = None
    """A schema that was seen to hold when the data was encoded."""


class Batch:
    """What one call sends: messages to one target under the same options, stored all or none."""

    __slots__ = ("drafts", "now_ms", "options", "target")
    tells_entries: ClassVar[bool] = False
    """Ask the server where the messages lie."""

    def __init__(self, target: str, options: SendOptions, now_ms: int, drafts: Sequence[Draft]) -> None:
        self.target, self.options, self.now_ms, self.drafts = target, options, now_ms, drafts

    def address(self, destination: Destination, view: AppliedView) -> list[Outgoing]:
        """Validate each message and make its copies.

        Raises `InvalidMessageError`, or `BatchTooLargeError` for more than one atomic step may write.
        """
        sends = self.write_copies(destination, view)
        check_size(sends)
        return sends

    def write_copies(self, destination: Destination, view: AppliedView) -> list[Outgoing]:
        """As `address`, for who looks at the size of more than this batch."""
        form = self.find_form(destination, view)
        headers = form.write_headers(self.now_ms)
        if form.options is not self.options:  # it is shared: these headers are of this batch alone
            headers = {**headers, **self.options.headers}
        try:
            return [form.address(draft, headers) for draft in self.drafts]
        except InvalidMessageError as failure:
            failure.index = form.count_valid(self.drafts, headers)
            raise

    def find_form(self, destination: Destination, view: AppliedView) -> Form:
        """Sends without options but headers share one form for as long as their destination is current."""
        if self.options is not PLAIN and not self.options.adds_only_headers:
            return Form(destination, self.options, view)
        form = view.plain_forms.get(destination.name)
        if form is None or form.destination is not destination:
            form = view.plain_forms[destination.name] = Form(destination, PLAIN, view)
        return form

    def level(self, destination: Destination) -> Durability:
        """How durable these sends are to be. Raises `SettingError` for less than the target declares."""
        return choose_durability(self.target, destination.durability, self.options.durability)

    def halve(self) -> tuple[Batch, Batch]:
        middle = len(self.drafts) // 2
        first, second = self.drafts[:middle], self.drafts[middle:]
        return self._with(first), self._with(second)

    def _with(self, drafts: Sequence[Draft]) -> Batch:
        return Batch(self.target, self.options, self.now_ms, drafts)

    def read(self, results: Sequence[SendResult], view: AppliedView) -> list[str] | None:
        """The ids under which the messages are stored, in order.

        None: the target changed on the server and nothing was written, so the batch must be addressed anew.
        Raises `QueueFullError` or `TopologyNotAppliedError`; nothing was written then either. Raises
        `SendUnconfirmedError` for messages that are stored, but not as durably as they should be by now.
        """
        for result in results:
            if type(result) is not Stored or result.differs:
                break
        else:
            return [draft.id for draft in self.drafts]
        if _is_stale(results, view):
            return None
        raise_unconfirmed(results)
        return [_read_id(self.target, one, view) for one in results]


def write_batch(
    target: str,
    items: Iterable[Any],
    options: SendOptions,
    *,
    now_ms: int,
    schema: MessageSchema | None = None,
) -> Batch:
    """Encode data. Raises `InvalidMessageError` for what JSON cannot carry unchanged.

    `schema` is what the data is most likely held against: both take one step where all of it fits.
    """
    given = items if isinstance(items, list | tuple) else list(items)
    if schema is not None and (fitting := schema.encode_all_fitting(given)) is not None:
        ids = new_message_ids(len(given))
        return Batch(target, options, now_ms, list(map(Draft, ids, given, fitting, repeat(schema))))
    raws: list[bytes] = []
    try:
        for data in given:
            raws.append(encode_data(data))  # noqa: PERF401  how many were good is told
    except InvalidMessageError as failure:
        failure.index = len(raws)
        raise
    if len(raws) == 1:
        return Batch(target, options, now_ms, (Draft(options.id or new_message_id(), given[0], raws[0]),))
    ids = new_message_ids(len(raws))
    return Batch(target, options, now_ms, list(map(Draft, ids, given, raws)))


def write_single(target: str, data: Any, options: SendOptions, *, now_ms: int) -> Batch:
    """What `write_batch` makes of one message, for less."""
    return Batch(target, options, now_ms, (write_draft(data, options),))


def write_draft(data: Any, options: SendOptions) -> Draft:
    """Encode one message. Raises `InvalidMessageError` for what JSON cannot carry unchanged."""
    try:
        raw = encode_data(data)
    except InvalidMessageError as failure:
        failure.index = 0
        raise
    return Draft(options.id or new_message_id(), data, raw)


def choose_durability(target: str, least: Durability, asked: Durability | None) -> Durability:
    """The level of a send. Raises `SettingError` when it asks for less than its target declares."""
    if asked is None:
        return least
    if not asked.covers(least):
        raise SettingError(
            "durability",
            f"{asked} is less than {target} declares ({least}); a send may only raise it",
            hint=f"write {asked.joined(least)}, or leave it out",
        )
    return asked


class Form:
    """What the messages of a batch have in common at a destination, worked out once."""

    __slots__ = (
        "_chosen",
        "_common",
        "_contract",
        "_is_marked",
        "_is_named",
        "_type",
        "_widest_lone",
        "_written",
        "destination",
        "options",
        "schema",
    )

    def __init__(self, destination: Destination, options: SendOptions, view: AppliedView) -> None:
        self.destination, self.options = destination, options
        self._type = choose_type(destination, options.type)
        self._chosen = destination.narrow(options.topic, self._type)
        self._contract = find_contract(self._type, destination, view)
        self.schema = self._contract.schema if self._contract is not None else None
        """What the data is held against; None: it has to be an object."""
        self._common = encode_headers(options, "", self._contract)
        self._written: tuple[int, Mapping[str, str]] = (-1, {})
        # A send that could not be confirmed is sent again with its id, which the server must know then.
        is_durable = (options.durability or destination.durability) != MEMORY
        self._is_named = options.id is not None or is_durable
        self._is_marked = self._is_named or self._chosen.remembers
        everyone = self._chosen.everyone
        goes_alone = not self._is_marked and options.delay_ms is None and everyone
        self._widest_lone = -1
        """Data up to this size may be sent by `write_lone`."""
        if goes_alone and everyone and len(everyone) <= MOST_COPIES:
            self._widest_lone = min(self._chosen.widest_for_all, MOST_BYTES // len(everyone))

    def write_headers(self, now_ms: int) -> Mapping[str, str]:
        """Headers of a message sent now: one object a millisecond, so that they are encoded once."""
        written = self._written  # replaced as a whole: threads share a form
        if written[0] != now_ms:
            headers = {**self._common, HEADER_TIME: format_time(now_ms)}
            written = self._written = (now_ms, headers)
        return written[1]

    def write_lone(self, data: Any, now_ms: int) -> Outgoing | None:
        """One message with these options, as `write_single` and `Batch.address` make it, in fewer steps.

        After a rest each step costs ten times what it does in a row: this is most of a lone send's latency.
        None: it has to be sent the long way. Raises `InvalidMessageError`.
        """
        queues = self._chosen.everyone
        if self._widest_lone < 0 or queues is None:
            return None
        raw = self.schema.encode_fitting(data) if self.schema is not None else None
        if raw is None:
            try:
                raw = encode_data(data)
                check_data(self._contract, data)
            except InvalidMessageError as failure:
                failure.index = 0
                raise
        if len(raw) > self._widest_lone:
            return None
        chosen = self._chosen
        return Outgoing(
            chosen.name,
            chosen.digest,
            queues,
            Envelope(new_message_id(), self._type, raw, self.write_headers(now_ms)),
            self.options.ttl_ms,
            None,
            (),
            chosen.plain,
        )

    def address(self, draft: Draft, headers: Mapping[str, str]) -> Outgoing:
        """Validate a message and make its copies. Raises `InvalidMessageError`."""
        if self.schema is None or draft.fits is not self.schema:
            check_data(self._contract, draft.data)
        destination = self._chosen
        queues = destination.everyone
        if queues is None or len(draft.raw) > destination.widest_for_all:
            queues = route(
                destination,
                type=self._type,
                headers=headers,
                data=draft.data,
                size=len(draft.raw),
            )
        return Outgoing(
            destination.name,
            destination.digest,
            queues,
            Envelope(draft.id, self._type, draft.raw, headers),
            self.options.ttl_ms,
            self.options.delay_ms,
            self._mark(draft, queues) if self._is_marked else (),
            destination.plain,
        )

    def count_valid(self, drafts: Iterable[Draft], headers: Mapping[str, str]) -> int:
        """How many stand before the first that is wrong."""
        count = 0
        for draft in drafts:
            try:
                self.address(draft, headers)
            except InvalidMessageError:
                break
            count += 1
        return count

    def _mark(self, draft: Draft, queues: tuple[str, ...]) -> tuple[Once, ...]:
        """What makes a message a duplicate; a queue that is sent to by its name decides alone."""
        destination = self._chosen
        marks = [
            one.once.mark(draft.id, draft.data)
            for one in destination.subscribers
            if one.once is not None and one.queue in queues
        ]
        decides_alone = any(mark.queue == destination.name for mark in marks)
        if self._is_named and not decides_alone:
            marks.insert(0, mark_named(draft.id))
        return tuple(marks)


def weigh(sends: Sequence[Outgoing]) -> tuple[int, int]:
    """Copies and bytes of data that these write; a send that nobody wants still takes a place."""
    if len(sends) == 1:
        made = len(sends[0].queues)
        return made or 1, made * len(sends[0].envelope.data)
    copies = size = 0
    for outgoing in sends:
        made = len(outgoing.queues)
        copies += made or 1
        size += made * len(outgoing.envelope.data)
    return copies, size


def check_size(sends: Sequence[Outgoing]) -> None:
    """Raises `BatchTooLargeError` for more than one atomic step may write."""
    copies, size = weigh(sends)
    if copies > MOST_COPIES or size > MOST_BYTES:
        raise BatchTooLargeError(copies=copies, size=size)


def keeps_changing(target: str) -> LeanMQError:
    return LeanMQError(
        f"{target!r} changed on the server {MOST_REFRESHES + 1} times while it was sent to; nothing was sent",
        hint="is something applying topologies in a loop?",
    )


def _is_stale(results: Iterable[SendResult], view: AppliedView) -> bool:
    stale = False
    for result in results:
        if isinstance(result, Full):
            raise QueueFullError(result.queue, result.max_length)
        if isinstance(result, Stale):
            view.forget(result.target)
            if result.digest is None:
                raise view.not_applied(result.target, leaving=result.leaving)
            stale = True
    return stale


def raise_unconfirmed(results: Iterable[SendResult]) -> None:
    """Raises `SendUnconfirmedError` naming every message that is stored, but not as durably as asked."""
    unconfirmed = [result for result in results if isinstance(result, Unconfirmed)]
    if unconfirmed:
        ids = [result.id for result in unconfirmed]
        raise SendUnconfirmedError(
            ids[0], unconfirmed[0].reached, message_ids=ids, reason=unconfirmed[0].reason
        )


def _read_id(target: str, result: SendResult, view: AppliedView) -> str:
    assert isinstance(result, Stored | Duplicate)
    if result.differs:
        view.note_conflict(target, result.id)
    return result.id


def find_contract(kind: str, destination: Destination, view: AppliedView) -> Contract | None:
    """What a type promises at a destination; None: no type. Raises `InvalidMessageError`."""
    if not kind:
        return None
    contract = destination.contracts.get(kind) or view.declared(kind)
    if contract is None:
        raise InvalidMessageError("", "no message of this type is declared", type=kind)
    return contract


def encode_headers(options: SendOptions, time: str, contract: Contract | None) -> Mapping[str, str]:
    """Our own, then those of the caller."""
    headers = {HEADER_TIME: time}
    if contract is not None:
        headers[HEADER_SCHEMA] = contract.reference
    if options.topic is not None:
        headers[HEADER_TOPIC] = options.topic
    headers.update(options.headers)
    return headers

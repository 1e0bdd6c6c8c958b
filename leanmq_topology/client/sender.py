"""From data to what leaves the process: validated, typed, routed. Pure; both clients stand on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from leanmq_topology.brokers.protocol import Full, SendResult, Stale
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.options import SendOptions
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import BatchTooLargeError, InvalidMessageError, LeanMQError, QueueFullError
from leanmq_topology.messages.envelope import Envelope, Outgoing
from leanmq_topology.messages.message import HEADER_SCHEMA, HEADER_TIME
from leanmq_topology.messages.routing import Contract, Destination, check_data, choose_type, route

MOST_COPIES: Final = 1000
MOST_BYTES: Final = 4 * 1024 * 1024
"""What one atomic step may write, every copy counted."""
MOST_REFRESHES: Final = 3
"""Times a send follows an address that changes under it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One send as the caller meant it; its id and time stay the same however often it is routed."""

    target: str
    data: Any
    raw: bytes
    id: str
    time: str
    options: SendOptions


def write_draft(target: str, data: Any, options: SendOptions, *, id: str, time: str) -> Draft:
    """Encode data. Raises `InvalidMessageError` for what JSON cannot carry unchanged."""
    return Draft(target, data, encode_data(data), options.id or id, time, options)


def address_draft(draft: Draft, destination: Destination, view: AppliedView) -> Outgoing:
    """Validate a draft and make its copies. Raises `InvalidMessageError` or `BatchTooLargeError`."""
    kind = choose_type(destination, draft.options.type)
    contract = _find_contract(kind, destination, view)
    check_data(contract, draft.data)
    headers = _write_headers(draft, contract)
    queues = route(destination, type=kind, headers=headers, data=draft.data, size=len(draft.raw))
    outgoing = Outgoing(
        draft.target,
        destination.digest,
        queues,
        Envelope(draft.id, kind, draft.raw, headers),
        draft.options.ttl_ms,
        draft.options.delay_ms,
    )
    check_bounds((outgoing,))
    return outgoing


def count_copies(outgoing: Outgoing) -> int:
    """What a send weighs in a flush; one that nobody wants still takes a place."""
    return len(outgoing.queues) or 1


def count_bytes(outgoing: Outgoing) -> int:
    """Bytes of data written, every copy counted."""
    return len(outgoing.envelope.data) * len(outgoing.queues)


def check_bounds(sends: Sequence[Outgoing]) -> None:
    """Raises `BatchTooLargeError` for more than one atomic step may write."""
    copies, size = sum(map(count_copies, sends)), sum(map(count_bytes, sends))
    if copies > MOST_COPIES or size > MOST_BYTES:
        raise BatchTooLargeError(copies=copies, size=size)


def follow_changes(results: Sequence[SendResult], view: AppliedView) -> bool:
    """True: an address changed and was forgotten, so the sends must be routed anew.

    Raises `QueueFullError` or `TopologyNotAppliedError`; nothing was written then.
    """
    changed = False
    for result in results:
        if isinstance(result, Full):
            raise QueueFullError(result.queue, result.max_length)
        if isinstance(result, Stale):
            view.forget(result.target)
            if result.digest is None:
                raise view.not_applied(result.target)
            changed = True
    return changed


def keeps_changing(target: str) -> LeanMQError:
    return LeanMQError(
        f"{target!r} changed on the server {MOST_REFRESHES + 1} times while it was sent to; nothing was sent",
        hint="is something applying topologies in a loop?",
    )


def _find_contract(kind: str, destination: Destination, view: AppliedView) -> Contract | None:
    if not kind:
        return None
    contract = destination.contracts.get(kind) or view.declared(kind)
    if contract is None:
        raise InvalidMessageError("", "no message of this type is declared", type=kind)
    return contract


def _write_headers(draft: Draft, contract: Contract | None) -> Mapping[str, str]:
    headers = {HEADER_TIME: draft.time}
    if contract is not None:
        headers[HEADER_SCHEMA] = contract.reference
    headers.update(draft.options.headers)
    return headers

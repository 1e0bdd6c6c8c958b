"""From data to what is published: validated and typed like any send. Pure; both clients stand on it."""

from __future__ import annotations

from typing import Any, Final

from leanmq_topology.brokers.protocol import Publication
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.identity import new_message_ids
from leanmq_topology.client.options import SendOptions
from leanmq_topology.client.sender import encode_headers, find_contract
from leanmq_topology.client.timestamps import format_time
from leanmq_topology.contracts.payload import encode_data
from leanmq_topology.errors import InvalidMessageError, LeanMQError
from leanmq_topology.messages.broadcast import encode_broadcast
from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.routing import Destination, check_data, choose_type

LARGEST_BYTES: Final = 1024 * 1024
MOST_AT_ONCE: Final = 1000
"""Messages in one round trip."""
MOST_TRIES: Final = 4
"""Times a publication follows a channel that changes under it."""

Item = tuple[int, str, Any]
"""One message to publish: its place in the call, its channel, its data."""


def write_publication(
    destination: Destination, data: Any, options: SendOptions, view: AppliedView, *, now_ms: int
) -> Publication:
    """Raises `InvalidMessageError` for what breaks its schema, is no JSON, or is larger than 1 MiB."""
    raw = encode_data(data)
    kind = choose_type(destination, options.type)
    contract = find_contract(kind, destination, view)
    check_data(contract, data)
    if len(raw) > LARGEST_BYTES:
        raise InvalidMessageError("", f"{len(raw)} bytes of data are more than a channel takes (1 MiB)")
    message_id = options.id or new_message_ids(1)[0]
    headers = encode_headers(options, format_time(now_ms), contract)
    payload = encode_broadcast(Envelope(message_id, kind, raw, headers), destination.digest)
    return Publication(destination.name, destination.digest, payload)


def keeps_changing(channel: str) -> LeanMQError:
    return LeanMQError(
        f"channel {channel!r} changed on the server {MOST_TRIES} times while it was published to"
    )

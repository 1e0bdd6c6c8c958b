"""A classic send as a batch of the client: a sender's own id is kept, and is no promise of uniqueness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from leanmq_topology.brokers.protocol import SendResult, Stored
from leanmq_topology.classic.exceptions import MessageError
from leanmq_topology.client.applied import AppliedView
from leanmq_topology.client.options import SendOptions, read_options
from leanmq_topology.client.sender import Batch, Draft, write_draft
from leanmq_topology.clock import system_clock

MOST_ID_BYTES = 256


class EntryBatch(Batch):
    """Answers with where its message lies: the id that classic consumers see."""

    tells_entries = True

    def read(self, results: Sequence[SendResult], view: AppliedView) -> list[str] | None:
        if len(results) == 1 and type(stored := results[0]) is Stored and stored.entry_id:
            return [stored.entry_id]
        ids = super().read(results, view)
        if ids is None:
            return None
        return [
            result.entry_id if isinstance(result, Stored) and result.entry_id else known
            for result, known in zip(results, ids, strict=True)
        ]


def write_message(
    queue: str, data: Any, *, message_id: str | None, ttl: float | None, type: str | None
) -> EntryBatch:
    """Check and encode one message. Raises `MessageError`, `InvalidMessageError` or `SettingError`."""
    options = read_send_options(ttl, type)
    draft = write_draft(data, options)
    if message_id is not None:
        draft = Draft(_check_id(message_id), draft.data, draft.raw)
    return EntryBatch(queue, options, system_clock(), (draft,))


def read_send_options(ttl: float | None, type: str | None) -> SendOptions:
    """Only what LeanMQ knows: seconds to live; and which of several declared types it is."""
    said: object = ttl
    if said is not None and (isinstance(said, bool) or not isinstance(said, int | float)):
        raise MessageError(f"ttl must be a number of seconds, not {ttl!r}")
    if ttl is not None and not 0 < ttl < math.inf:
        raise MessageError(f"ttl must be a positive number of seconds, not {ttl!r}")
    return read_options(ttl=ttl, type=type)


def _check_id(message_id: object) -> str:
    if not isinstance(message_id, str) or not 0 < len(message_id.encode("utf-8", "replace")) <= MOST_ID_BYTES:
        raise MessageError(f"message_id must be text of 1 to {MOST_ID_BYTES} bytes, not {message_id!r:.80}")
    try:
        message_id.encode()
    except UnicodeEncodeError:
        raise MessageError("message_id is not Unicode text") from None
    return message_id

"""A dead-letter queue: looked at without being consumed, and emptied only by explicit calls."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from leanmq_topology.brokers.protocol import DeadEntry, NoRoom, Replayed, Revival
from leanmq_topology.classic.exceptions import QueueError
from leanmq_topology.classic.queues import (
    Queue,
    QueueInfo,
    check_count,
    describe_dead,
    new_purge_id,
    read_ids,
    read_wait,
)
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.adoption import HEADER_HISTORY
from leanmq_topology.messages.envelope import Delivered
from leanmq_topology.messages.message import Message
from leanmq_topology.messages.replaying import HEADER_LINEAGE, replayed_headers

FIRST_LOOK_SECONDS: Final = 0.02
LONGEST_LOOK_SECONDS: Final = 0.5
ENTRIES_A_READ: Final = 500


class DeadLetterQueue(Queue):
    """`Queue` for dead letters. Reading it takes nothing out: the next look shows the same."""

    is_dlq = True
    consumer_group = None

    def get_info(self) -> QueueInfo:
        """What it holds."""
        [state] = self._line.execute(self._line.broker.inspect_queues([self._queue]), queue=self.name)
        return describe_dead(self.name, state, self._created_at)

    def send_message(self, *args: Any, **options: Any) -> str:
        """Nobody sends to a dead-letter queue. Raises `QueueError`."""
        raise QueueError(f"{self.name} is a dead-letter queue", hint="send to its queue, or use move_to_dlq")

    def get_messages(
        self,
        count: int = 1,
        block_for_seconds: float | None = None,
        consumer_id: str = "default-consumer",
        *,
        block: float | bool | None = None,
        timeout: float | None = None,
    ) -> list[Message]:
        """The oldest `count` dead letters; waits so long for one if there is none. They stay where they are.

        Why a message died is in `data["_failures"]`, the last failure last, unless the data has a key of that
        name itself.
        """
        ends = time.monotonic() + read_wait(block_for_seconds, block, timeout)
        check_count(count)
        pause = FIRST_LOOK_SECONDS
        while not (found := self._read(count)) and (left := ends - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_LOOK_SECONDS)
        return found

    def acknowledge_messages(self, message_ids: Sequence[str]) -> int:
        """These are dealt with: they leave the dead-letter queue, as by `delete_messages`."""
        return self.delete_messages(message_ids)

    def delete_messages(self, message_ids: Sequence[str]) -> int:
        """Forget dead letters for good; returns how many were there."""
        return sum(
            sum(self._line.execute(self._line.broker.discard_dead_letters(self._queue, ids), queue=self.name))
            for ids in read_ids(message_ids)
        )

    def move_to_dlq(self, message_ids: Sequence[str], reason: str, dlq: Queue | None = None) -> int:
        """They are there already. Raises `QueueError`."""
        raise QueueError(f"{self.name} is a dead-letter queue itself")

    def requeue_messages(self, message_ids: Sequence[str], destination_queue: Queue | None = None) -> int:
        """Send dead letters back to their queue, or to another; returns how many were there.

        Each step is atomic. They have never failed from then on, and live as long as that queue says. Raises
        `QueueError` when the queue has no room for them; those of earlier steps stay moved.
        """
        if destination_queue is not None and destination_queue.is_dlq:
            raise QueueError(f"{destination_queue.name} is a dead-letter queue", hint="name a main queue")
        destination = self._queue if destination_queue is None else destination_queue._queue
        return sum(self._requeue(ids, destination) for ids in read_ids(message_ids))

    def purge(self) -> int:
        """Delete all dead letters; returns how many went."""
        operation = self._line.broker.purge_dead_letters(self._queue, new_purge_id(), keep_ms=0)
        return self._line.execute(operation, queue=self.name).messages

    def _requeue(self, ids: Sequence[str], destination: str) -> int:
        revivals = [
            Revival(entry.entry_id, replayed_headers(entry.letter, entry.entry_id))
            for entry_id in dict.fromkeys(ids)
            for entry in self._find(entry_id)
        ]
        if not revivals:
            return 0
        operation = self._line.broker.replay(destination, revivals, source=self._queue)
        answer = self._line.execute(operation, queue=self._line.place.full_name(destination))
        if isinstance(answer, NoRoom):
            raise QueueError(f"{answer.queue} has room for {answer.room} of these {len(revivals)} messages")
        assert isinstance(answer, Replayed)
        return sum(answer.moved)

    def _find(self, entry_id: str) -> list[DeadEntry]:
        """The dead letter of that id, if it is there and can be read."""
        before = _before(entry_id)
        operation = self._line.broker.read_dead_letters(self._queue, after=before, count=1)
        found = self._line.execute(operation, queue=self.name)
        return [entry for entry in found if entry.entry_id == entry_id and entry.letter.envelope.id]

    def _read(self, count: int) -> list[Message]:
        found: list[Message] = []
        after = ""
        while len(found) < count:
            most = min(count - len(found), ENTRIES_A_READ)
            operation = self._line.broker.read_dead_letters(self._queue, after=after, count=most)
            page = self._line.execute(operation, queue=self.name)
            found += map(self._show, page)
            if len(page) < most:
                break
            after = page[-1].entry_id
        return found

    def _show(self, entry: DeadEntry) -> Message:
        envelope = entry.letter.envelope
        message = Message.of(Delivered(self._queue, entry.entry_id, envelope), _read_data(envelope.data))
        data = message.data
        if isinstance(data, dict) and "_failures" not in data:
            data = data | {"_failures": list(_tell_failures(entry))}
        return replace(message, id=entry.entry_id, data=data, delivery_count=envelope.attempt)


def _read_data(raw: bytes) -> Any:
    """What was sent; the text as it is where it is no message of ours."""
    try:
        return decode_data(raw)
    except InvalidMessageError:
        return {"_raw": raw.decode("utf-8", "replace")}


def _tell_failures(entry: DeadEntry) -> Iterator[Mapping[str, Any]]:
    headers = entry.letter.envelope.headers
    with contextlib.suppress(ValueError):
        yield from json.loads(headers.get(HEADER_HISTORY, "[]"))
    for death in filter(None, headers.get(HEADER_LINEAGE, "").split(",")):
        reason, _, entry_id = death.partition("@")
        yield {"timestamp": _seconds(entry_id), "reason": reason}
    failure = entry.letter.failure
    text = ": ".join(filter(None, (failure.type, failure.message))) or entry.letter.reason.value
    yield {"timestamp": entry.failed_at_ms / 1000, "reason": text}


def _seconds(entry_id: str) -> float:
    digits = entry_id.partition("-")[0]
    return int(digits) / 1000 if digits.isascii() and digits.isdecimal() else 0.0


def _before(entry_id: str) -> str:
    """The largest id below this one."""
    first, _, rest = entry_id.partition("-")
    if int(rest) > 0:
        return f"{first}-{int(rest) - 1}"
    return f"{int(first) - 1}-{2**64 - 1}" if int(first) > 0 else ""

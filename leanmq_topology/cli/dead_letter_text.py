"""Dead letters as they are shown: one by one, and in groups."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leanmq_topology.cli.commands.status import align
from leanmq_topology.cli.options import Invocation
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.contracts.violation import printable
from leanmq_topology.errors import InvalidMessageError
from leanmq_topology.messages.replaying import count_replays

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import DeadEntry
    from leanmq_topology.messages.outcome import Failure
    from leanmq_topology.operations.dead_letters import Group

DATA_SHOWN = 200
"""Characters of a message's data in a list; `dlq show` and `-o json` have all of it."""


def show_letters(call: Invocation, found: Sequence[DeadEntry]) -> None:
    """The answer of every command that lists dead letters."""
    text = "\n".join(render_list(found)) if found else "no dead letters"
    call.output.data("dlq", {"messages": [describe(entry) for entry in found]}, text)


def describe(entry: DeadEntry) -> dict[str, Any]:
    """One dead letter of the JSON form; `data` is null where it cannot be read as JSON."""
    letter = entry.letter
    return {
        "id": letter.envelope.id,
        "entry": entry.entry_id,
        "queue": entry.queue,
        "type": letter.envelope.type,
        "reason": letter.reason.value,
        "error": {"type": letter.failure.type, "message": letter.failure.message},
        "attempts": letter.envelope.attempt,
        "replayed": count_replays(letter.envelope.headers),
        "failed_at": entry.failed_at_ms / 1000,
        "headers": dict(letter.envelope.headers),
        "data": read_data(letter.envelope.data),
    }


def describe_group(group: Group) -> dict[str, Any]:
    return {
        "queue": group.queue,
        "reason": group.reason.value,
        "error_type": group.error_type,
        "count": group.count,
        "replayed_before": group.again,
        "first_failed_at": group.first_ms / 1000,
        "last_failed_at": group.last_ms / 1000,
        "newest_id": group.newest_id,
    }


def render_list(found: Sequence[DeadEntry]) -> Iterator[str]:
    """Grouped by queue: id, type and reason on a line, then the error and the data."""
    now, queue = time.time(), None
    for entry in found:
        if entry.queue != queue:
            queue = entry.queue
            yield printable(queue)
        letter = entry.letter
        name = f"{letter.envelope.id or entry.entry_id}  {letter.envelope.type or '-'}"
        yield printable(f"  {name}  {tell_end(entry)}, {tell_age(now - entry.failed_at_ms / 1000)}")
        yield printable(f"    {tell_failure(letter.failure)}")
        if letter.envelope.data:
            yield f"    {show_data(letter.envelope.data)}"


def render_one(entry: DeadEntry) -> Iterator[str]:
    """All of one dead letter."""
    letter = entry.letter
    died = datetime.fromtimestamp(entry.failed_at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    rows = [
        ("queue", entry.queue),
        ("id", letter.envelope.id or "-"),
        ("entry", entry.entry_id),
        ("type", letter.envelope.type or "-"),
        ("died", f"{died}, {tell_end(entry)}"),
        ("error", tell_failure(letter.failure)),
        *((f"header {name}", value) for name, value in letter.envelope.headers.items()),
        ("data", read_text(letter.envelope.data)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        yield printable(f"{name.ljust(width)}  {value}")


def render_groups(groups: Sequence[Group]) -> Iterator[str]:
    now = time.time()
    heads = ("queue", "reason", "error", "count", "replayed before", "first", "last")
    rows = [
        (
            printable(group.queue),
            group.reason.value,
            printable(group.error_type) or "-",
            f"{group.count:,}",
            f"{group.again:,}",
            tell_age(now - group.first_ms / 1000),
            tell_age(now - group.last_ms / 1000),
        )
        for group in groups
    ]
    yield from align([heads, *rows])


def read_data(raw: bytes) -> Any:
    """The data, or None where it is no JSON."""
    try:
        return decode_data(raw)
    except InvalidMessageError:
        return None


def show_data(raw: bytes) -> str:
    """The data on one line, cut to what a list has room for."""
    text = read_text(raw)
    return text if len(text) <= DATA_SHOWN else f"{text[: DATA_SHOWN - 1]}…"


def tell_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(int(seconds), 0)} s ago"


def count_letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def tell_end(entry: DeadEntry) -> str:
    """Why, after how many attempts, and whether it was replayed before."""
    attempts = entry.letter.envelope.attempt
    end = f"{entry.letter.reason.value} after {attempts} attempt{'' if attempts == 1 else 's'}"
    replays = count_replays(entry.letter.envelope.headers)
    return f"{end}, replayed {replays} time{'' if replays == 1 else 's'} before" if replays else end


def read_text(raw: bytes) -> str:
    """The data on one line, all of it."""
    return printable(raw.decode("utf-8", "backslashreplace"))


def tell_failure(failure: Failure) -> str:
    """Class and text of what went wrong; what was moved by hand has a text alone."""
    return ": ".join(filter(None, (failure.type, failure.message)))

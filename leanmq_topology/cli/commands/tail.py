"""`leanmq tail`: follow what arrives in queues."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.brokers.protocol import DeadEntry
from leanmq_topology.cli.commands.run import Duration
from leanmq_topology.cli.commands.sub import NotHeardError
from leanmq_topology.cli.dead_letter_filters import where_option
from leanmq_topology.cli.dead_letter_text import read_data, show_data, tell_failure
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.contracts.violation import printable
from leanmq_topology.messages.selection import Condition, all_hold

if TYPE_CHECKING:
    from leanmq_topology.messages.codec import DeadLetter
    from leanmq_topology.messages.envelope import Envelope
    from leanmq_topology.operations.following import Arrival, Follower


@click.command("tail")
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option("--dead", is_flag=True, help="What arrives in the dead-letter queues instead.")
@click.option("--since", "back_ms", type=Duration(), help="Begin with what came so recently, such as 10m.")
@where_option
@click.option("--limit", type=click.IntRange(1), help="End after so many messages.")
@click.option(
    "--for", "for_ms", type=Duration(), help="End after this time; with fewer than --limit exits 7."
)
@common_options()
def command(
    call: Invocation,
    targets: tuple[str, ...],
    dead: bool,
    back_ms: int | None,
    where: tuple[Condition, ...],
    limit: int | None,
    for_ms: int | None,
) -> None:
    """Follow what arrives in queues, and in those behind routes, until Ctrl-C. Looks, never consumes.

    Without a target it is every queue. Each message is a line, each of its retries another. One that is
    handled in the very moment it comes may be missed. With `-o json` each line is a document.
    """
    from leanmq_topology.operations.following import Follower, choose_followed

    until = None if for_ms is None else time.monotonic() + for_ms / 1000
    with open_link(call, client_name="leanmq-tail") as (link, namespace):
        queues = choose_followed(link, targets, namespace)
        follower = Follower(link, queues, dead=dead, told=call.output.note)
        follower.begin(back_ms)
        call.output.note(f"following {_name(queues)}{' (dead letters)' if dead else ''}; Ctrl-C ends it")
        shown = 0
        try:
            for entry in islice(_select(follower, where, until), limit):
                _print(call, entry)
                shown += 1
        except KeyboardInterrupt:
            return
    if limit is not None and shown < limit:
        raise NotHeardError(limit, shown)


def _name(queues: list[str]) -> str:
    named = ", ".join(queues[:5])
    return named if len(queues) <= 5 else f"{named} and {len(queues) - 5} more queues"


def _select(follower: Follower, where: tuple[Condition, ...], until: float | None) -> Iterator[Arrival]:
    for entry in follower.read(until):
        envelope, _ = _open(entry)
        if all_hold(where, envelope.data if envelope else b""):
            yield entry


def _print(call: Invocation, entry: Arrival) -> None:
    if call.output.is_json:
        call.output.line(json.dumps({"schema": "leanmq.tail/v1", **describe(entry)}, ensure_ascii=False))
    else:
        call.output.line(render(entry))
    sys.stdout.flush()


def describe(entry: Arrival) -> dict[str, Any]:
    """One of `leanmq.tail/v1`; an entry that is not one of ours has no id, type and data."""
    envelope, letter = _open(entry)
    return {
        "queue": entry.queue,
        "id": envelope.id if envelope else "",
        "entry": entry.entry_id,
        "type": envelope.type if envelope else "",
        "arrived_at": _arrived_ms(entry) / 1000,
        "attempts": envelope.attempt if envelope else 0,
        "reason": letter.reason.value if letter else None,
        "error": {"type": letter.failure.type, "message": letter.failure.message} if letter else None,
        "expires_at": envelope.expires_ms / 1000 if envelope and envelope.expires_ms is not None else None,
        "headers": dict(envelope.headers) if envelope else {},
        "data": read_data(envelope.data) if envelope else None,
    }


def render(entry: Arrival) -> str:
    """Time, queue, id, type, what became of it so far, and the data, on one line."""
    envelope, letter = _open(entry)
    came = datetime.fromtimestamp(_arrived_ms(entry) / 1000, UTC)
    parts = [f"{came:%Y-%m-%dT%H:%M:%S}.{_arrived_ms(entry) % 1000:03d}Z", printable(entry.queue)]
    if envelope is None:
        return "  ".join([*parts, entry.entry_id, "(unreadable)"])
    parts += [printable(envelope.id or entry.entry_id), printable(envelope.type) or "-"]
    if letter is not None:
        count = f"{envelope.attempt} attempt{'' if envelope.attempt == 1 else 's'}"
        parts.append(printable(f"{letter.reason.value} after {count}: {tell_failure(letter.failure)}"))
    elif envelope.attempt:
        parts.append(f"attempt {envelope.attempt + 1}")
    return "  ".join([*parts, show_data(envelope.data)])


def _open(entry: Arrival) -> tuple[Envelope | None, DeadLetter | None]:
    """The message of either kind of entry, and its end where it has come to one."""
    if isinstance(entry, DeadEntry):
        return entry.letter.envelope, entry.letter
    return entry.envelope, None


def _arrived_ms(entry: Arrival) -> int:
    """An entry's id begins with the server's time at which it was added."""
    return int(entry.entry_id.partition("-")[0])

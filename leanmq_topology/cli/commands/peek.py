"""`leanmq peek`: look at the messages of a queue without taking them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.dead_letter_text import read_data, show_data, show_letters, tell_age
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.contracts.violation import printable

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import WaitingEntry


@click.command("peek")
@click.argument("queue", metavar="QUEUE")
@click.option(
    "-n",
    "count",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="At most so many of each kind.",
)
@click.option("--dead", is_flag=True, help="The dead-letter queue instead, oldest first.")
@common_options()
def command(call: Invocation, queue: str, count: int, dead: bool) -> None:
    """Show messages in flight, ready and delayed, first ones first. Looks, never consumes."""
    from leanmq_topology.operations.queues import choose_queues

    with open_link(call, client_name="leanmq-peek") as (link, namespace):
        [name] = choose_queues(link, [queue], namespace)
        if dead:
            letters = link.connection.execute(link.broker.read_dead_letters(name, after="", count=count))
            show_letters(call, letters)
        else:
            _show_waiting(call, name, link.connection.execute(link.broker.peek(name, count=count)))


def _show_waiting(call: Invocation, queue: str, found: Sequence[WaitingEntry]) -> None:
    payload = {"queue": queue, "messages": [describe_waiting(entry) for entry in found]}
    call.output.data("peek", payload, "\n".join(render(found)) if found else f"{queue} is empty")


def describe_waiting(entry: WaitingEntry) -> dict[str, Any]:
    """One message of the JSON form; an entry that is not one of ours has no id, type and data."""
    envelope = entry.envelope
    return {
        "id": envelope.id if envelope else "",
        "state": entry.place.value,
        "type": envelope.type if envelope else "",
        "since": None if entry.since_ms is None else entry.since_ms / 1000,
        "worker": entry.consumer or None,
        "attempt": (envelope.attempt if envelope else 0) + entry.delivery_count,
        "expires_at": envelope.expires_ms / 1000 if envelope and envelope.expires_ms is not None else None,
        "headers": dict(envelope.headers) if envelope else {},
        "data": read_data(envelope.data) if envelope else None,
    }


def render(found: Sequence[WaitingEntry]) -> Iterator[str]:
    """By state: id, type and standing on a line, then the data."""
    now, place = time.time(), None
    for entry in found:
        if entry.place != place:
            place = entry.place
            yield place.value.replace("_", " ")
        envelope = entry.envelope
        name = f"{envelope.id}  {envelope.type or '-'}" if envelope else f"{entry.entry_id}  (unreadable)"
        yield printable(f"  {name}  {tell_standing(entry, now)}")
        if envelope:
            yield f"    {show_data(envelope.data)}"


def tell_standing(entry: WaitingEntry, now: float) -> str:
    """How long it has been so, or how long it will."""
    from leanmq_topology.brokers.protocol import MessagePlace

    if entry.since_ms is None:
        return "waits for room in the dead-letter queue"
    seconds = now - entry.since_ms / 1000
    if entry.place is MessagePlace.DELAYED:
        return f"due in {max(-seconds, 0):,.0f} s"
    if entry.place is MessagePlace.ACKED:
        return tell_age(seconds)
    if entry.place is MessagePlace.IN_FLIGHT:
        return f"with {entry.consumer}, hand-out {entry.delivery_count}, {tell_age(seconds)}"
    return f"since {tell_age(seconds).removesuffix(' ago')}"

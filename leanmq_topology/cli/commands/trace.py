"""`leanmq trace`: one message, wherever it is now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from leanmq_topology.brokers.protocol import DeadEntry, Shelf
from leanmq_topology.cli.commands.peek import describe_waiting, tell_standing
from leanmq_topology.cli.dead_letter_text import describe as describe_letter
from leanmq_topology.cli.dead_letter_text import read_text, tell_age, tell_end, tell_failure
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, check_text, common_options
from leanmq_topology.contracts.violation import printable
from leanmq_topology.errors import UnknownMessageError
from leanmq_topology.operations.tracing import (
    MOST_SEARCHED,
    Sighting,
    Trace,
    Unsearched,
    trace_message,
)

SHELVES = {Shelf.QUEUE: "ready and in flight", Shelf.ACKED: "acknowledged"}
NOT_KEPT = "a message that was handled leaves nothing behind, unless its queue says `keep_acked`"


@click.command("trace")
@click.argument("id", metavar="ID", callback=check_text)
@click.option("--correlation", is_flag=True, help="ID is a correlation id: show every message of that story.")
@click.option(
    "--scan",
    type=click.IntRange(1),
    default=MOST_SEARCHED,
    show_default=True,
    help="Look at about so many messages of each kind in each queue.",
)
@common_options()
def command(call: Invocation, id: str, correlation: bool, scan: int) -> None:
    """Show all that the server knows of a message: where each copy of it is, and what its handling caused.

    Looks through what is ready, in flight, delayed, dead, kept after its acknowledgement, and what a purge
    took. Touches nothing.
    """
    from leanmq_topology.operations.queues import choose_queues

    with open_link(call, client_name="leanmq-trace") as (link, namespace):
        trace = trace_message(link, choose_queues(link, [], namespace), id, correlated=correlation, most=scan)
    missed = "\n".join(map(tell_unsearched, trace.unsearched))
    if not trace.copies and not trace.caused:
        place = f"a queue of namespace {namespace!r}"
        raise UnknownMessageError(id, place, hint="\n  ".join(filter(None, (NOT_KEPT, missed))))
    call.output.data("trace", describe(id, trace), "\n".join(render(id, trace)))
    if missed and not call.output.is_json:
        call.output.note(missed)


def describe(id: str, trace: Trace) -> dict[str, Any]:
    """The shape of `leanmq.trace/v1`."""
    return {
        "id": id,
        "messages": [describe_sighting(sighting) for sighting in trace.copies],
        "caused": [describe_sighting(sighting) for sighting in trace.caused],
        "unsearched": [
            {"queue": one.queue, "place": one.shelf.value, "looked_at": one.looked_at}
            for one in trace.unsearched
        ],
    }


def describe_sighting(sighting: Sighting) -> dict[str, Any]:
    """One copy. What only some places know is null elsewhere."""
    entry, purge = sighting.entry, sighting.purge
    expires_ms = sighting.envelope.expires_ms
    more: dict[str, Any]
    if isinstance(entry, DeadEntry):
        letter = describe_letter(entry)
        more = {"state": "dead", "since": letter["failed_at"], "worker": None, "attempt": letter["attempts"]}
        more |= {name: letter[name] for name in ("id", "type", "headers", "data", "reason", "error")}
        more["expires_at"] = None if expires_ms is None else expires_ms / 1000
    else:
        more = {**describe_waiting(entry), "reason": None, "error": None}
    return {
        "queue": entry.queue,
        "entry": entry.entry_id or None,
        "undo_until": (purge.at_ms + purge.keep_ms) / 1000 if purge else None,
        **more,
    }


def render(id: str, trace: Trace) -> Iterator[str]:
    """Each message with where its copies are, its headers and data; then what it caused, a line each."""
    now = time.time()
    ids = list(dict.fromkeys(sighting.envelope.id for sighting in trace.copies))
    for one in ids:
        yield from _render_message([copy for copy in trace.copies if copy.envelope.id == one], now)
    if not ids:
        yield f"{printable(id)}  is in no queue any more"
    if trace.caused:
        yield "caused"
        width = max(len(sighting.entry.queue) for sighting in trace.caused)
        for sighting in trace.caused:
            envelope = sighting.envelope
            name = printable(f"{envelope.id}  {envelope.type or '-'}")
            yield f"  {name}  {sighting.entry.queue:<{width}}  {tell_place(sighting, now)}"


def _render_message(copies: Sequence[Sighting], now: float) -> Iterator[str]:
    envelope = copies[0].envelope
    yield printable(f"{envelope.id}  {envelope.type or '-'}")
    rows = [(sighting.entry.queue, tell_place(sighting, now)) for sighting in copies]
    rows += [(f"header {name}", value) for name, value in envelope.headers.items()]
    rows.append(("data", read_text(envelope.data)))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        yield printable(f"  {name.ljust(width)}  {text}")


def tell_place(sighting: Sighting, now: float) -> str:
    """What state it is in, and since when."""
    entry, purge = sighting.entry, sighting.purge
    if isinstance(entry, DeadEntry):
        age = tell_age(now - entry.failed_at_ms / 1000)
        place = f"dead, {tell_end(entry)}, {age}: {tell_failure(entry.letter.failure)}"
    else:
        failed = entry.envelope.attempt if entry.envelope else 0
        after = f", {failed} failed attempt{'' if failed == 1 else 's'} before" if failed else ""
        place = f"{entry.place.value.replace('_', ' ')} {tell_standing(entry, now)}{after}"
    if purge is None:
        return place
    back = f"leanmq purge --undo {entry.queue}{' --dead' if purge.of_dead_letters else ''}"
    return f"purged {tell_age(now - purge.at_ms / 1000)} (`{back}` brings it back), was {place}"


def tell_unsearched(one: Unsearched) -> str:
    """Where there was more than was looked at."""
    what = SHELVES.get(one.shelf, one.shelf.value)
    return (
        f"{one.queue}: only the first {one.looked_at:,} that are {what} were looked at; --scan looks further"
    )

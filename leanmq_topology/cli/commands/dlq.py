"""`leanmq dlq list`: what could not be handled, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.contracts.violation import printable
from leanmq_topology.diagnostics import closest
from leanmq_topology.errors import InvalidMessageError, TopologyNotAppliedError, UnknownTargetError
from leanmq_topology.messages.outcome import DeadReason

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import BlockingLink
    from leanmq_topology.brokers.protocol import DeadEntry

ENTRIES_A_READ = 200
DATA_SHOWN = 200
"""Characters of a message's data in the text form; `-o json` has all of it."""


@click.group("dlq")
def command() -> None:
    """Look into dead-letter queues."""


@command.command("list")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--reason", type=click.Choice([reason.value for reason in DeadReason]), help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
@common_options()
def list_letters(call: Invocation, queues: tuple[str, ...], reason: str | None, limit: int) -> None:
    """Show dead letters with their reason, oldest first in each queue. Looks, never consumes."""
    from leanmq_topology.brokers.connect import open_blocking

    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    with open_blocking(url, namespace=namespace, folder=topology.folder) as link:
        names = choose_queues(link, queues, namespace)
        found = [entry for name in names for entry in read_queue(link, name, reason, limit)][:limit]
    payload = {"messages": [describe(entry) for entry in found]}
    call.output.data("dlq", payload, "\n".join(render(found)) if found else "no dead letters")


def choose_queues(link: BlockingLink, named: Sequence[str], namespace: str) -> list[str]:
    """The queues named, or all that are applied. Raises `UnknownTargetError` for one that is not."""
    record = link.connection.execute(link.broker.read_record())
    applied = sorted(
        address.removeprefix("queues.") for address in record.resources if address.startswith("queues.")
    )
    if not applied:
        raise TopologyNotAppliedError([], namespace=namespace)
    for name in named:
        if name not in applied:
            raise UnknownTargetError(name, closest=closest(name, applied))
    return list(dict.fromkeys(named)) or applied


def read_queue(link: BlockingLink, queue: str, reason: str | None, limit: int) -> Iterator[DeadEntry]:
    """The oldest dead letters of a queue, up to `limit` of this reason."""
    after, left = "", limit
    while left:
        page = link.connection.execute(
            link.broker.read_dead_letters(queue, after=after, count=ENTRIES_A_READ)
        )
        for entry in page:
            if left and (reason is None or entry.letter.reason == reason):
                left -= 1
                yield entry
        if len(page) < ENTRIES_A_READ:
            return
        after = page[-1].entry_id


def describe(entry: DeadEntry) -> dict[str, Any]:
    """One dead letter of the JSON form; `data` is null where it cannot be read as JSON."""
    letter = entry.letter
    return {
        "id": letter.envelope.id,
        "queue": entry.queue,
        "type": letter.envelope.type,
        "reason": letter.reason.value,
        "error": {"type": letter.failure.type, "message": letter.failure.message},
        "attempts": letter.envelope.attempt,
        "failed_at": entry.failed_at_ms / 1000,
        "data": _read_data(letter.envelope.data),
    }


def render(found: Sequence[DeadEntry]) -> Iterator[str]:
    """Grouped by queue: id, type and reason on a line, then the error and the data."""
    now, queue = time.time(), None
    for entry in found:
        if entry.queue != queue:
            queue = entry.queue
            yield printable(queue)
        letter = entry.letter
        attempts = f"{letter.envelope.attempt} attempt{'' if letter.envelope.attempt == 1 else 's'}"
        ago = _ago(now - entry.failed_at_ms / 1000)
        yield printable(f"  {letter.envelope.id or entry.entry_id}  {letter.envelope.type or '-'}  "
                        f"{letter.reason.value} after {attempts}, {ago}")  # fmt: skip
        yield printable(f"    {letter.failure.type}: {letter.failure.message}".rstrip(": "))
        if letter.envelope.data:
            yield "    " + _shorten(printable(letter.envelope.data.decode("utf-8", "backslashreplace")))


def _read_data(raw: bytes) -> Any:
    from leanmq_topology.contracts.payload import decode_data

    try:
        return decode_data(raw)
    except InvalidMessageError:
        return None


def _shorten(text: str) -> str:
    return text if len(text) <= DATA_SHOWN else f"{text[: DATA_SHOWN - 1]}…"


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(int(seconds), 0)} s ago"

"""`leanmq dlq replay` and `leanmq dlq discard`: counted first, then asked for, then done step by step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.approval import ask_approval
from leanmq_topology.cli.dead_letter_filters import filter_options
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.messages.selection import Selection

if TYPE_CHECKING:
    from leanmq_topology.operations.dead_letters import Chosen, Link, Pace, Treated

    Carry = Callable[[Link, Chosen, Pace], Iterator[list[Treated]]]

FAILED_SHOWN = 20
FATES = {
    "gone": "was gone already",
    "unreadable": "is not a message that could be handled",
    "queue_full": "stays: the queue is full",
    "broker_full": "stays: the server is at its memory limit",
    "unknown": "is not in a dead-letter queue",
}


def move_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both commands take besides the filters."""
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked."),
        click.option("--dry-run", is_flag=True, help="Only say what is meant."),
        click.option("--rate", type=click.IntRange(1), metavar="N", help="At most so many a second."),
        click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many, oldest first."),
    ):
        command = option(command)
    return command


@click.command("replay")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filter_options
@move_options
@common_options()
def replay(call: Invocation, queues: tuple[str, ...], selection: Selection, **how: Any) -> None:
    """Send dead letters back to the queues they came from.

    Each keeps its id and data, has no attempts yet, and lives as long as its queue's ttl says from now on.
    Messages named with --id are not asked about. A queue that gets full takes no more; the rest stays dead.
    The exit code is 1 if any of the messages meant was not replayed.
    """
    from leanmq_topology.operations.dead_letters import replay_dead_letters

    _move(call, "replay", queues, selection, replay_dead_letters, asks=not selection.ids, **how)


@click.command("discard")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filter_options
@move_options
@common_options()
def discard(call: Invocation, queues: tuple[str, ...], selection: Selection, **how: Any) -> None:
    """Forget dead letters for good. `leanmq dlq export` keeps a copy; `leanmq purge --dead` can be undone."""
    from leanmq_topology.operations.dead_letters import discard_dead_letters

    _move(call, "discard", queues, selection, discard_dead_letters, asks=True, **how)


def _move(
    call: Invocation,
    verb: str,
    queues: tuple[str, ...],
    selection: Selection,
    carry: Carry,
    *,
    asks: bool,
    limit: int | None,
    rate: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    from leanmq_topology.cli.dead_letter_text import count_letters
    from leanmq_topology.operations.dead_letters import Fate, Pace, Treated, choose_dead_letters
    from leanmq_topology.operations.queues import choose_queues

    treated: list[Treated] = []
    with open_link(call, client_name="leanmq-dlq") as (link, namespace):
        names = choose_queues(link, queues, namespace)
        chosen = choose_dead_letters(link, names, selection, limit=limit)
        if chosen.count and not dry_run:
            if asks and not yes:
                _show_counts(call, chosen)
                deed = f"{verb} {count_letters(chosen.count)}"
                ask_approval(call, [f"queues.{name}" for name in chosen.counts], deed)
            with _telling(call, verb, treated):
                for step in carry(link, chosen, Pace(rate)):
                    treated += step
    treated += [Treated("", id, Fate.UNKNOWN) for id in chosen.unknown]
    _finish(call, verb, chosen, treated, dry_run=dry_run)


def _show_counts(call: Invocation, chosen: Chosen) -> None:
    """How many of which queue, for the person who decides."""
    if not call.output.is_json:
        for line in _counts(chosen):
            call.output.note(line)


def _counts(chosen: Chosen) -> list[str]:
    return [f"{queue}: {count:,}" for queue, count in chosen.counts.items()]


@contextmanager
def _telling(call: Invocation, verb: str, treated: list[Treated]) -> Iterator[None]:
    """Whatever ends it early, say how far it came."""
    try:
        yield
    except BaseException:
        call.output.note(f"{_count_done(treated):,} {_past(verb)} so far; the rest is untouched")
        raise


def _finish(call: Invocation, verb: str, chosen: Chosen, treated: list[Treated], *, dry_run: bool) -> None:
    failed = [item for item in treated if item.fate.failed]
    payload = {
        "dry_run": dry_run,
        "selected": dict(chosen.counts),
        _past(verb): _count_done(treated),
        "failed": len(failed),
        "results": [
            {"id": item.id, "queue": item.queue or None, "result": item.fate.value} for item in treated
        ],
    }
    call.output.data(f"dlq-{verb}", payload, "\n".join(_render(verb, chosen, treated, dry_run=dry_run)))
    if failed:
        raise click.exceptions.Exit(1)


def _render(verb: str, chosen: Chosen, treated: list[Treated], *, dry_run: bool) -> Iterator[str]:
    from leanmq_topology.cli.dead_letter_text import count_letters
    from leanmq_topology.contracts.violation import printable

    failed = [item for item in treated if item.fate.failed]
    for item in failed[:FAILED_SHOWN]:
        yield printable(f"{item.id} {FATES[item.fate.value]}")
    if len(failed) > FAILED_SHOWN:
        rest = Counter(FATES[item.fate.value] for item in failed[FAILED_SHOWN:])
        yield from (f"{count:,} more: {what}" for what, count in rest.items())
    if dry_run:
        yield from _counts(chosen)
        yield f"{count_letters(chosen.count)} would be {_past(verb)}"
    elif chosen.count:
        yield f"{_count_done(treated):,} {_past(verb)}"
    elif not failed:
        yield "no dead letters"


def _count_done(treated: list[Treated]) -> int:
    return sum(not item.fate.failed for item in treated)


def _past(verb: str) -> str:
    return f"{verb}ed"

"""`leanmq dlq`: what could not be handled, and why; and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import click

from leanmq_topology.cli.commands.dlq_moves import discard, replay
from leanmq_topology.cli.dead_letter_filters import filter_options
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.errors import UnknownMessageError
from leanmq_topology.messages.selection import Selection

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import DeadEntry

SHOWN = 100


@click.group("dlq")
def command() -> None:
    """Look into dead-letter queues; replay or discard what lies there."""


command.add_command(replay)
command.add_command(discard)


@command.command("list")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filter_options
@click.option("--limit", type=click.IntRange(1), default=SHOWN, show_default=True, help="At most so many.")
@common_options()
def list_letters(call: Invocation, queues: tuple[str, ...], selection: Selection, limit: int) -> None:
    """Show dead letters with their reason, oldest first in each queue. Looks, never consumes."""
    from leanmq_topology.cli.dead_letter_text import show_letters

    with _reading(call, queues, selection) as entries:
        found = list(islice(entries, limit))
    show_letters(call, found)


@command.command("show")
@click.argument("id", metavar="ID")
@common_options()
def show(call: Invocation, id: str) -> None:
    """Show all of one dead letter: headers, error, data. A fan-out event may lie in several queues."""
    from leanmq_topology.cli.dead_letter_text import describe, render_one

    with _reading(call, (), Selection(ids=frozenset({id}))) as entries:
        found = list(entries)
    if not found:
        raise UnknownMessageError(id, "a dead-letter queue")
    text = "\n\n".join("\n".join(render_one(entry)) for entry in found)
    call.output.data("dlq", {"messages": [describe(entry) for entry in found]}, text)


@command.command("stats")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filter_options
@common_options()
def stats(call: Invocation, queues: tuple[str, ...], selection: Selection) -> None:
    """Count dead letters by queue, reason and type of error."""
    from leanmq_topology.cli.dead_letter_text import describe_group, render_groups
    from leanmq_topology.operations.dead_letters import group_dead_letters

    with _reading(call, queues, selection) as entries:
        groups = group_dead_letters(entries)
    text = "\n".join(render_groups(groups)) if groups else "no dead letters"
    call.output.data("dlq-stats", {"groups": [describe_group(group) for group in groups]}, text)


@command.command("export")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@filter_options
@common_options()
def export(call: Invocation, queues: tuple[str, ...], selection: Selection) -> None:
    """Print every dead letter as a line of JSON; with `-o json` as one document. Nothing is removed."""
    from leanmq_topology.cli.dead_letter_text import describe

    with _reading(call, queues, selection) as entries:
        if call.output.is_json:
            call.output.data("dlq", {"messages": [describe(entry) for entry in entries]}, "")
            return
        for entry in entries:
            call.output.line(json.dumps(describe(entry), ensure_ascii=False))


@contextmanager
def _reading(
    call: Invocation, queues: tuple[str, ...], selection: Selection
) -> Iterator[Iterator[DeadEntry]]:
    """The dead letters that are meant, read while one goes through them."""
    from leanmq_topology.operations.dead_letters import find_dead_letters, settle_age
    from leanmq_topology.operations.queues import choose_queues

    with open_link(call, client_name="leanmq-dlq") as (link, namespace):
        names = choose_queues(link, queues, namespace)
        yield find_dead_letters(link, names, settle_age(link, selection))

"""`leanmq history`: what was applied to a namespace, when, by whom, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.contracts.violation import printable

if TYPE_CHECKING:
    from leanmq_topology.plan.revision import PastRevision

HEADINGS: Final = ("generation", "when", "who", "commit", "changes")
WORDS: Final = {
    "create": "created",
    "update": "updated",
    "delete": "deleted",
    "drain": "set to drain",
    "retain": "let go",
}
COMPLETES: Final = "completes an apply that did not finish; what that one had done is not counted"
MOST_ADDRESSES: Final = 3
"""Shown of a revision in text; JSON has all that are remembered."""


@click.command("history")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="At most so many revisions.",
)
@common_options()
def command(call: Invocation, limit: int) -> None:
    """Show what was applied, newest first: when, by whom, from which commit, and what it changed.

    A namespace remembers about a thousand revisions.
    """
    from leanmq_topology.operations.history import read_history

    with open_link(call, client_name="leanmq-history") as (link, namespace):
        found = read_history(link, namespace, count=limit)
    revisions = [describe(revision) for revision in found.revisions]
    text = "\n".join(render(found.revisions)) if revisions else "nothing is remembered of the applies so far"
    call.output.data("history", {"generation": found.generation, "revisions": revisions}, text)


def describe(revision: PastRevision) -> dict[str, Any]:
    """One of `leanmq.history/v1`."""
    return {
        "generation": revision.generation,
        "at": revision.at_ms / 1000,
        "by": revision.by,
        "commit": revision.commit,
        "fingerprint": revision.fingerprint,
        "summary": {action: revision.summary.get(action, 0) for action in WORDS},
        "changes": [{"address": address, "action": action} for address, action in revision.changes.items()],
        "completes": revision.completes,
    }


def render(revisions: Sequence[PastRevision]) -> Iterator[str]:
    """A line each; the longest column comes last."""
    rows = [
        (
            str(revision.generation),
            f"{datetime.fromtimestamp(revision.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC",
            printable(revision.by),
            (revision.commit or "-")[:10],
            tell_changes(revision),
        )
        for revision in revisions
    ]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    for row in (HEADINGS, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def tell_changes(revision: PastRevision) -> str:
    """`2 created, 1 updated: queues.a, queues.b, queues.c`."""
    counts = [f"{count:,} {WORDS.get(action, action)}" for action, count in revision.summary.items() if count]
    if not counts:
        return COMPLETES if revision.completes else "the record only"
    shown = list(revision.changes)[:MOST_ADDRESSES]
    more = ", …" if revision.changed > len(shown) else ""
    told = f"{', '.join(counts)}: {', '.join(shown)}{more}"
    return f"{told}; {COMPLETES}" if revision.completes else told

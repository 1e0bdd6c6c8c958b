"""`leanmq purge`: take everything out of queues at once; and bring it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.approval import ask_approval
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import Purge
    from leanmq_topology.operations.queues import Link


@click.command("purge")
@click.argument("queues", nargs=-1, required=True, metavar="QUEUE...")
@click.option("--dead", is_flag=True, help="The dead-letter queues instead.")
@click.option("--permanent", is_flag=True, help="Free the memory now; this cannot be undone.")
@click.option("--undo", is_flag=True, help="Bring back what the latest purge took, within 24 hours.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked.")
@common_options()
def command(
    call: Invocation, queues: tuple[str, ...], dead: bool, permanent: bool, undo: bool, yes: bool
) -> None:
    """Take every message out of queues: ready, in flight and delayed.

    Workers and senders go on meanwhile. For 24 hours --undo brings everything back, except what was still
    acknowledged after the purge. Until then the messages keep their memory.
    """
    from leanmq_topology.operations.queues import choose_queues, purge_queue

    if undo and permanent:
        raise click.UsageError("--undo and --permanent exclude each other")
    with open_link(call, client_name="leanmq-purge") as (link, namespace):
        names = choose_queues(link, queues, namespace)
        if undo:
            _undo(call, link, names, dead=dead)
            return
        if not yes:
            _ask(call, link, names, dead=dead, permanent=permanent)
        purges = [purge_queue(link, name, dead=dead, permanent=permanent) for name in names]
    payload = {"purged": {purge.queue: describe(purge) for purge in purges}}
    call.output.data("purge", payload, "\n".join(map(render, purges)))


def describe(purge: Purge) -> dict[str, Any]:
    """What went of one queue."""
    return {
        "ready": purge.ready,
        "in_flight": purge.in_flight,
        "delayed": purge.delayed,
        "dead": purge.dead,
        "reversible": purge.keep_ms > 0 and purge.messages > 0,
    }


def render(purge: Purge) -> str:
    parts = (("ready", purge.ready), ("in flight", purge.in_flight), ("delayed", purge.delayed))
    counts = ", ".join(f"{count:,} {name}" for name, count in parts if count)
    counts = f"{purge.dead:,} dead" if purge.dead else counts or "nothing to purge"
    way_back = f"; `leanmq purge --undo{' --dead' if purge.dead else ''} {purge.queue}` brings them back"
    return f"{purge.queue}: {counts}{way_back if purge.messages and purge.keep_ms else ''}"


def _ask(call: Invocation, link: Link, names: Sequence[str], *, dead: bool, permanent: bool) -> None:
    """Only where there is something to lose."""
    states = {state.name: state for state in link.connection.execute(link.broker.inspect_queues(names))}
    counts = {name: state.dead if dead else state.waiting for name, state in states.items()}
    if not any(counts.values()):
        return
    for name, count in counts.items():
        call.output.note(f"{name}: {count:,}")
    total = sum(counts.values())
    what = f"dead letter{'' if total == 1 else 's'}" if dead else f"message{'' if total == 1 else 's'}"
    deed = f"purge {total:,} {what}{' for good' if permanent else ''}"
    ask_approval(call, [f"queues.{name}" for name, count in counts.items() if count], deed)


def _undo(call: Invocation, link: Link, names: Sequence[str], *, dead: bool) -> None:
    from leanmq_topology.operations.queues import find_purge, undo_purge

    purges = [find_purge(link, name, dead=dead) for name in names]
    restored = {purge.queue: sum(step.restored for step in undo_purge(link, purge)) for purge in purges}
    lines = [f"{name}: {count:,} brought back" for name, count in restored.items()]
    call.output.data("purge", {"restored": restored}, "\n".join(lines))

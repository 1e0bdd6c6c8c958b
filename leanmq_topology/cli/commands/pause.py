"""`leanmq pause`: have workers stop reading queues."""

from __future__ import annotations

import click

from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options


@click.command("pause")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--all", "every", is_flag=True, help="Every queue that is applied.")
@common_options()
def command(call: Invocation, queues: tuple[str, ...], every: bool) -> None:
    """Have workers stop reading these queues; senders go on.

    Workers obey within a second: what runs ends, what was read but not started is handed back.
    `leanmq status` shows how many have. A pause lasts until `leanmq resume`, also through an apply.
    """
    from leanmq_topology.operations.queues import choose_queues, pause_queues

    check_named(queues, every=every)
    with open_link(call, client_name="leanmq-pause") as (link, namespace):
        names = choose_queues(link, queues, namespace)
        changed = pause_queues(link, names)
    lines = [f"{name}: paused{'' if name in changed else ' already'}" for name in names]
    call.output.data("pause", {"queues": names, "changed": changed}, "\n".join(lines))


def check_named(queues: tuple[str, ...], *, every: bool) -> None:
    """All queues only by an explicit word."""
    if bool(queues) == every:
        raise click.UsageError("name the queues, or say --all" if not every else "--all takes no queue names")

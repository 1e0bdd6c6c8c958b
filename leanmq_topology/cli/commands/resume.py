"""`leanmq resume`: have workers read paused queues again."""

from __future__ import annotations

import click

from leanmq_topology.cli.commands.pause import check_named
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options


@click.command("resume")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option("--all", "every", is_flag=True, help="Every queue that is applied.")
@common_options()
def command(call: Invocation, queues: tuple[str, ...], every: bool) -> None:
    """Have workers read paused queues again, within a second."""
    from leanmq_topology.operations.queues import choose_queues, resume_queues

    check_named(queues, every=every)
    with open_link(call, client_name="leanmq-resume") as (link, namespace):
        names = choose_queues(link, queues, namespace)
        changed = resume_queues(link, names)
    lines = [f"{name}: {'resumed' if name in changed else 'was not paused'}" for name in names]
    call.output.data("resume", {"queues": names, "changed": changed}, "\n".join(lines))

"""`leanmq plan`: what apply would change. Looks, never touches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import wants_color
from leanmq_topology.clock import system_clock
from leanmq_topology.plan.changes import Plan, Pruning
from leanmq_topology.topology.model import Topology

DIFFERS_EXIT = 2
BLOCKED_EXIT = 4


@click.command("plan")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--detailed-exitcode",
    is_flag=True,
    help="Exit 2 when server and file differ (an orphan is a difference), 0 when they match.",
)
@click.option("--prune", is_flag=True, help="Plan to remove what is no longer in the file, too.")
@common_options(formats=("text", "json", "markdown"))
def command(call: Invocation, file: Path | None, detailed_exitcode: bool, prune: bool) -> None:
    """Show what apply would change, and which messages are concerned.

    Takes no lock and writes nothing. Exits 4 when a change is blocked.
    """
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.operations.assurance import assure
    from leanmq_topology.reconciler import plan_changes

    call = call.with_file(file)
    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    with open_blocking(url, namespace=namespace, folder=topology.folder) as link:
        plan = plan_changes(link, topology, Pruning() if prune else None)
        assurance = assure(topology, link.connection.execute(link.broker.examine(system_clock())))
    show_plan(call, topology, plan, assurance)
    if plan.blocked:
        raise click.exceptions.Exit(BLOCKED_EXIT)
    if detailed_exitcode and plan.differs:
        raise click.exceptions.Exit(DIFFERS_EXIT)


def show_plan(call: Invocation, topology: Topology, plan: Plan, assurance: Sequence[str]) -> None:
    """The plan on stdout, in the form asked for."""
    from leanmq_topology.plan.markdown import render_markdown
    from leanmq_topology.plan.render import plan_to_dict, render_text

    if call.output.format == "markdown":
        call.output.line(render_markdown(plan, name=topology.name, assurance=assurance))
        return
    text = render_text(plan, assurance=assurance, color=wants_color(sys.stdout))
    call.output.data("plan", plan_to_dict(plan), text)

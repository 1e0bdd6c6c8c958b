"""`leanmq apply`: make the server match the file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from leanmq_topology.cli.applier import find_commit, name_applier
from leanmq_topology.cli.commands.plan import BLOCKED_EXIT, show_plan
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.clock import system_clock
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import SettingError
from leanmq_topology.plan.changes import Orphan, Plan, Pruning, Write
from leanmq_topology.topology.model import Topology


@click.command("apply")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Approve risky changes; without it a terminal is asked.")
@click.option("--dry-run", is_flag=True, help="Show the plan and stop: nothing is written.")
@click.option("--prune", is_flag=True, help="Remove what is no longer in the file, as its `on_remove` says.")
@click.option(
    "--allow-data-loss",
    "losses",
    metavar="ADDRESS",
    multiple=True,
    help="With --prune: this queue (queues.NAME) may be deleted with the messages in it. May be repeated.",
)
@common_options()
def command(
    call: Invocation, file: Path | None, yes: bool, dry_run: bool, prune: bool, losses: tuple[str, ...]
) -> None:
    """Make the server match the file.

    Creations and live updates are carried out at once; a change that messages or senders would feel asks
    first (or needs --yes). What is no longer in the file is kept, or goes with --prune: a queue only when it
    is empty, unless its messages may be lost. If it is killed half-way, apply again completes it.
    """
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.brokers.examination import insist
    from leanmq_topology.operations.assurance import assure
    from leanmq_topology.reconciler import apply_changes, plan_changes, refuse_unapproved

    pruning = _read_pruning(prune, losses)
    call = call.with_file(file)
    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    with open_blocking(url, namespace=namespace, folder=topology.folder) as link:
        examination = link.connection.execute(link.broker.examine(system_clock()))
        insist(examination, (), where=link.url)
        plan = plan_changes(link, topology, pruning)
        _check_losses(losses, plan, topology)
        if not call.output.is_json:
            show_plan(call, topology, plan, assure(topology, examination))
        if dry_run:
            _finish(call, plan, (), plan.generation)
            raise click.exceptions.Exit(BLOCKED_EXIT if plan.blocked else 0)
        approved = _ask(call, plan) if plan.risky and not plan.blocked and not yes else set()

        def approve(change: Write) -> bool:
            return yes or change.address in approved

        refuse_unapproved(plan, approve)
        done = apply_changes(
            link,
            topology,
            who=name_applier(),
            git_commit=find_commit(topology),
            approve=approve,
            planned=plan,
            pruning=pruning,
        )
    _finish(call, done.plan, done.applied, done.generation)


def _read_pruning(prune: bool, losses: tuple[str, ...]) -> Pruning | None:
    if losses and not prune:
        raise click.UsageError("--allow-data-loss is about what --prune deletes; say --prune, too")
    for address in losses:
        if not address.startswith("queues."):
            raise click.UsageError(f"--allow-data-loss takes an address such as queues.old, not {address!r}")
    return Pruning(frozenset(losses)) if prune else None


def _check_losses(losses: tuple[str, ...], plan: Plan, topology: Topology) -> None:
    """A name that is not among what goes is a slip, unless an earlier apply has done it already."""
    if plan.resumes or not plan.differs:
        return
    staying = [change.address for change in plan.changes if isinstance(change, Orphan)]
    for address in losses:
        if address in plan.leaving:
            continue
        if address.removeprefix("queues.") in topology.queues:
            reason, hint = f"{address} is in the file, so it is not deleted", "take it out of one of them"
        else:
            names = (*plan.leaving, *staying)
            near = did_you_mean(address, [name for name in names if name.startswith("queues.")])
            reason, hint = (
                f"{address} is not among what is removed",
                near or "`leanmq plan --prune` shows that",
            )
        raise SettingError("--allow-data-loss", reason, hint=hint)


def _ask(call: Invocation, plan: Plan) -> set[str]:
    """The risky addresses if the person at the terminal says yes; nobody there, or no plan shown, is a no."""
    if call.output.is_json or sys.stdin is None or not sys.stdin.isatty():
        return set()
    count = len(plan.risky)
    what = "this risky change" if count == 1 else f"these {count} risky changes"
    agreed = click.confirm(f"Apply {what}?", default=False, err=True)
    return {change.address for change in plan.risky} if agreed else set()


def _finish(call: Invocation, plan: Plan, applied: tuple[str, ...], generation: int) -> None:
    from leanmq_topology.plan.render import plan_to_dict

    facts = (
        {**plan_to_dict(plan), "applied": list(applied), "generation": generation}
        if call.output.is_json
        else {}
    )
    call.output.data("apply", facts, _say(plan, applied, generation))


def _say(plan: Plan, applied: tuple[str, ...], generation: int) -> str:
    if generation == plan.generation:
        return ""
    count = f"{len(applied):,} change{'' if len(applied) == 1 else 's'}" if applied else "The record"
    return f"\n{count} applied. The namespace is at generation {generation}."

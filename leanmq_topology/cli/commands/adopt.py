"""`leanmq adopt --from leanmq`: take over what the package LeanMQ left on a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from leanmq_topology.cli.applier import find_commit, name_applier
from leanmq_topology.cli.options import Invocation, check_text, common_options, read_working_directory
from leanmq_topology.errors import BlockedChangeError, SettingError
from leanmq_topology.operations.adoption import AdoptionPlan
from leanmq_topology.topology.model import Topology

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import BlockingLink


@click.command("adopt")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--from", "source", required=True, type=click.Choice(["leanmq"]), help="What left them there.")
@click.option(
    "--prefix",
    required=True,
    metavar="P",
    callback=check_text,
    help="The prefix its programs used, such as `mq:`.",
)
@click.option("--dry-run", is_flag=True, help="Show what is there and the file that would be written; stop.")
@common_options()
def command(call: Invocation, file: Path | None, source: str, prefix: str, dry_run: bool) -> None:
    """Take over the queues that the package LeanMQ left under a prefix.

    Writes a topology file that declares them (topology.yaml, if there is none yet), applies it, and moves
    every message: waiting and pending ones to be delivered, acknowledged ones into the history, dead
    letters with their failures, each with what is left of its lifetime. Nothing is moved twice and nothing
    is lost: if it is killed half-way, run it again. Stop the programs that use LeanMQ first.
    """
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.operations.adoption import plan_adoption

    path = file or (call.settings.files[0] if call.settings.files else Path("topology.yaml"))
    topology = Topology.load(path, environ=call.settings.environ) if path.exists() else None
    namespace = topology.broker.namespace if topology else find_namespace(prefix)
    folder = topology.folder if topology else read_working_directory()
    url = (topology and topology.broker.url) or call.settings.fallback_url or "embedded:"
    with open_blocking(call.settings.url or url, namespace=namespace, folder=folder) as link:
        plan = plan_adoption(link, prefix)
        if not plan.queues and topology is None:
            raise SettingError(
                "--prefix", f"nothing of LeanMQ lies under {prefix!r}", hint="is it the right server?"
            )
        written = _declare(call, plan, path, topology, namespace, dry_run=dry_run)
        if not dry_run:
            _apply(link, Topology.load(path, environ=call.settings.environ))
        moved = [] if dry_run else _move(call, link, plan, namespace)
    facts = {
        "file": str(path),
        "written": written,
        "namespace": namespace,
        "undeclared": list(plan.undeclared),
        "queues": moved or [{"queue": name} for name in plan.queues],
    }
    call.output.data("adopt", facts, _say(plan, path, dry_run=dry_run))


def find_namespace(prefix: str) -> str:
    """The prefix less one trailing colon. Raises `SettingError` for one that no topology can have."""
    from leanmq_topology.classic.place import find_namespace as read_prefix
    from leanmq_topology.operations.adoption import is_declarable

    namespace = read_prefix(prefix)
    if not is_declarable(namespace):
        raise SettingError(
            "--prefix",
            f"{prefix!r} makes no name for a topology",
            hint="write a topology.yaml with a `name` of yours, then adopt into it",
        )
    return namespace


def _declare(
    call: Invocation,
    plan: AdoptionPlan,
    path: Path,
    topology: Topology | None,
    namespace: str,
    *,
    dry_run: bool,
) -> bool:
    """Write the file if there is none; one that is there must declare what can be declared."""
    from leanmq_topology.operations.adoption import write_topology

    if topology is None:
        text = write_topology(plan, namespace, None)
        if dry_run:
            call.output.note(text)
        else:
            path.write_text(text)
        return not dry_run
    missing = [name for name in plan.declared if name not in topology.queues]
    if missing:
        raise BlockedChangeError(
            [f"queues.{name}" for name in missing],
            f"LeanMQ left messages there, and {path} does not declare it",
            hint="declare them (`keep_acked: 100000` keeps the history), or name another file",
        )
    return False


def _apply(link: BlockingLink, topology: Topology) -> None:
    from leanmq_topology.reconciler import apply_changes

    apply_changes(link, topology, who=name_applier(), git_commit=find_commit(topology))


def _move(
    call: Invocation, link: BlockingLink, plan: AdoptionPlan, namespace: str
) -> list[dict[str, object]]:
    from leanmq_topology.client.timestamps import format_time
    from leanmq_topology.operations.adoption import adopt_queues

    moved: list[dict[str, object]] = []
    for step in adopt_queues(link, plan, namespace, format_time):
        if step.done:
            facts = {"waiting": step.waiting, "kept": step.kept, "dead": step.dead, "dropped": step.dropped}
            moved.append({"queue": step.queue, **facts})
            if not call.output.is_json:
                call.output.note(
                    f"{step.queue}: {step.waiting:,} waiting, {step.kept:,} acknowledged, {step.dead:,} dead"
                )
    return moved


def _say(plan: AdoptionPlan, path: Path, *, dry_run: bool) -> str:
    if not plan.queues:
        return f"Nothing of LeanMQ lies under {plan.prefix!r} (any more)."
    count = f"{len(plan.queues)} queue{'' if len(plan.queues) == 1 else 's'}"
    if dry_run:
        return f"{count} would be adopted into {path}: {', '.join(plan.queues)}"
    lines = [f"{count} adopted. {path} declares what a file can; `leanmq plan` has nothing to do."]
    if plan.undeclared:
        names = ", ".join(plan.undeclared)
        lines.append(f"No file can hold these names, and LeanMQ finds them all the same: {names}")
    return "\n".join(lines)

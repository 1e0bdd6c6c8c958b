"""What a removal would do to messages and to those who use it, one function and one code each."""

from __future__ import annotations

from collections.abc import Iterator

from leanmq_topology.diagnostics import Diagnostic, Severity
from leanmq_topology.plan.changes import Backlog, Removal, Remove
from leanmq_topology.plan.diff import queue_name


def find_removal_hazards(change: Remove) -> Iterator[Diagnostic]:
    """All that stands in the way of this removal."""
    if change.address.startswith("messages."):
        return
    barriers = list(_find_protection(change)) or list(_find_loss(change))
    yield from barriers
    if not any(barrier.is_error for barrier in barriers):
        yield from _find_senders(change)


def _find_protection(change: Remove) -> Iterator[Diagnostic]:
    """LMQ512: `prevent_delete` was applied, and beats every flag."""
    if change.step is not Removal.RETAIN and change.before.get("lifecycle", {}).get("prevent_delete"):
        yield Diagnostic(
            "LMQ512",
            "it was applied with `lifecycle: {prevent_delete: true}`, and no flag deletes it",
            change.address,
            suggestion="put it back into the file, or apply it once more with `prevent_delete: false`",
        )


def _find_loss(change: Remove) -> Iterator[Diagnostic]:
    """LMQ513: it is to be deleted, and is not empty."""
    backlog = change.backlog or Backlog()
    if change.step is not Removal.DELETE or not backlog.total:
        return
    count = f"{backlog.total:,} message{'' if backlog.total == 1 else 's'}"
    if change.may_lose:
        yield Diagnostic(
            "LMQ513",
            f"with {count} in it, for good",
            change.address,
            suggestion="`leanmq dlq export` and `leanmq peek` show them before",
            severity=Severity.WARNING,
        )
        return
    yield Diagnostic(
        "LMQ513",
        f"it holds {count}, and only an empty queue is deleted",
        change.address,
        suggestion="let workers empty it, put it back with `lifecycle: {on_remove: drain}` and apply, or lose"
        f" them with `--allow-data-loss {change.address}`",
    )


def _find_senders(change: Remove) -> Iterator[Diagnostic]:
    """LMQ514: whoever still names it is refused."""
    what = "queue" if queue_name(change.address) else "route"
    message = f"senders that still name this {what} are refused from then on"
    suggestion = "make sure that nobody sends to it any more"
    waiting = (change.backlog or Backlog()).waiting
    if change.step is Removal.DRAIN and waiting:
        message += f"; the {waiting:,} waiting are left to the workers that still handle it"
        suggestion += ", and keep workers of the former file running until it is empty"
    yield Diagnostic("LMQ514", message, change.address, suggestion, Severity.WARNING)

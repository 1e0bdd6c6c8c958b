"""`leanmq status`: what waits, what runs, what failed, who works."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.diagnostics_text import escape_text
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import wants_color
from leanmq_topology.topology.specs import route_type, targets_of
from leanmq_topology.topology.values import format_duration

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import QueueState, WorkerState
    from leanmq_topology.operations.status import Status
    from leanmq_topology.topology.model import Queue, Route

COUNTERS = ("sent", "acked", "retried", "dead_lettered", "expired")
RARE_COUNTERS = (
    "duplicates",
    "conflicts",
    "dropped",
    "overflowed",
    "dead_expired",
    "late",
    "replayed",
    "purged",
    "dead_discarded",
)
"""Shown in a line of their own, where there are any."""
COUNTS_OF_A_WORKER = ("held", "running", "handled", "retried", "dead-lettered", "discarded", "released")


@click.command("status")
@common_options()
def command(call: Invocation) -> None:
    """Show queues, counters, routes and workers.

    Looks, never touches. A queue with as many dead letters as its `dead_letter.alert_at` is marked.
    """
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.operations.status import count_overdue, read_status

    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    with open_blocking(url, namespace=namespace, folder=topology.folder, client_name="leanmq-status") as link:
        status = count_overdue(link, read_status(link, namespace))
        shown_url = link.url
    if call.output.is_json:
        call.output.data("status", describe(status), "")
        return
    head = f"namespace {namespace} on {shown_url}, generation {status.generation}"
    alarm = click.style("!", fg="red", bold=True) if wants_color(sys.stdout) else "!"
    call.output.line("\n".join([head, *render(status, alarm=alarm)]))


def describe(status: Status) -> dict[str, Any]:
    """The shape of `leanmq.status/v1`."""
    return {
        "generation": status.generation,
        "queues": {name: _describe_queue(status, name) for name in status.queues},
        "routes": {name: _describe_route(status, route) for name, route in status.routes.items()},
        "workers": [_describe_worker(worker) for worker in status.workers],
    }


def _describe_queue(status: Status, name: str) -> dict[str, Any]:
    state = status.states[name]
    counters, overdue = state.counters or {}, status.overdue.get(name)
    return {
        "ready": state.ready,
        "ready_expired": overdue.expired if overdue else 0,
        "ready_looked_at": overdue.looked_at if overdue else 0,
        "in_flight": state.in_flight,
        "delayed": state.delayed,
        "parked": state.parked,
        "dead": state.dead,
        "kept": state.kept,
        "oldest_age_seconds": state.oldest_age_seconds,
        "consumers": state.consumers,
        "paused": state.state == "paused",
        "draining": state.is_leaving,
        "paused_workers": len(status.workers_that_paused(name)),
        "workers": len(status.workers_of(name)),
        **{name: counters.get(name, 0) for name in (*COUNTERS, *RARE_COUNTERS)},
        "problem": state.problem,
    }


def _describe_route(status: Status, route: Route) -> dict[str, Any]:
    return {
        "type": route_type(route),
        "to": [target.queue for target in targets_of(route)],
        **status.route_counters.get(route.name, {}),
    }


def _describe_worker(worker: WorkerState) -> dict[str, Any]:
    facts = worker.facts
    return {
        "name": worker.name,
        "host": facts.get("host", ""),
        "pid": _number(facts.get("pid")),
        "generation": _number(facts.get("generation")),
        "reload": _describe_reload(facts),
        "handlers": _words(facts.get("handlers")),
        "queues": _words(facts.get("queues")),
        **{name.replace("-", "_"): _number(facts.get(name)) for name in COUNTS_OF_A_WORKER},
        "unfit": facts.get("unfit") or None,
    }


def _describe_reload(facts: Mapping[str, str]) -> dict[str, Any] | None:
    """What came of the newest edit; None where none was made, or nobody watches."""
    if "reload_generation" not in facts:
        return None
    refused = facts.get("reload_refused") or None
    return {"generation": _number(facts["reload_generation"]), "serves": refused is None, "refused": refused}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _words(text: str | None) -> list[str]:
    return text.split(",") if text else []


def render(status: Status, *, alarm: str = "!") -> Iterator[str]:
    """The text form. `alarm` marks queues with too many dead letters."""
    yield ""
    rows = [_queue_row(status.queues[name], status.states[name], alarm) for name in status.queues]
    yield from align([HEADINGS, *rows])
    for name, state in status.states.items():
        if rare := _list_rare(state):
            yield f"{name}: {rare}"
        if expired := _tell_overdue(status, name):
            yield f"{name}: {expired}"
        if state.parked:
            yield f"{name}: {state.parked:,} parked: its dead-letter queue is full; replay or discard some"
        if state.state == "paused":
            yield f"{name}: paused, {_tell_obedience(status, name)}"
        if state.is_leaving:
            yield f"{name}: {_tell_draining(state)}"
        if state.problem:
            yield f"{name}: {state.problem}"
    if any(is_alarming(status.queues[name], status.states[name]) for name in status.queues):
        yield f"{alarm} dead letters: `leanmq dlq list` shows them with their reasons"
    if status.routes:
        yield ""
        for name, route in status.routes.items():
            nobody = "whoever listens" if route_type(route) == "ephemeral" else "nobody"
            to = ", ".join(target.queue for target in targets_of(route)) or nobody
            counted = status.route_counters.get(name, {}).items()
            yield ", ".join(
                [
                    f"route {name}: {route_type(route)} to {to}",
                    *(_tell_count(what, n) for what, n in counted if n),
                ]
            )
    yield ""
    yield from map(_worker_line, status.workers)
    for problem in dict.fromkeys(worker.facts.get("unfit", "") for worker in status.workers):
        if problem:
            yield f"{alarm} the server is unfit: {problem} (`leanmq doctor` says what mends it)"
    if not status.workers:
        yield "no worker is running: `leanmq run` starts one"


HEADINGS = ("queue", "ready", "in flight", "delayed", "dead", "oldest", "consumers", *COUNTERS)


def _tell_obedience(status: Status, queue: str) -> str:
    workers, obeying = len(status.workers_of(queue)), len(status.workers_that_paused(queue))
    if not workers:
        return "and no worker reads it"
    return f"and {obeying:,} of {workers:,} worker{'' if workers == 1 else 's'} stopped reading it"


def _tell_draining(state: QueueState) -> str:
    left = state.waiting + state.parked + state.dead
    if not left:
        return "drained: `leanmq apply --prune` deletes it"
    dead = f", {state.dead:,} of them dead" if state.dead else ""
    return f"draining: takes no more messages, {left:,} left{dead}"


def _tell_overdue(status: Status, queue: str) -> str:
    overdue = status.overdue.get(queue)
    if overdue is None or not overdue.expired:
        return ""
    ready = status.states[queue].ready
    part = "" if overdue.looked_at >= ready else f"first {overdue.looked_at:,} of "
    return f"{overdue.expired:,} of the {part}{ready:,} ready have expired; they go as they are reached"


def _list_rare(state: QueueState) -> str:
    counters = {**(state.counters or {}), "kept": state.kept}
    return ", ".join(
        _tell_count(name, counters[name]) for name in ("kept", *RARE_COUNTERS) if counters.get(name)
    )


def _tell_count(name: str, count: int) -> str:
    """`2 duplicates`, `1 duplicate`, `1 dead expired`."""
    words = name.replace("_", " ")
    return f"{count:,} {words.removesuffix('s') if count == 1 else words}"


def is_alarming(queue: Queue, state: QueueState) -> bool:
    return state.dead >= max(queue.dead_letter.alert_at, 1)


def _queue_row(queue: Queue, state: QueueState, alarm: str) -> tuple[str, ...]:
    counters = state.counters or {}
    dead = f"{state.dead:,}{alarm}" if is_alarming(queue, state) else f"{state.dead:,}"
    age = state.oldest_age_seconds
    oldest = "-" if age is None else format_duration(max(int(age), 0) * 1000)
    return (
        queue.name,
        *(f"{count:,}" for count in (state.ready, state.in_flight, state.delayed)),
        dead,
        oldest,
        f"{state.consumers:,}",
        *(f"{counters.get(name, 0):,}" for name in COUNTERS),
    )


def align(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell: the first to the left, numbers to the right."""
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.replace("_", " ") if row is rows[0] else cell for cell in row]
        padded = [
            " " * (width - len(click.unstyle(cell))) + cell for cell, width in zip(cells, widths, strict=True)
        ]
        yield "  ".join([cells[0].ljust(widths[0]), *padded[1:]]).rstrip()


def _worker_line(worker: WorkerState) -> str:
    facts = worker.facts
    done = ", ".join(
        f"{_number(facts.get(name)):,} {name}" for name in COUNTS_OF_A_WORKER if _number(facts.get(name))
    )
    where = f"{facts.get('host', '?')} pid {facts.get('pid', '?')}"
    handlers = ", ".join(_words(facts.get("handlers")))
    line = f"worker {worker.name} ({where}): {handlers}{f'; {done}' if done else ''}"
    if not facts.get("reload_refused"):
        return line
    refused = escape_text(facts["reload_refused"])
    return f"{line}\n  generation {facts['reload_generation']} was refused: {refused}"

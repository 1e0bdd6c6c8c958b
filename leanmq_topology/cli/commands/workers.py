"""`leanmq workers`: who works, on what, and when it was heard of last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.commands.status import align
from leanmq_topology.cli.diagnostics_text import escape_text
from leanmq_topology.cli.linking import open_link
from leanmq_topology.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from leanmq_topology.brokers.protocol import WorkerState

HEADINGS = (
    "worker",
    "host",
    "pid",
    "generation",
    "state",
    "in flight",
    "held",
    "last read",
    "heard of",
    "handlers",
)


@click.command("workers")
@common_options()
def command(call: Invocation) -> None:
    """Show the worker processes of a namespace, wherever they run.

    One that was not heard of for a while is `silent`; if it stays so, it is gone from the list soon, and
    others run what it held once its leases have lapsed.
    """
    from leanmq_topology.operations.status import read_workers

    with open_link(call, client_name="leanmq-workers") as (link, namespace):
        found = [describe_worker(worker) for worker in read_workers(link, namespace)]
    text = "\n".join(render(found)) if found else "no worker is running: `leanmq run` starts one"
    call.output.data("workers", {"workers": found}, text)


def describe_worker(worker: WorkerState) -> dict[str, Any]:
    """One of `leanmq.workers/v1`."""
    facts = worker.facts
    lifetime_ms = _number(facts.get("lifetime_ms")) or worker.expires_in_ms
    heard_seconds_ago = max(lifetime_ms - worker.expires_in_ms, 0) / 1000
    return {
        "name": worker.name,
        "host": facts.get("host", ""),
        "pid": _number(facts.get("pid")),
        "generation": _number(facts.get("generation")),
        "state": _state(worker),
        "handlers": _words(facts.get("handlers")),
        "queues": _words(facts.get("queues")),
        "in_flight": _number(facts.get("running")),
        "held": _number(facts.get("held")),
        "last_read_seconds_ago": _read_seconds_ago(facts.get("polled_ms"), heard_seconds_ago),
        "heard_seconds_ago": round(heard_seconds_ago, 1),
    }


def _state(worker: WorkerState) -> str:
    """Workers are heard of every 5 s: one that is not for 7.5 s is marked, and not listed after 15 s."""
    if worker.silent:
        return "silent"
    return "solo" if worker.facts.get("solo") == "1" else "running"


def _read_seconds_ago(polled_ms: str | None, heard_seconds_ago: float) -> float | None:
    """As it was when the worker was heard of, and the time since."""
    return round(_number(polled_ms) / 1000 + heard_seconds_ago, 1) if polled_ms else None


def render(workers: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Words to the left, numbers to the right; the longest column comes last."""
    rows = [
        (
            worker["name"],
            escape_text(worker["host"]),
            *(str(worker[name]) for name in ("pid", "generation", "state", "in_flight", "held")),
            _ago(worker["last_read_seconds_ago"]),
            _ago(worker["heard_seconds_ago"]),
            escape_text(", ".join(worker["handlers"])),
        )
        for worker in workers
    ]
    yield from align([HEADINGS, *rows])


def _ago(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f} s ago"


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _words(text: str | None) -> list[str]:
    return text.split(",") if text else []

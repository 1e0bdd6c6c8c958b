"""`leanmq run`: run the handlers of a topology, in processes of their own, until told to stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.brokers.connect import HeldServer, hold_server
from leanmq_topology.cli.commands.apply import find_commit, name_applier
from leanmq_topology.cli.log_lines import FORMATS, write_logs
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import InvalidTopologyError, SettingError
from leanmq_topology.runner.handlers import load_handlers
from leanmq_topology.runner.middleware.counters import NAMES, summarize
from leanmq_topology.runner.supervisor.coroner import make_coroner
from leanmq_topology.runner.supervisor.supervisor import Birth, Result, Supervisor
from leanmq_topology.runner.supervisor.wire import revive_failure
from leanmq_topology.runner.supervisor.worker_process import Orders, make_worker
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.values import parse_duration

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import AsyncLink
    from leanmq_topology.runner.handlers import LoadedHandler
    from leanmq_topology.runner.worker import Worker

logger = logging.getLogger("leanmq.runner")


class Duration(click.ParamType[int]):
    """`25s`, `2m`; the command gets milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_duration(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


@click.command("run")
@click.option("--only", multiple=True, metavar="HANDLER", help="Run this handler; repeat for more.")
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    metavar="N",
    help="How many worker processes.",
)
@click.option(
    "--drain",
    "drain_ms",
    type=Duration(),
    default="25s",
    show_default=True,
    help="How long running handlers may take to end once the worker is told to stop.",
)
@click.option("--apply", "apply_first", is_flag=True, help="Apply the topology first.")
@click.option(
    "--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="Form of the log."
)
@click.option("-v", "--verbose", is_flag=True, help="Log every message that was handled.")
@common_options()
def command(
    call: Invocation,
    only: Sequence[str],
    workers: int,
    drain_ms: int,
    apply_first: bool,
    log_format: str,
    verbose: bool,
) -> None:
    """Run the handlers of a topology.

    Reads the queues of all handlers, or of those named with --only, in worker processes that are started
    again if they die. Never creates anything on the server: apply does that. Ctrl-C or SIGTERM stops reading,
    lets running handlers end and hands the rest back; a second one ends at once, and what was running is run
    again by others. With -o json the last thing printed is what the workers did; what handlers print comes
    before it.
    """
    write_logs(log_format, verbose=verbose)
    topology = call.load_topology()
    choose_handlers(topology, only)
    url = call.broker_url(topology)
    with hold_server(url, folder=topology.folder, client_name="leanmq-run") as held:
        orders = Orders(
            load=partial(_load, call, only),
            find_url=partial(_find_url, call, url, held),
            announce=partial(_announce, workers, held),
            prepare=_apply if apply_first else None,
            drain_seconds=drain_ms / 1000,
        )
        result = Supervisor(
            make_worker(orders), make_coroner, workers=workers, drain_seconds=orders.drain_seconds
        ).run()
    raise click.exceptions.Exit(_report(call, result))


def _find_url(call: Invocation, url: str, held: HeldServer | None, topology: Topology) -> str:
    """In the worker process: the embedded server that the supervisor holds, unless the file names another."""
    wanted = call.broker_url(topology)
    return held.url if held and wanted == url else wanted


def _report(call: Invocation, result: Result) -> int:
    """Say how it ended; returns the exit code."""
    if result.failed is not None:
        raise revive_failure(result.failed)
    counts = dict(result.counts)
    logger.info("stopped: %s", summarize(counts), extra={"event": "stopped", **counts})
    call.output.data("run", describe(result), "")
    return 0 if result.clean or not result.signal else 128 + result.signal


def _load(call: Invocation, only: Sequence[str]) -> tuple[Topology, Mapping[str, LoadedHandler]]:
    """In the worker process: the topology as it is now, and the user's code."""
    topology = call.load_topology()
    handlers, problems = load_handlers(topology, choose_handlers(topology, only))
    if problems:
        raise InvalidTopologyError(problems)
    return topology, handlers


def choose_handlers(topology: Topology, only: Sequence[str]) -> list[str]:
    """The handlers to run, in the order of the file; an unknown or missing one is a usage error."""
    for name in only:
        if name not in topology.handlers:
            hint = (
                did_you_mean(name, topology.handlers) or f"there are {', '.join(topology.handlers) or 'none'}"
            )
            raise SettingError("--only", f"the topology has no handler {name!r}", hint=hint)
    if not topology.handlers:
        hint = 'declare one: `handlers: {charge: {queue: billing, call: "shop.billing:charge"}}`'
        raise SettingError("handlers", "the topology declares none, so there is nothing to run", hint=hint)
    return [name for name in topology.handlers if not only or name in only]


def describe(result: Result) -> dict[str, Any]:
    """The shape of `leanmq.run/v1`: what the workers did, once they ended."""
    return {
        "workers": result.workers,
        "clean": result.clean,
        "deaths": result.deaths,
        **{name.replace("-", "_"): result.counts.get(name, 0) for name in NAMES.values()},
    }


def _apply(link: AsyncLink, topology: Topology) -> None:
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.reconciler import apply_changes

    namespace, folder = topology.broker.namespace, topology.folder
    with open_blocking(link.server_url, namespace=namespace, folder=folder) as own:
        done = apply_changes(own, topology, who=name_applier(), git_commit=find_commit(topology))
    if done.applied:
        logger.info("applied %d changes", len(done.applied), extra={"event": "applied"})


def _announce(
    workers: int,
    held: HeldServer | None,
    birth: Birth,
    topology: Topology,
    handlers: Mapping[str, LoadedHandler],
    link: AsyncLink,
    worker: Worker,
) -> None:
    """In the worker process. The first one says what it runs; the others only that they are there."""
    url = held.shown if held else link.url
    logger.info(
        "worker %s on %s, namespace %s", worker.name, url, topology.broker.namespace,
        extra={"event": "started", "worker": worker.name, "pid": os.getpid()},
    )  # fmt: skip
    if birth.generation > 1 or birth.seat or birth.again:
        return
    width = max(map(len, handlers))
    for name, handler in handlers.items():
        declared, how = handler.declared, "" if handler.binding.asynchronous else ", in threads"
        how = f" in each process{how}" if workers > 1 else how
        logger.info(
            "  %s handles %s, %d at a time%s", name.ljust(width), declared.queue, declared.concurrency, how,
            extra={"event": "handling", "handler": name, "queue": declared.queue},
        )  # fmt: skip
    logger.info("ready, Ctrl-C to stop", extra={"event": "ready", "worker": worker.name})

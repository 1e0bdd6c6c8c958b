"""`leanmq run`: run the handlers of a topology in this process until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.commands.apply import find_commit, name_applier
from leanmq_topology.cli.log_lines import FORMATS, write_logs
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import InvalidTopologyError, SettingError
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.values import parse_duration

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import AsyncLink
    from leanmq_topology.runner.handlers import LoadedHandler
    from leanmq_topology.runner.worker import Worker

logger = logging.getLogger("leanmq.runner")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    drain_ms: int,
    apply_first: bool,
    log_format: str,
    verbose: bool,
) -> None:
    """Run the handlers of a topology.

    Reads the queues of all handlers, or of those named with --only. Never creates anything on the server:
    apply does that. Ctrl-C or SIGTERM stops reading, lets running handlers end and hands the rest back; a
    second one ends at once, and the leases bring back what was running. With -o json the last thing printed
    is what the worker did; what handlers print comes before it.
    """
    from leanmq_topology.runner.handlers import load_handlers

    write_logs(log_format, verbose=verbose)
    topology = call.load_topology()
    handlers, problems = load_handlers(topology, choose_handlers(topology, only))
    if problems:
        raise InvalidTopologyError(problems)
    code = asyncio.run(_run(call, topology, handlers, drain_ms / 1000, apply_first))
    raise click.exceptions.Exit(code)


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


async def _run(
    call: Invocation,
    topology: Topology,
    handlers: Mapping[str, LoadedHandler],
    drain_seconds: float,
    apply_first: bool,
) -> int:
    """Returns the exit code."""
    from leanmq_topology.brokers.connect import open_async
    from leanmq_topology.runner.worker import Worker

    url, namespace = call.broker_url(topology), topology.broker.namespace
    async with await open_async(
        url, namespace=namespace, folder=topology.folder, client_name="leanmq-run"
    ) as link:
        if apply_first:
            await asyncio.to_thread(_apply, link.server_url, topology)
        worker = Worker(topology, handlers, link, drain_seconds=drain_seconds)
        stopped_by = _obey_signals(worker)
        ended = await worker.run(lambda: _announce(topology, handlers, link, worker))
    counts = worker.counters.as_dict()
    logger.info("stopped: %s", ended.summary, extra={"event": "stopped", **counts})
    call.output.data("run", describe(worker.name, ended.clean, counts), "")
    if ended.tainted:
        return 1
    return 0 if ended.clean or not stopped_by else 128 + stopped_by[0]


def describe(name: str, clean: bool, counts: Mapping[str, int]) -> dict[str, Any]:
    """The shape of `leanmq.run/v1`: what the worker did, once it ended."""
    return {
        "worker": name,
        "clean": clean,
        **{kind.replace("-", "_"): count for kind, count in counts.items()},
    }


def _apply(url: str, topology: Topology) -> None:
    from leanmq_topology.brokers.connect import open_blocking
    from leanmq_topology.reconciler import apply_changes

    with open_blocking(url, namespace=topology.broker.namespace, folder=topology.folder) as link:
        done = apply_changes(link, topology, who=name_applier(), git_commit=find_commit(topology))
    if done.applied:
        logger.info("applied %d changes", len(done.applied), extra={"event": "applied"})


def _obey_signals(worker: Worker) -> list[int]:
    """The first signal drains, the second ends the process. Returns the signals received so far."""
    received: list[int] = []

    def obey(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            _end_at_once(number)
        logger.info("stopping; once more ends at once", extra={"event": "stopping"})
        worker.stop()

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, obey, number)
    return received


def _end_at_once(number: int) -> None:
    """Leave without waiting for anything: handlers may hang, and leases bring back what they were doing."""
    logger.warning("ended before the drain was over", extra={"event": "aborted"})
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(128 + number)


def _announce(
    topology: Topology, handlers: Mapping[str, LoadedHandler], link: AsyncLink, worker: Worker
) -> None:
    logger.info(
        "worker %s on %s, namespace %s", worker.name, link.url, topology.broker.namespace,
        extra={"event": "started", "worker": worker.name},
    )  # fmt: skip
    width = max(map(len, handlers))
    for name, handler in handlers.items():
        declared, how = handler.declared, "" if handler.binding.asynchronous else ", in threads"
        logger.info(
            "  %s handles %s, %d at a time%s", name.ljust(width), declared.queue, declared.concurrency, how,
            extra={"event": "handling", "handler": name, "queue": declared.queue},
        )  # fmt: skip
    logger.info("ready, Ctrl-C to stop", extra={"event": "ready", "worker": worker.name})

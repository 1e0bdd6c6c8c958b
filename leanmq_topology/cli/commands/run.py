"""`leanmq run`: run the handlers of a topology, in processes of their own, until told to stop."""

from __future__ import annotations

import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from leanmq_topology.brokers.connect import HeldServer, hold_server, preload
from leanmq_topology.cli.applier import find_commit, name_applier
from leanmq_topology.cli.diagnostics_text import render_diagnostics
from leanmq_topology.cli.log_lines import FORMATS, write_logs
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import ConcurrentApplyError, InvalidTopologyError, SettingError
from leanmq_topology.garbage import paused_collection
from leanmq_topology.runner.handlers import load_handlers
from leanmq_topology.runner.middleware.counters import NAMES, summarize
from leanmq_topology.runner.supervisor.chronicle import Chronicle
from leanmq_topology.runner.supervisor.coroner import make_coroner
from leanmq_topology.runner.supervisor.members import Birth, Role
from leanmq_topology.runner.supervisor.notify import VARIABLES, Notifier
from leanmq_topology.runner.supervisor.supervisor import Result, Supervisor
from leanmq_topology.runner.supervisor.wire import Failed, revive_failure
from leanmq_topology.runner.supervisor.worker_process import Orders, make_worker
from leanmq_topology.settings import take_environ
from leanmq_topology.topology.model import Topology
from leanmq_topology.topology.values import parse_duration

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import AsyncLink, BlockingLink
    from leanmq_topology.reconciler import AppliedPlan
    from leanmq_topology.runner.handlers import LoadedHandler
    from leanmq_topology.runner.worker import Worker

logger = logging.getLogger("leanmq.runner")

ALL_INTERFACES = "0.0.0.0"  # noqa: S104  who asks for probes is elsewhere, as a rule
APPLY_SECONDS = 20.0
"""How long to wait for somebody else's apply, most likely that of another process of ours."""
APPLY_PAUSE_SECONDS = 0.1
APPLIED_SHOWN = 8
"""Addresses in the line that tells of an apply."""


class Duration(click.ParamType[int]):
    """`25s`, `2m`; the command gets milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_duration(str(value))
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Endpoint(click.ParamType[tuple[str, int]]):
    """`9090`, `127.0.0.1:9090`."""

    name = "endpoint"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        host, _, number = str(value).rpartition(":")
        if not (number.isascii() and number.isdecimal() and int(number) < 65536):
            self.fail(f"{value!r} is no port: write `9090`, or `127.0.0.1:9090`", param, ctx)
        return host.strip("[]") or ALL_INTERFACES, int(number)


def handler_options(*, drain: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--only --workers --drain --verbose`, of whatever runs handlers; `drain` is the default."""
    options = (
        click.option("--only", multiple=True, metavar="HANDLER", help="Run this handler; repeat for more."),
        click.option(
            "--workers",
            type=click.IntRange(1, 256),
            default=1,
            show_default=True,
            metavar="N",
            help="How many worker processes.",
        ),
        click.option(
            "--drain",
            "drain_ms",
            type=Duration(),
            default=drain,
            show_default=True,
            help="How long running handlers may take to end once they are told to stop.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="Log every message that was handled."),
    )
    return lambda command: functools.reduce(lambda made, option: option(made), reversed(options), command)


@click.command("run")
@handler_options(drain="25s")
@click.option(
    "--port",
    type=Endpoint(),
    metavar="[HOST:]PORT",
    help="Serve /livez, /readyz and /metrics there; 0 takes a free port.",
)
@click.option("--apply", "apply_first", is_flag=True, help="Apply the topology first.")
@click.option("--watch", is_flag=True, help="Load topology and code again whenever they change.")
@click.option(
    "--log-format", type=click.Choice(FORMATS), default="text", show_default=True, help="Form of the log."
)
@common_options()
def command(
    call: Invocation,
    only: Sequence[str],
    workers: int,
    drain_ms: int,
    port: tuple[str, int] | None,
    apply_first: bool,
    watch: bool,
    log_format: str,
    verbose: bool,
) -> None:
    """Run the handlers of a topology.

    Reads the queues of all handlers, or of those named with --only, in worker processes that are started
    again if they die. Never creates anything on the server: apply does that. Ctrl-C or SIGTERM stops reading,
    lets running handlers end and hands the rest back; a second one ends at once, and what was running is run
    again by others. With -o json the last thing printed is what the workers did; what handlers print comes
    before it.

    With --watch an edit is loaded and checked in fresh processes, which take over before the ones there are
    drain. An edit that cannot serve is told, and what served before goes on.
    """
    write_logs(log_format, verbose=verbose)
    topology = call.load_topology()
    choose_handlers(topology, only)
    running = Running(
        workers=workers, drain_seconds=drain_ms / 1000, apply_first=apply_first, watch=watch, port=port
    )
    raise click.exceptions.Exit(run_handlers(call, topology, only, running))


class Running(Struct, frozen=True, kw_only=True):
    """How handlers are run."""

    workers: int = 1
    drain_seconds: float = 25.0
    apply_first: bool = False
    watch: bool = False
    patient: bool = False
    """Wait for an edit where the first start fails."""
    command: str = "run"
    """Under whose name the result is printed."""
    port: tuple[str, int] | None = None
    """Where probes and metrics are served."""
    lifeline: int | None = None
    """A descriptor; when it comes to its end, so do the workers."""


def run_handlers(call: Invocation, topology: Topology, only: Sequence[str], running: Running) -> int:
    """Run them until told to stop; returns the exit code. `topology` was just read: it says which server is
    held, and without `watch` the first processes go by it."""
    url = call.broker_url(topology)
    with paused_collection():
        preload()
    with hold_server(url, folder=topology.folder, client_name="leanmq-run") as held:
        orders = Orders(
            load=lambda tell: _load_anew(call, only, watched=running.watch),
            load_first=None if running.watch else lambda tell: _import_handlers(topology, only),
            find_url=partial(_find_url, call, url, held),
            announce=partial(_announce, running.workers, held),
            prepare=_apply if running.apply_first else None,
            drain_seconds=running.drain_seconds,
        )
        supervisor = build_supervisor(call, topology, orders, running)
        tell_service_manager(supervisor)
        listening = serve_probes(supervisor, running.port) if running.port else None
        if running.lifeline is not None:
            _hang_on(running.lifeline, supervisor)
        result = supervisor.run()
        if listening is not None:
            listening.close()
    return _report(call, result, running.command)


def serve_probes(supervisor: Supervisor, port: tuple[str, int]) -> socket.socket:
    from importlib.metadata import version

    from leanmq_topology.runner.supervisor.probes import Probes, listen

    listening = listen(*port)
    host, number = listening.getsockname()[:2]
    logger.info("probes and metrics on http://%s:%d", host, number, extra={"event": "probes", "port": number})
    Probes(supervisor, listening, version("leanmq-topology")).start()
    return listening


def tell_service_manager(supervisor: Supervisor) -> None:
    """Where systemd started us and wants to know."""
    environ = take_environ(*VARIABLES)
    notifier = Notifier.find(environ, os.getpid())
    if notifier is not None:
        supervisor.add_listener(notifier)
        notifier.attach(supervisor)


def _hang_on(lifeline: int, supervisor: Supervisor) -> None:
    def let_go() -> None:
        supervisor.turns.forget(lifeline)
        supervisor.stop()

    supervisor.turns.watch(lifeline, let_go)


def build_supervisor(call: Invocation, topology: Topology, orders: Orders, running: Running) -> Supervisor:
    """One that keeps what it started, or with `--watch` one that follows the files."""
    workers, drain_seconds = running.workers, running.drain_seconds
    explain = partial(explain_failure, color=call.output.color)
    if not running.watch:
        supervisor = Supervisor(
            make_worker(orders), make_coroner, workers=workers, drain_seconds=drain_seconds
        )
        supervisor.add_listener(Chronicle(supervisor, explain=explain))
        return supervisor
    from leanmq_topology.runner.reload.reloader import Reloader

    reloader = Reloader(orders, topology)
    supervisor = Supervisor(
        reloader.make_first(),
        make_coroner,
        workers=workers,
        drain_seconds=drain_seconds,
        listener=reloader,
        patient=running.patient,
    )
    supervisor.add_listener(Chronicle(supervisor, explain=explain))
    reloader.attach(supervisor)
    return supervisor


def explain_failure(failed: Failed, *, color: bool) -> str:
    """What a worker process met, as the command would have printed it."""
    if failed.diagnostics:
        return render_diagnostics(failed.diagnostics, color=color)
    return f"{failed.message}\n  {failed.hint}" if failed.hint else failed.message


def _find_url(call: Invocation, url: str, held: HeldServer | None, topology: Topology) -> str:
    """In the worker process: the embedded server that the supervisor holds, unless the file names another."""
    wanted = call.broker_url(topology)
    return held.url if held and wanted == url else wanted


def _report(call: Invocation, result: Result, command: str) -> int:
    """Say how it ended; returns the exit code."""
    if result.failed is not None:
        raise revive_failure(result.failed)
    counts = dict(result.counts)
    logger.info("stopped: %s", summarize(counts), extra={"event": "stopped", **counts})
    call.output.data(command, describe(result), "")
    return 0 if result.clean or not result.signal else 128 + result.signal


def _load_anew(
    call: Invocation, only: Sequence[str], *, watched: bool
) -> tuple[Topology, Mapping[str, LoadedHandler]]:
    """In a worker process that is not among the first: all as it is now."""

    def load() -> tuple[Topology, Mapping[str, LoadedHandler]]:
        return _import_handlers(call.load_topology(), only)

    if watched:  # whoever watches does it by itself
        return load()
    from leanmq_topology.runner.reload.sources import load_afresh

    return load_afresh(load)


def _import_handlers(topology: Topology, only: Sequence[str]) -> tuple[Topology, Mapping[str, LoadedHandler]]:
    """In the worker process: the topology, and the user's code."""
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
    """What is safe; anything else is refused as a whole. Of several processes one does it, all wait."""
    from leanmq_topology.brokers.connect import open_blocking

    namespace, folder = topology.broker.namespace, topology.folder
    with open_blocking(link.server_url, namespace=namespace, folder=folder) as own:
        done = _apply_in_turn(own, topology)
    if done.applied:
        shown = ", ".join(done.applied[:APPLIED_SHOWN]) + (", …" if len(done.applied) > APPLIED_SHOWN else "")
        logger.info("applied %s", shown, extra={"event": "applied", "generation": done.generation})


def _apply_in_turn(link: BlockingLink, topology: Topology) -> AppliedPlan:
    from leanmq_topology.reconciler import apply_changes

    deadline = time.monotonic() + APPLY_SECONDS
    while True:
        try:
            return apply_changes(link, topology, who=name_applier(), git_commit=find_commit(topology))
        except ConcurrentApplyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(APPLY_PAUSE_SECONDS)


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
    if birth.role is Role.SOLO:
        logger.warning(
            "worker %s runs alone what may have taken a worker down", worker.name,
            extra={"event": "solo", "worker": worker.name, "pid": os.getpid()},
        )  # fmt: skip
        return
    url = held.shown if held else link.url
    logger.log(
        logging.DEBUG if birth.generation > 1 and not birth.again else logging.INFO,
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

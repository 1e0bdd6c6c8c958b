"""`leanmq dev`: a broker, an apply and a watched run in one command, with a live view on a terminal."""

from __future__ import annotations

import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from msgspec.structs import replace

from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.cli.commands.run import Running, choose_handlers, handler_options, run_handlers
from leanmq_topology.cli.live.backstage import Backstage, fork_backstage
from leanmq_topology.cli.live.frame import Palette, Scene, draw_frame
from leanmq_topology.cli.live.narration import Narration
from leanmq_topology.cli.live.sampler import Sampler
from leanmq_topology.cli.live.samples import Samples
from leanmq_topology.cli.live.screen import Screen
from leanmq_topology.cli.log_lines import write_logs
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import report_diagnostics, report_failure, wants_color
from leanmq_topology.errors import InvalidTopologyError
from leanmq_topology.runner.reload.snapshot import Snapshot, WatchList, take_snapshot
from leanmq_topology.topology.model import Topology

DRAW_SECONDS = 0.25
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STRONGER: dict[int, int] = {signal.SIGHUP: signal.SIGTERM}
"""A terminal that was closed: drain, there is nobody to ask for more."""


@click.command("dev")
@handler_options(drain="5s")
@click.option("--plain", is_flag=True, help="Lines only, as without a terminal.")
@common_options()  # fmt: skip
def command(
    call: Invocation, only: Sequence[str], workers: int, drain_ms: int, verbose: bool, plain: bool
) -> None:
    """Develop: apply the topology, run its handlers, follow every edit.

    What an edit makes safe to apply is applied; what is not is told, and what served before goes on. On a
    terminal the queues stay in view below the log. Ctrl-C drains and ends.
    """
    topology = await_topology(call)
    choose_handlers(topology, only)
    running = Running(
        workers=workers,
        drain_seconds=drain_ms / 1000,
        apply_first=True,
        watch=True,
        patient=True,
        command="dev",
    )
    if plain or call.output.is_json or not (sys.stdout.isatty() and sys.stderr.isatty()):
        write_logs("text", verbose=verbose)
        raise click.exceptions.Exit(run_handlers(call, topology, only, running))
    backstage = fork_backstage(partial(_perform, call, topology, only, running, verbose))
    raise click.exceptions.Exit(_show(call, topology, backstage))


# -- the workers, behind the view ----------------------------------------------------------------------------


def _perform(
    call: Invocation, topology: Topology, only: Sequence[str], running: Running, verbose: bool, lifeline: int
) -> int:
    write_logs("json", verbose=verbose)
    try:
        return run_handlers(call, topology, only, replace(running, lifeline=lifeline))
    except BaseException as failure:
        return report_failure(failure, call.output)


# -- the view ------------------------------------------------------------------------------------------------


def _show(call: Invocation, topology: Topology, backstage: Backstage) -> int:
    """Show the queues, and above them what the workers say, until they have ended; returns their code."""
    namespace, url = topology.broker.namespace, call.broker_url(topology)
    open_link = partial(
        open_blocking, url, namespace=namespace, folder=topology.folder, client_name="leanmq-dev"
    )
    color = wants_color(sys.stdout)
    narration = Narration(color=color)
    try:
        with (
            _forwarding(backstage.signal),
            Screen(sys.stdout) as screen,
            Sampler(open_link, namespace) as sampler,
        ):
            view = View(screen, Palette(color=color), namespace)
            while (lines := _next_lines(backstage)) is not None:
                for line in lines:
                    if (text := narration.tell(line)) is not None:
                        screen.print_above(text)
                view.draw(sampler, narration)
            screen.show([])
    finally:
        backstage.close()
    code = backstage.wait()
    return code if code >= 0 else 128 - code


def _next_lines(backstage: Backstage) -> list[str] | None:
    """What came within a moment; None once the workers have ended and all they wrote is read."""
    ready, _, _ = select.select([backstage.output], [], [], DRAW_SECONDS)
    if ready:
        return backstage.read_lines()
    # A process of theirs that was left behind may hold the other end; it is not waited for.
    return None if backstage.exit_code() is not None else []


class View:
    """The frame, redrawn now and then."""

    def __init__(self, screen: Screen, palette: Palette, namespace: str) -> None:
        self._screen, self._palette, self._namespace = screen, palette, namespace
        self._samples = Samples()
        self._due = 0.0
        self._seen = 0.0

    def draw(self, sampler: Sampler, narration: Narration) -> None:
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + DRAW_SECONDS
        sample = sampler.newest
        if sample is not None and sample.at != self._seen:
            self._seen = sample.at
            self._samples.add(sample)
        scene = Scene(
            f"{self._namespace} on {sampler.where}" if sampler.where else self._namespace,
            narration.note,
            narration.is_bad,
            narration.last_errors,
            "Ctrl-C to stop",
        )
        width, height = self._screen.size
        self._screen.show(draw_frame(scene, self._samples, width=width, height=height, palette=self._palette))


@contextmanager
def _forwarding(forward: Callable[[int], None]) -> Iterator[None]:
    """Signals go to the workers, which end; then so do we."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: forward(STRONGER.get(number, number)))
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


# -- a file that is broken from the start --------------------------------------------------------------------


def await_topology(call: Invocation) -> Topology:
    """The topology; while its files are broken, say where, and try again with each save."""
    while True:
        named = [path.absolute() for path in call.topology_files()]
        before = take_snapshot(WatchList(frozenset(named), frozenset(path.parent for path in named)))
        try:
            return call.load_topology()
        except InvalidTopologyError as failure:
            if call.output.is_json:
                raise
            report_diagnostics(failure.diagnostics, call.output)
            call.output.note("\nwaiting for the next save, Ctrl-C to stop")
            places = {
                Path(item.span.file).absolute() for item in failure.diagnostics if item.span is not None
            }
            _await_change(frozenset(places), before)


def _await_change(places: frozenset[Path], before: Snapshot) -> None:
    """Wait until one of `places`, or of what `before` holds, is not as it was."""
    from leanmq_topology.runner.reload.watcher import Watcher

    folders = frozenset(path for path in before if path.is_dir())
    changed = threading.Event()
    watcher = Watcher(lambda paths: changed.set())
    watcher.adopt(WatchList(places | (before.keys() - folders), folders), before)
    thread = threading.Thread(target=watcher.run, name="leanmq-watch", daemon=True)
    thread.start()
    try:
        while not changed.wait(1):
            pass
    finally:
        watcher.close()
        thread.join()

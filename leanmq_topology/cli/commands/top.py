"""`leanmq top`: the queues of a namespace, again and again."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.commands.run import Duration
from leanmq_topology.cli.live.frame import Palette, Scene, draw_frame
from leanmq_topology.cli.live.samples import Sample, Samples
from leanmq_topology.cli.live.screen import Screen
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import wants_color

if TYPE_CHECKING:
    from leanmq_topology.brokers.connect import BlockingLink
    from leanmq_topology.operations.status import Status

WIDTH = 100
"""Columns where there is no terminal."""


@click.command("top")
@click.option(
    "--every", "every_ms", type=Duration(), default="1s", show_default=True, help="Time between two looks."
)
@click.option(
    "--count", type=click.IntRange(1), help="End after so many looks.  [default: on a terminal never, else 1]"
)
@common_options()
def command(call: Invocation, every_ms: int, count: int | None) -> None:
    """Watch the queues: what waits, what runs, how fast it goes.

    Looks, never touches. Ctrl-C ends it. The rate of a look is that since the look before, or over the last
    seconds.
    """
    from leanmq_topology.brokers.connect import open_blocking

    topology = call.load_topology()
    url, namespace = call.broker_url(topology), topology.broker.namespace
    on_terminal = sys.stdout.isatty() and not call.output.is_json
    looks = count if count is not None else None if on_terminal else 1
    with open_blocking(url, namespace=namespace, folder=topology.folder, client_name="leanmq-top") as link:
        scene = Scene(f"{namespace} on {link.url}", hint="Ctrl-C to end" if on_terminal else "")
        with _ending_quietly():
            watch(call, link, namespace, scene, every_ms / 1000, looks, on_terminal=on_terminal)


def watch(
    call: Invocation,
    link: BlockingLink,
    namespace: str,
    scene: Scene,
    every_seconds: float,
    looks: int | None,
    *,
    on_terminal: bool,
) -> None:
    palette = Palette(color=wants_color(sys.stdout))
    if on_terminal:
        with Screen(sys.stdout) as screen:
            for samples in _look(link, namespace, every_seconds, looks):
                width, height = screen.size
                screen.show(draw_frame(scene, samples, width=width, height=height, palette=palette))
        return
    for samples in _look(link, namespace, every_seconds, looks):
        assert samples.newest is not None
        frame = draw_frame(
            scene, samples, width=WIDTH, height=len(samples.newest.queues) + 3, palette=palette
        )
        call.output.data("top", describe(samples.newest, samples), "\n".join(frame))


def _look(link: BlockingLink, namespace: str, every_seconds: float, looks: int | None) -> Iterator[Samples]:
    """One look more than asked for comes first: a rate needs two."""
    from leanmq_topology.operations.status import read_status

    samples, due, done = Samples(), time.monotonic(), 0
    while looks is None or done <= looks:
        samples.add(Sample(time.monotonic(), read_status(link, namespace)))
        if done or looks is None:
            yield samples
        done += 1
        due = max(due + every_seconds, time.monotonic())
        if looks is None or done <= looks:
            threading.Event().wait(due - time.monotonic())


def describe(status: Status, samples: Samples) -> dict[str, Any]:
    """The shape of `leanmq.top/v1`."""
    queues = {}
    for name, state in status.states.items():
        rate = samples.rate(name)
        queues[name] = {
            "ready": state.ready,
            "in_flight": state.in_flight,
            "delayed": state.delayed,
            "retried": (state.counters or {}).get("retried", 0),
            "dead": state.dead,
            "acked_per_second": None if rate is None else round(rate, 3),
        }
    return {"generation": status.generation, "queues": queues, "workers": len(status.workers)}


@contextmanager
def _ending_quietly() -> Iterator[None]:
    """Ctrl-C is how one ends this; it is no failure."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGINT, before)

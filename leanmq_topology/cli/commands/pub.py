"""`leanmq pub`."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from leanmq_topology.cli.commands.run import Duration
from leanmq_topology.cli.content import read_data, read_header, read_lines
from leanmq_topology.cli.options import Invocation, common_options


@click.command("pub")
@click.argument("channel", required=False)
@click.argument("content", metavar="[JSON|@FILE|-]", required=False)
@click.option("--type", "kind", metavar="TYPE", help="Message type; needed where the channel takes several.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@click.option("--ndjson", is_flag=True, help="A message a line, of @FILE or standard input (-).")
@click.option(
    "--every", "every_ms", type=Duration(), help="Publish again and again, with so much time between."
)
@click.option("--count", type=click.IntRange(1), help="With --every: end after so many.")
@click.option("--interactive", is_flag=True, help="Type commands: pub, batch, periodic, stats, exit.")
@common_options()
def command(
    call: Invocation,
    channel: str | None,
    content: str | None,
    kind: str | None,
    headers: tuple[str, ...],
    ndjson: bool,
    every_ms: int | None,
    count: int | None,
    interactive: bool,
) -> None:
    """Publish on an ephemeral channel, and print how many heard it. Nothing is stored.

    The data is JSON: as an argument, from a file (@news.json), or from standard input (-). On a channel that
    the topology declares it is checked against its schema; any other channel takes any JSON object. Without
    data, on a terminal, commands are typed.
    """
    if interactive or (channel is None and sys.stdin.isatty()):
        from leanmq_topology.cli.session.opening import run_session

        _refuse_with("--interactive", content, ndjson, every_ms, call)
        run_session(call, "pub", writes=True)
        return
    if channel is None or content is None:
        raise click.UsageError("say the channel and what to publish: JSON, @FILE or -; or --interactive")
    if count is not None and every_ms is None:
        raise click.UsageError("--count goes with --every")
    if ndjson and every_ms is not None:
        raise click.UsageError("--ndjson and --every exclude each other")
    _publish(call, channel, content, kind, dict(map(read_header, headers)), ndjson, every_ms, count)


def _refuse_with(
    option: str, content: str | None, ndjson: bool, every_ms: int | None, call: Invocation
) -> None:
    if content is not None or ndjson or every_ms is not None:
        raise click.UsageError(f"{option} takes no data: it is typed")
    if call.output.is_json:
        raise click.UsageError(f"{option} prints text")


def _publish(
    call: Invocation,
    channel: str,
    content: str,
    kind: str | None,
    headers: dict[str, str],
    ndjson: bool,
    every_ms: int | None,
    count: int | None,
) -> None:
    from leanmq_topology.client import connect_sync

    topology = call.load_topology()
    items = list(read_lines(content)) if ndjson else [read_data(content, missing="say what to publish")]
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        heard = published = 0
        try:
            for batch in _schedule(items, every_ms, count):
                found = client.publish_many(
                    [(channel, data) for data in batch], type=kind, headers=headers or None
                )
                published, heard = published + len(found), heard + sum(found)
                if every_ms is not None and not call.output.is_json:
                    call.output.line(str(sum(found)))
        except KeyboardInterrupt:
            if every_ms is None:
                raise
        text = "" if every_ms is not None else str(heard)
        call.output.data("pub", {"published": published, "receivers": heard}, text)


def _schedule(items: list[Any], every_ms: int | None, count: int | None) -> Iterator[list[Any]]:
    """What to publish, each when its time has come; times do not drift."""
    if every_ms is None:
        yield items
        return
    began = time.monotonic()
    for turn in itertools.count() if count is None else range(count):
        time.sleep(max(began + turn * every_ms / 1000 - time.monotonic(), 0.0))
        yield items

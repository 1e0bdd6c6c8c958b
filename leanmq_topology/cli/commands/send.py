"""`leanmq send`."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import click

from leanmq_topology.cli.arriving_lines import read_arriving
from leanmq_topology.cli.content import read_data, read_header
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.cli.output import Output
from leanmq_topology.cli.progress import Progress
from leanmq_topology.cli.sending_lines import LineSender
from leanmq_topology.errors import InvalidMessageError, LeanMQError, SettingError, UnknownTargetError
from leanmq_topology.topology.model import RequestRoute, Topology

_MISSING = "say what to send: JSON, @FILE, - for standard input, or --example"


@click.command("send")
@click.argument("target")
@click.argument("content", metavar="[JSON|@FILE|-]", required=False)
@click.option("--type", "kind", metavar="TYPE", help="Message type; needed where the target takes several.")
@click.option(
    "--ttl", metavar="DURATION", help="How long it may wait, such as 5m; the queue's own may be shorter."
)
@click.option("--delay", metavar="DURATION", help="Not before this time has passed, such as 30s.")
@click.option(
    "--id",
    "message_id",
    metavar="ID",
    help="The message's stable id, made up if left out; again within 10 minutes, it is not stored twice.",
)
@click.option(
    "--topic", metavar="TOPIC", help="On a topic route, what chooses the queues; otherwise the type does."
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header; may be repeated.")
@click.option(
    "--ndjson",
    is_flag=True,
    help="Send a message for each line of the file, or of standard input; prints each id.",
)
@click.option("--example", is_flag=True, help="Send the first example of the type, from the topology file.")
@common_options()
def command(
    call: Invocation,
    target: str,
    content: str | None,
    kind: str | None,
    ttl: str | None,
    delay: str | None,
    message_id: str | None,
    topic: str | None,
    headers: tuple[str, ...],
    ndjson: bool,
    example: bool,
) -> None:
    """Send one validated message to a queue or a route, and print its id.

    The data is JSON: as an argument, from a file (@order.json), or from standard input (-). Data that breaks
    its schema exits 3, names the place, and writes nothing.

    With --ndjson each line is a message, of any number. They are stored in order; if a line fails, the error
    names it, and all lines before it are stored.
    """
    from leanmq_topology.client import connect_sync

    topology = call.load_topology()
    _check_usage(content, message_id, ndjson=ndjson, example=example)
    options: dict[str, Any] = {
        "type": kind,
        "ttl": ttl,
        "delay": delay,
        "topic": topic,
        "headers": dict(read_header(text) for text in headers) or None,
    }
    if ndjson:
        with _open_lines(content) as source, connect_sync(topology, url=call.broker_url(topology)) as client:
            _send_lines(call.output, source, partial(client.send_many, target, atomic=False, **options))
        return
    data = _find_example(topology, target, kind) if example else read_data(content, missing=_MISSING)
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        sent = client.send(target, data, id=message_id, **options)
    call.output.data("send", {"id": sent}, sent)


def _check_usage(content: str | None, message_id: str | None, *, ndjson: bool, example: bool) -> None:
    if example and content is not None:
        raise click.UsageError("--example and data exclude each other")
    if example and ndjson:
        raise click.UsageError("--example and --ndjson exclude each other")
    if ndjson and message_id is not None:
        raise click.UsageError("--id is for one message; --ndjson sends several")
    if ndjson and content is not None and content != "-" and not content.startswith("@"):
        raise click.UsageError("--ndjson reads lines from a file (@FILE) or standard input (-)")


def _send_lines(output: Output, source: BinaryIO, send_many: Callable[[list[Any]], Sequence[str]]) -> None:
    watched = (
        sys.stderr if sys.stderr is not None and sys.stderr.isatty() and not _is_shown_ids(output) else None
    )
    progress = Progress(watched, _find_size(source))
    ids: list[str] = []

    def note_stored(stored: Sequence[str]) -> None:
        progress.add(len(stored))
        if output.is_json:
            ids.extend(stored)
        else:
            output.line("\n".join(stored))

    sender = LineSender(send_many, note_stored)
    try:
        sender.send(progress.watch(read_arriving(source)))
    except LeanMQError as failure:
        failure.stored_ids = tuple(ids)
        raise
    except KeyboardInterrupt:
        progress.clear()
        output.note(sender.tell_stored())
        raise
    finally:
        progress.clear()
    if output.is_json:
        output.data("send", {"ids": ids}, "")


def _is_shown_ids(output: Output) -> bool:
    """Whether ids run over the very terminal that progress would be drawn on."""
    return not output.is_json and sys.stdout is not None and sys.stdout.isatty()


def _find_size(source: BinaryIO) -> int | None:
    """Bytes of a file; None for a pipe or a terminal, which have no end yet."""
    try:
        found = os.fstat(source.fileno())
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _open_lines(content: str | None) -> Iterator[BinaryIO]:
    if content in {None, "-"}:
        yield sys.stdin.buffer
        return
    assert content is not None
    try:
        source = Path(content[1:]).open("rb")  # noqa: SIM115  what the block raises is not about the file
    except OSError as failure:
        raise SettingError(content, f"cannot be read: {failure.strerror}") from failure
    with source:
        yield source


def _find_example(topology: Topology, target: str, kind: str | None) -> Any:
    """The first example of the type that the target takes."""
    from leanmq_topology.diagnostics import closest

    declared = topology.queues.get(target) or topology.routes.get(target)
    if declared is None:
        raise UnknownTargetError(target, closest=closest(target, topology.target_names()))
    accepts = (declared.request,) if isinstance(declared, RequestRoute) else declared.accepts
    chosen = kind or (accepts[0] if len(accepts) == 1 else None)
    if chosen is None:
        what = f"{target} takes {', '.join(accepts)}" if accepts else f"{target} takes any message"
        raise SettingError("--example", what, hint="say which one with --type")
    message = topology.messages.get(chosen)
    if message is None or not message.examples:
        raise InvalidMessageError("", "the topology has no example of it", type=chosen)
    return message.examples[0]

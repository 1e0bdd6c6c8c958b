"""`leanmq sub`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.channel_text import describe_message, render_counts, render_message
from leanmq_topology.cli.commands.run import Duration
from leanmq_topology.cli.options import Invocation, common_options
from leanmq_topology.errors import LeanMQError

if TYPE_CHECKING:
    from leanmq_topology.client.channels.blocking import SyncSubscription
    from leanmq_topology.client.channels.inbox import SubscriptionStatistics


class NotHeardError(LeanMQError):
    """Fewer messages came than were asked for."""

    exit_code = 7

    def __init__(self, wanted: int, heard: int) -> None:
        super().__init__(f"{heard} of {wanted} messages came in time")


@click.command("sub")
@click.argument("channels", metavar="CHANNEL", nargs=-1)
@click.option("--count", type=click.IntRange(1), help="End after so many messages.")
@click.option(
    "--for", "for_ms", type=Duration(), help="End after this time; with fewer than --count exits 7."
)
@click.option("--interactive", is_flag=True, help="Type commands meanwhile: sub, unsub, stop, stats, exit.")
@common_options()
def command(
    call: Invocation, channels: tuple[str, ...], count: int | None, for_ms: int | None, interactive: bool
) -> None:
    """Listen to ephemeral channels and print what is published from now on, until Ctrl-C.

    In a name `*` stands for any text and `?` for one character: quote it. With `-o json` each message is a
    line of its own. What breaks the schema of its channel is left out and counted.
    """
    if interactive or (not channels and sys.stdin.isatty()):
        from leanmq_topology.cli.session.opening import run_session

        if count is not None or for_ms is not None or call.output.is_json:
            raise click.UsageError("--interactive goes without --count, --for and -o json")
        run_session(call, "sub", writes=False, first=f"sub {' '.join(channels)}" if channels else "")
        return
    if not channels:
        raise click.UsageError("name a channel to listen to, or use --interactive")
    _listen(call, channels, count, for_ms)


def _listen(call: Invocation, channels: tuple[str, ...], count: int | None, for_ms: int | None) -> None:
    from leanmq_topology.client import connect_sync

    topology = call.load_topology()
    with connect_sync(topology, url=call.broker_url(topology)) as client:
        subscription = client.subscribe(*channels)
        try:
            subscription.start()
            call.output.note(f"listening to {', '.join(subscription.channels)}; Ctrl-C ends it")
            heard = _print_all(call, subscription, count, for_ms)
        except KeyboardInterrupt:
            heard = count or 0
        finally:
            call.output.note(render_statistics(subscription.statistics))
    if count is not None and heard < count:
        raise NotHeardError(count, heard)


def _print_all(
    call: Invocation, subscription: SyncSubscription, count: int | None, for_ms: int | None
) -> int:
    """Returns how many were printed."""
    until = None if for_ms is None else time.monotonic() + for_ms / 1000
    heard = 0
    while count is None or heard < count:
        message = subscription.next(None if until is None else max(until - time.monotonic(), 0.0))
        if message is None:
            break
        heard += 1
        if call.output.is_json:
            answer: dict[str, Any] = {"schema": "leanmq.sub/v1", **describe_message(message)}
            call.output.line(json.dumps(answer, ensure_ascii=False))
        else:
            call.output.line(render_message(message))
        sys.stdout.flush()
    return heard


def render_statistics(statistics: SubscriptionStatistics) -> str:
    """`received 3 (news 2, ticker 1), 1 invalid`."""
    parts = [f"received {render_counts(statistics.received)}"]
    for name in ("invalid", "dropped"):
        counts = getattr(statistics, name)
        if counts:
            parts.append(f"{name} {render_counts(counts)}")
    if statistics.interruptions:
        parts.append(f"interrupted {statistics.interruptions} times")
    return ", ".join(parts)

"""Values that are right on their own and wrong together, and what is better said than left out."""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterator
from difflib import get_close_matches

from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.model import Handler, Queue, RequestRoute
from leanmq_topology.topology.retries import longest_total_wait_ms
from leanmq_topology.topology.specs import targets_of
from leanmq_topology.topology.values import format_duration, format_size

ATOMIC_SIZE = 4 * 1024 * 1024
"""Bytes that one atomic send may write, over all its copies."""
SHORTEST_LEASE_MS = 1000
"""Of what `visibility_timeout` may be, the least."""

_CLASS_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_EXCEPTIONS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}
_OTHER_BUILTINS = set(vars(builtins)) - _EXCEPTIONS


def check_delay_within_ttl(draft: Draft) -> Findings:
    for queue in draft.topology.queues.values():
        if queue.ttl_ms is None or queue.delay_ms < queue.ttl_ms:
            continue
        ttl, delay = draft.settled("queues", queue.name, "ttl"), draft.settled("queues", queue.name, "delay")
        if not draft.is_broken(ttl, delay):
            yield draft.error(
                "LMQ406",
                f"delay {format_duration(queue.delay_ms)} is not shorter than"
                f" ttl {format_duration(queue.ttl_ms)}: every message would expire before it may be started",
                delay,
                suggestion="raise ttl or lower delay",
            )


def check_delay_within_timeout(draft: Draft) -> Findings:
    """A request expires when its client waits no more."""
    queues = draft.topology.queues
    for route in draft.topology.routes.values():
        queue = queues.get(route.queue) if isinstance(route, RequestRoute) else None
        if not isinstance(route, RequestRoute) or queue is None or queue.delay_ms < route.timeout_ms:
            continue
        timeout = ("routes", route.name, "timeout")
        delay = draft.settled("queues", queue.name, "delay")
        if not draft.is_broken(timeout, delay):
            yield draft.error(
                "LMQ406",
                f"delay {format_duration(queue.delay_ms)} is not shorter than timeout"
                f" {format_duration(route.timeout_ms)} of route {route.name!r}: every request would expire"
                " before it may be started",
                delay,
                suggestion=f"raise routes.{route.name}.timeout or take the delay out",
            )


def check_retry_delays(draft: Draft) -> Findings:
    for queue in draft.topology.queues.values():
        retry = queue.retry
        if retry.steps_ms or retry.delay_ms <= retry.max_delay_ms:
            continue
        delay = draft.settled("queues", queue.name, "retry", "delay")
        limit = draft.settled("queues", queue.name, "retry", "max_delay")
        if not draft.is_broken(delay, limit):
            yield draft.error(
                "LMQ407",
                f"retry.delay {format_duration(retry.delay_ms)} is longer than"
                f" retry.max_delay {format_duration(retry.max_delay_ms)}",
                delay,
                suggestion=f"write max_delay: {format_duration(retry.delay_ms)} or more, or a shorter delay",
            )


def check_retry_steps(draft: Draft) -> Findings:
    for queue in draft.topology.queues.values():
        if not queue.retry.steps_ms:
            continue
        place = draft.settled("queues", queue.name, "retry")
        given = draft.entries(*map(str, place))
        rivals = [key for key in ("backoff", "delay", "max_delay") if key in given]
        if "steps" in given and rivals:
            yield draft.error(
                "LMQ408",
                f"retry.steps and retry.{rivals[0]} exclude each other",
                (*place, rivals[0]),
                suggestion="keep the steps or the formula",
                at_key=True,
            )


def check_retries_within_ttl(draft: Draft) -> Findings:
    for queue in draft.topology.queues.values():
        total = longest_total_wait_ms(queue.retry, queue.max_deliveries)
        if queue.ttl_ms is None or total < queue.ttl_ms:
            continue
        ttl = draft.settled("queues", queue.name, "ttl")
        if draft.is_broken(ttl) or queue.delay_ms >= queue.ttl_ms:
            continue
        yield draft.warning(
            "LMQ422",
            f"{queue.max_deliveries} deliveries may wait {format_duration(total)} between them,"
            f" ttl is {format_duration(queue.ttl_ms)}: a failing message expires before its last delivery",
            ttl,
            suggestion="raise ttl, or lower max_deliveries or the retry delays",
        )


def check_visibility_timeout(draft: Draft) -> Findings:
    """A lease longer than any run may last only delays the rescue of a dead worker's messages.

    Said where it was chosen: the default is short enough for everybody.
    """
    for handler, queue in _handlers(draft):
        visibility = draft.settled("queues", queue.name, "visibility_timeout")
        longest_ms = max(handler.timeout_ms, SHORTEST_LEASE_MS)
        if queue.visibility_timeout_ms <= longest_ms or not _chose(draft, queue, "visibility_timeout"):
            continue
        if draft.is_broken(visibility, draft.settled("handlers", handler.name, "timeout")):
            continue
        limit, longest = format_duration(handler.timeout_ms), format_duration(longest_ms)
        yield draft.warning(
            "LMQ409",
            f"visibility_timeout {format_duration(queue.visibility_timeout_ms)} is longer than handler"
            f" {handler.name!r} may run ({limit}): a dead worker's messages wait longer than they need",
            visibility,
            suggestion=f"write {longest} or less; leases are renewed while a handler runs",
        )


def check_prefetch(draft: Draft) -> Findings:
    """Less than what is to run at once would leave some of it idle for ever."""
    for handler in draft.topology.handlers.values():
        key, wanted = "concurrency", handler.concurrency
        never = f"{wanted - (handler.prefetch or 0)} of its runs could never start"
        if handler.batch is not None and handler.batch.size > wanted:
            key, wanted, never = "batch", handler.batch.size, "no batch could ever be full"
        if handler.prefetch is None or handler.prefetch >= wanted:
            continue
        prefetch = draft.settled("handlers", handler.name, "prefetch")
        if not draft.is_broken(prefetch, draft.settled("handlers", handler.name, key)):
            what = "batch.size" if key == "batch" else key
            yield draft.error(
                "LMQ410",
                f"prefetch {handler.prefetch} is less than {what} {wanted}: {never}",
                prefetch,
                suggestion=f"write prefetch: {wanted} or more, or leave it out",
            )


def check_route_size(draft: Draft) -> Findings:
    """Said where a size was chosen on purpose; in strict mode, wherever a full-size message is too much."""
    queues = draft.topology.queues
    for route in draft.topology.routes.values():
        targets = [queues[target.queue] for target in targets_of(route) if target.queue in queues]
        if len(targets) < 2 or not (
            draft.strict or any(_chose(draft, queue, "max_message_size") for queue in targets)
        ):
            continue
        largest = min(queue.max_message_size for queue in targets)
        if largest * len(targets) > ATOMIC_SIZE:
            fits = format_size(ATOMIC_SIZE // len(targets) // 1024 * 1024)
            yield draft.warning(
                "LMQ413",
                f"{len(targets)} copies of {format_size(largest)} are more than one atomic send writes"
                f" ({format_size(ATOMIC_SIZE)}): larger messages than {fits} will be refused",
                ("routes", route.name, "to"),
                suggestion=f"lower max_message_size of one of its queues to {fits}",
                at_key=True,
            )


def check_accepts_given(draft: Draft) -> Findings:
    for queue in draft.topology.queues.values():
        if not queue.accepts and not draft.is_broken(draft.settled("queues", queue.name, "accepts")):
            yield draft.warning(
                "LMQ414",
                f"queue {queue.name!r} does not say what it accepts, so any JSON object may be sent to it",
                ("queues", queue.name),
                suggestion="add accepts: [a message type]",
                at_key=True,
            )


def check_ttl_given(draft: Draft) -> Findings:
    if not draft.strict:
        return
    for queue in draft.topology.queues.values():
        if queue.ttl_ms is None and not draft.is_broken(draft.settled("queues", queue.name, "ttl")):
            yield draft.warning(
                "LMQ415",
                f"queue {queue.name!r} has no ttl: what nobody handles stays for ever",
                ("queues", queue.name),
                suggestion="add ttl: 7d, or defaults: {queue: {ttl: 7d}}",
                at_key=True,
            )


def check_never(draft: Draft) -> Findings:
    """Exceptions are named as text, so what cannot be a name would silently never match."""
    for place, name in _never(draft):
        if not _CLASS_NAME.fullmatch(name) or name in _OTHER_BUILTINS:
            yield draft.error(
                "LMQ416",
                f"{name!r} is not the name of an exception class",
                place,
                suggestion="write ValueError, or the full name of your own: shop.errors.CardDeclined",
            )


def check_never_spelling(draft: Draft) -> Findings:
    for place, name in _never(draft):
        if "." in name or name in _EXCEPTIONS or name in _OTHER_BUILTINS:
            continue
        near = get_close_matches(name, _EXCEPTIONS, n=1, cutoff=0.9)
        if near:
            yield draft.warning(
                "LMQ417",
                f"{name!r} is almost Python's {near[0]}; an exception of another name never matches",
                place,
                suggestion=f"write {near[0]}, or the full name of your own class",
            )


def _never(draft: Draft) -> Iterator[tuple[ValuePath, str]]:
    """Every name in a `retry.never`; those of `defaults` once, not once for each queue."""
    seen: set[ValuePath] = set()
    for queue in draft.topology.queues.values():
        for at, name in enumerate(queue.retry.never):
            place = (*draft.settled("queues", queue.name, "retry", "never"), at)
            if place not in seen:
                seen.add(place)
                yield place, name


def _chose(draft: Draft, queue: Queue, key: str) -> bool:
    """Whether the file says something about it, for this queue or for all."""
    return draft.given("queues", queue.name, key) or draft.given("defaults", "queue", key)


def _handlers(draft: Draft) -> list[tuple[Handler, Queue]]:
    """Each handler with its queue, where both are known."""
    queues = draft.topology.queues
    handlers = draft.topology.handlers.values()
    return [(handler, queues[handler.queue]) for handler in handlers if handler.queue in queues]

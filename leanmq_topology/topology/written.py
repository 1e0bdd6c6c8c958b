"""A topology written out again as the values of a file.

Every default is spelt out, durations and sizes are as people write them. Reading it gives an equal topology.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from leanmq_topology.topology.model import (
    FORMAT,
    ROUTE_TYPES,
    Handler,
    KeepAcked,
    MessageType,
    Queue,
    RequestRoute,
    Retry,
    Route,
    Target,
    Topology,
)
from leanmq_topology.topology.support import without_unsupported
from leanmq_topology.topology.values import format_duration, format_size

Values = dict[str, Any]

_ROUTE_WORDS = {kind: word for word, kind in ROUTE_TYPES.items()}


def write_topology(topology: Topology) -> Values:
    """The values of one self-contained file. What this version refuses is left out: it is at its default."""
    return without_unsupported(
        {
            "leanmq": FORMAT,
            "name": topology.name,
            "broker": _given(
                url=topology.broker.url and escape(topology.broker.url),
                namespace=topology.broker.namespace,
                durability=topology.broker.durability,
            ),
            **_section("messages", {name: _message(item) for name, item in topology.messages.items()}),
            **_section("queues", {name: write_queue(item) for name, item in topology.queues.items()}),
            **_section("routes", {name: write_route(item) for name, item in topology.routes.items()}),
            **_section("handlers", {name: write_handler(item) for name, item in topology.handlers.items()}),
            **_section("lifespan", topology.lifespan),
            **_section("middleware", list(topology.middleware)),
            **_section("moved", dict(topology.moved)),
        }
    )


def write_queue(queue: Queue) -> Values:
    return _given(
        accepts=list(queue.accepts) or None,
        ttl=_lifetime(queue.ttl_ms),
        on_expire=queue.on_expire,
        delay=format_duration(queue.delay_ms),
        max_deliveries=queue.max_deliveries,
        max_crashes=queue.max_crashes,
        retry=write_retry(queue.retry),
        visibility_timeout=format_duration(queue.visibility_timeout_ms),
        max_length=queue.max_length,
        overflow=queue.overflow,
        keep_acked=_keep_acked(queue.keep_acked),
        deduplication=queue.deduplication
        and _given(window=format_duration(queue.deduplication.window_ms), key=queue.deduplication.key),
        max_message_size=format_size(queue.max_message_size),
        dead_letter=_given(
            ttl=_lifetime(queue.dead_letter.ttl_ms),
            max_length=queue.dead_letter.max_length,
            alert_at=queue.dead_letter.alert_at,
        ),
        lifecycle=_given(prevent_delete=queue.lifecycle.prevent_delete, on_remove=queue.lifecycle.on_remove),
        durability=queue.durability,
    )


def write_retry(retry: Retry) -> Values:
    never = list(retry.never) or None
    if retry.steps_ms:
        steps = [format_duration(step) for step in retry.steps_ms]
        return _given(steps=steps, jitter=retry.jitter, never=never)
    return _given(
        backoff=retry.backoff,
        delay=format_duration(retry.delay_ms),
        max_delay=format_duration(retry.max_delay_ms),
        jitter=retry.jitter,
        never=never,
    )


def write_route(route: Route) -> Values:
    kind = _ROUTE_WORDS[type(route)]
    if isinstance(route, RequestRoute):
        return _given(
            type=kind,
            request=route.request,
            reply=route.reply,
            error=route.error,
            queue=route.queue,
            timeout=format_duration(route.timeout_ms),
        )
    targets = {target.queue: _target(target) for target in getattr(route, "to", ())}
    return _given(type=kind, accepts=list(route.accepts) or None, to=targets or None)


def write_handler(handler: Handler) -> Values:
    return _given(
        queue=handler.queue,
        call=handler.call,
        concurrency=handler.concurrency,
        prefetch="auto" if handler.prefetch is None else handler.prefetch,
        timeout=format_duration(handler.timeout_ms),
        on_false=handler.on_false,
        batch=handler.batch and {"size": handler.batch.size, "wait": format_duration(handler.batch.wait_ms)},
        then=handler.then,
    )


def escape(value: Any) -> Any:
    """Every `$` doubled, so that reading finds no variable in what was plain text."""
    match value:
        case str():
            return value.replace("$", "$$")
        case dict():
            return {key: escape(item) for key, item in value.items()}
        case list() | tuple():
            return [escape(item) for item in value]
        case _:
            return value


def _message(message: MessageType) -> Values:
    return _given(
        version=message.version,
        schema=message.schema,
        compatibility=message.compatibility,
        examples=list(message.examples) or None,
    )


def _target(target: Target) -> Values:
    return _given(match=escape(target.match), topics=escape(list(target.topics)) or None)


def _keep_acked(kept: KeepAcked | None) -> str | int:
    if kept is None:
        return "none"
    return kept.count if kept.count is not None else _lifetime(kept.duration_ms)


def _lifetime(duration_ms: int | None) -> str:
    return "none" if duration_ms is None else format_duration(duration_ms)


def _section(name: str, value: Any) -> Values:
    return {name: value} if value else {}


def _given(**values: Any) -> Values:
    """Without what has no value, and with plain words for enumerations."""
    return {
        key: value.value if isinstance(value, Enum) else value
        for key, value in values.items()
        if value is not None
    }

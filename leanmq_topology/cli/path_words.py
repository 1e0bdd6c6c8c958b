"""What becomes of a message, in words: the promises of one resource with its own numbers."""

from __future__ import annotations

from collections.abc import Iterator

from leanmq_topology.cli.drawing import describe_filter
from leanmq_topology.topology.model import (
    EphemeralRoute,
    Handler,
    Jitter,
    MessageType,
    OnExpire,
    OnFalse,
    Overflow,
    Queue,
    RequestRoute,
    Route,
    TopicRoute,
    Topology,
)
from leanmq_topology.topology.retries import longest_wait_ms
from leanmq_topology.topology.specs import targets_of
from leanmq_topology.topology.values import format_duration, format_size

_SHOWN_WAITS = 5
_ON_FALSE = {
    OnFalse.DEAD_LETTER: "dead-letters the message",
    OnFalse.RETRY: "counts as a failure, so the message is retried",
    OnFalse.ACK: "counts as success",
}


def describe_queue(topology: Topology, queue: Queue) -> Iterator[str]:
    """The way of a message through a queue, one sentence a step."""
    yield from _describe_arrival(topology, queue)
    if queue.delay_ms:
        yield f"A message may start {format_duration(queue.delay_ms)} after it was sent, not before."
    if queue.ttl_ms is not None:
        fate = "dead-lettered" if queue.on_expire is OnExpire.DEAD_LETTER else "discarded"
        yield f"{format_duration(queue.ttl_ms)} after it was sent it is not started any more, but {fate}."
    yield from _describe_handling(topology, queue)
    yield _describe_retries(queue)
    if queue.retry.never:
        yield f"If the handler raises {_join(queue.retry.never, 'or')}, the message is dead-lettered at once."
    yield (
        f"A worker that is silent for {format_duration(queue.visibility_timeout_ms)} counts as dead;"
        " its messages go to another."
    )


def describe_route(route: Route) -> Iterator[str]:
    if isinstance(route, EphemeralRoute):
        yield "A message goes to whoever listens at that moment; nothing is stored."
        return
    if isinstance(route, RequestRoute):
        timeout = format_duration(route.timeout_ms)
        yield f"A {route.request} is sent to queue {route.queue}."
        declined = f", or a {route.error} where the handler declines" if route.error else ""
        yield f"The sender waits up to {timeout} for a {route.reply}{declined}."
        return
    targets = targets_of(route)
    accepted = _join(route.accepts, "or") if route.accepts else "any JSON object"
    yield f"The route takes {accepted}."
    yield "A message is copied to these queues, to all in one step or to none:"
    for target in targets:
        wanted = describe_filter(target)
        yield f"  {target.queue}" + (f"  if {wanted}" if wanted else "")
    if isinstance(route, TopicRoute):
        yield "The topic is what the send names (--topic), else the type; `*` is one word, `#` any number."
    if all(describe_filter(target) for target in targets):
        yield "A message that no queue wants is stored nowhere; the send succeeds and is counted as unrouted."


def describe_handler(topology: Topology, handler: Handler) -> Iterator[str]:
    yield f"Messages of queue {handler.queue} are given to {handler.call}."
    yield f"Each worker process runs up to {handler.concurrency} at once."
    yield f"Returning False {_ON_FALSE[handler.on_false]}; anything else it returns is success."
    queue = topology.queues.get(handler.queue)
    if queue is not None:
        yield _describe_retries(queue)


def describe_message(topology: Topology, message: MessageType) -> Iterator[str]:
    queues = [queue.name for queue in topology.queues.values() if message.name in queue.accepts]
    routes = [
        route.name
        for route in topology.routes.values()
        if message.name in (route.request if isinstance(route, RequestRoute) else route.accepts)
    ]
    takers = [*(f"queue {name}" for name in queues), *(f"route {name}" for name in routes)]
    yield f"It can be sent to {_join(takers, 'or')}." if takers else "No queue or route accepts it by name."
    yield "Its data is checked before a send leaves the process, and again before a handler sees it."


def _describe_arrival(topology: Topology, queue: Queue) -> Iterator[str]:
    accepted = _join(queue.accepts, "or") if queue.accepts else "any JSON object"
    size = format_size(queue.max_message_size)
    yield f"The queue takes {accepted} of up to {size}, sent to {_join(_senders_to(topology, queue), 'or')}."
    if queue.max_length is not None:
        full = {
            Overflow.REJECT: "a send is refused",
            Overflow.DROP_OLDEST: "the oldest waiting one makes room",
            Overflow.DEAD_LETTER: "the message goes to the dead letters",
        }[queue.overflow]
        yield f"When {queue.max_length:,} messages are in it, {full}."


def _senders_to(topology: Topology, queue: Queue) -> list[str]:
    """What a sender may name to reach a queue."""
    routes = [
        f"route {route.name}"
        for route in topology.routes.values()
        if any(target.queue == queue.name for target in targets_of(route))
    ]
    return [f"queue {queue.name}", *routes]


def _describe_handling(topology: Topology, queue: Queue) -> Iterator[str]:
    handlers = [handler for handler in topology.handlers.values() if handler.queue == queue.name]
    if not handlers:
        yield "No handler of this file takes its messages; they wait for another program."
    for handler in handlers:
        yield f"Handler {handler.name} ({handler.call}) runs for each message."


def _describe_retries(queue: Queue) -> str:
    if queue.max_deliveries == 1:
        return "A message is delivered once; if that fails, it is dead-lettered."
    waits = [longest_wait_ms(queue.retry, failures) for failures in range(1, queue.max_deliveries)]
    shown = ", ".join(format_duration(wait) for wait in waits[:_SHOWN_WAITS])
    if len(waits) > _SHOWN_WAITS:
        shown += f" … at most {format_duration(max(waits))}"
    is_spread = queue.retry.jitter is Jitter.FULL and not queue.retry.steps_ms
    about = "at random up to" if is_spread else "about"
    return (
        f"A message is delivered at most {queue.max_deliveries} times, waits {about} {shown} in between,"
        " and is then dead-lettered."
    )


def _join(words: list[str] | tuple[str, ...], last: str) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"

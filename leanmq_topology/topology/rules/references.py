"""Everything one part of the file says about another: does that other part exist, and does it fit?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leanmq_topology.topology.call_reference import Refused, read_reference
from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.fields import ValuePath
from leanmq_topology.topology.model import (
    EphemeralRoute,
    FanoutRoute,
    Queue,
    RequestRoute,
    Target,
    TopicRoute,
)

_MOVABLE = ("queues", "routes", "messages")


def check_message_types(draft: Draft) -> Findings:
    declared = draft.entries("messages")
    for path, name in _type_references(draft):
        if name not in declared:
            hint = (
                draft.spelling.suggest(name, declared) or f"declare it: messages: {{{name}: {{schema: …}}}}"
            )
            yield draft.error("LMQ304", f"no message type is named {name!r}", path, suggestion=hint)


def check_queues(draft: Draft) -> Findings:
    queues, routes = draft.entries("queues"), draft.entries("routes")
    for path, name, at_key in _queue_references(draft):
        if name not in queues and not (at_key and name in routes):
            hint = draft.spelling.suggest(name, queues)
            yield draft.error("LMQ305", f"no queue is named {name!r}", path, suggestion=hint, at_key=at_key)


def check_then(draft: Draft) -> Findings:
    known = {**draft.entries("queues"), **draft.entries("routes")}
    for handler in draft.topology.handlers.values():
        if handler.then is not None and handler.then not in known:
            yield draft.error(
                "LMQ306",
                f"no queue or route is named {handler.then!r}",
                draft.settled("handlers", handler.name, "then"),
                suggestion=draft.spelling.suggest(handler.then, known),
            )


def check_then_type(draft: Draft) -> Findings:
    """What a handler returns has no type of its own, so its target must leave no choice."""
    for handler in draft.topology.handlers.values():
        route = draft.topology.routes.get(handler.then or "")
        place = draft.settled("handlers", handler.name, "then")
        types = _types_taken(draft, handler.then) if handler.then else ()
        if isinstance(route, EphemeralRoute):
            yield draft.error(
                "LMQ336",
                f"{handler.then!r} is ephemeral: it stores nothing, so nothing can go there together with"
                " the acknowledgement",
                place,
                suggestion=f"call `mq.publish({handler.then!r}, …)` in the handler",
            )
        elif len(types) > 1:
            yield draft.error(
                "LMQ336",
                f"{handler.then!r} takes several types ({', '.join(types)}), and a return value has none",
                place,
                suggestion=f"call `message.send({handler.then!r}, …, type=…)` in the handler",
            )


def check_one_handler_a_queue(draft: Draft) -> Findings:
    first: dict[str, str] = {}
    for handler in draft.topology.handlers.values():
        other = first.setdefault(handler.queue, handler.name)
        if other != handler.name:
            yield draft.error(
                "LMQ307",
                f"queue {handler.queue!r} already has the handler {other!r}"
                f" ({draft.where('handlers', other)}); two would share its messages, not both see all",
                draft.settled("handlers", handler.name, "queue"),
                suggestion="give each handler a queue of its own, and a fanout route to both",
            )


def check_accepted_types(draft: Draft) -> Findings:
    """Whatever a route accepts, each of its targets must accept too, unless its `match` keeps it away."""
    for route in draft.topology.routes.values():
        if isinstance(route, RequestRoute):
            yield from _refusals(draft, route.name, "request", [route.request], Target(queue=route.queue))
        elif isinstance(route, FanoutRoute | TopicRoute) and draft.given("routes", route.name, "accepts"):
            for target in route.to:
                yield from _refusals(draft, route.name, "accepts", route.accepts, target)


def check_common_types(draft: Draft) -> Findings:
    """A route that does not say what it accepts takes what all its targets accept; that must be something."""
    queues = draft.topology.queues
    for route in draft.topology.routes.values():
        if not isinstance(route, FanoutRoute | TopicRoute) or route.accepts:
            continue
        choosy = [t.queue for t in route.to if t.queue in queues and queues[t.queue].accepts]
        if choosy and not draft.is_broken(("routes", route.name, "accepts")):
            yield draft.error(
                "LMQ330",
                f"the queues {', '.join(choosy)} accept no message type in common,"
                " so nothing could be sent to this route",
                ("routes", route.name),
                suggestion="let the queues share a type, or say `accepts:` and `match` on type",
                at_key=True,
            )


def check_moved(draft: Draft) -> Findings:
    moved = draft.topology.moved
    first: dict[str, str] = {}
    for old, new in moved.items():
        other = first.setdefault(new, old)
        for reason, hint in _moved_problems(draft, old, new):
            yield draft.error("LMQ334", reason, ("moved", old), suggestion=hint)
        if other != old:
            yield draft.error("LMQ334", f"{other} moves to {new} already", ("moved", old))
        if new in moved:
            yield draft.error(
                "LMQ334",
                f"{new} is itself moved, to {moved[new]}",
                ("moved", old),
                suggestion=f"write {old}: {moved[new]}",
            )


def check_calls(draft: Draft) -> Findings:
    """`package.module:function`, judged by its text alone; nothing is imported here."""
    for path, text in _calls(draft):
        refused = read_reference(text)
        if isinstance(refused, Refused):
            yield draft.error(refused.code, refused.reason, path, suggestion=refused.suggestion)


def _type_references(draft: Draft) -> Iterator[tuple[ValuePath, str]]:
    yield from _strings(("defaults", "queue", "accepts"), draft.entries("defaults", "queue").get("accepts"))
    for section in ("queues", "routes"):
        for name, entry in draft.entries(section).items():
            if isinstance(entry, dict):
                yield from _strings((section, name, "accepts"), entry.get("accepts"))
    for route in draft.topology.routes.values():
        if isinstance(route, RequestRoute):
            for part, type_name in (
                ("request", route.request),
                ("reply", route.reply),
                ("error", route.error),
            ):
                if type_name:
                    yield ("routes", route.name, part), type_name


def _types_taken(draft: Draft, target: str) -> tuple[str, ...]:
    topology = draft.topology
    if target in topology.queues:
        return topology.queues[target].accepts
    route = topology.routes.get(target)
    if isinstance(route, RequestRoute):
        return (route.request,)
    if not isinstance(route, FanoutRoute | TopicRoute):
        return ()
    queues = [topology.queues[target.queue] for target in route.to if target.queue in topology.queues]
    choosy = [queue.accepts for queue in queues if queue.accepts]
    if route.accepts or not choosy:
        return route.accepts
    return tuple(kind for kind in choosy[0] if all(kind in accepts for accepts in choosy))


def _strings(path: ValuePath, value: Any) -> Iterator[tuple[ValuePath, str]]:
    if isinstance(value, list):
        yield from (((*path, at), item) for at, item in enumerate(value) if isinstance(item, str))


def _queue_references(draft: Draft) -> Iterator[tuple[ValuePath, str, bool]]:
    """Place, name, and whether the name is a key there."""
    for route in draft.topology.routes.values():
        if isinstance(route, RequestRoute):
            yield ("routes", route.name, "queue"), route.queue, False
        elif isinstance(route, FanoutRoute | TopicRoute):
            yield from (
                (("routes", route.name, "to", target.queue), target.queue, True) for target in route.to
            )
    for handler in draft.topology.handlers.values():
        yield draft.settled("handlers", handler.name, "queue"), handler.queue, False


def _refusals(draft: Draft, route: str, key: str, types: Any, target: Target) -> Findings:
    queue: Queue | None = draft.topology.queues.get(target.queue)
    if queue is None or not queue.accepts or draft.is_broken(("queues", queue.name, "accepts")):
        return
    declared = draft.entries("messages")
    for at, name in enumerate(types):
        if name in declared and name not in queue.accepts and _may_reach(target, name):
            yield draft.error(
                "LMQ309",
                f"queue {queue.name!r} does not accept {name!r}",
                ("routes", route, key, at) if key == "accepts" else ("routes", route, key),
                suggestion=f"add it to queues.{queue.name}.accepts"
                + (f", or match on type at to.{queue.name}" if key == "accepts" else ""),
            )


def _may_reach(target: Target, type_name: str) -> bool:
    """Whether a literal `match` on the type lets this type through; anything more complex may."""
    wanted = (target.match or {}).get("type")
    if isinstance(wanted, str):
        return wanted == type_name
    return type_name in wanted if isinstance(wanted, list) else True


def _moved_problems(draft: Draft, old: str, new: str) -> Iterator[tuple[str, str | None]]:
    kinds = [address.partition(".")[0] for address in (old, new)]
    for address, kind in zip((old, new), kinds, strict=True):
        if kind not in _MOVABLE or "." not in address:
            yield (
                f"{address!r} is not an address that can move",
                "write queues.NAME, routes.NAME or messages.NAME",
            )
            return
    if kinds[0] != kinds[1]:
        yield f"{old} cannot become {new}: they are of different kinds", None
        return
    section, old_name, new_name = kinds[0], old.partition(".")[2], new.partition(".")[2]
    known = draft.entries(section)
    if new_name not in known and new not in draft.topology.moved:
        yield f"nothing is declared at {new}", draft.spelling.suggest(new_name, known)
    if old_name in known:
        yield f"{old} is still declared ({draft.where(section, old_name)})", "take one of the two out"


def _calls(draft: Draft) -> Iterator[tuple[ValuePath, str]]:
    topology = draft.topology
    for handler in topology.handlers.values():
        yield draft.settled("handlers", handler.name, "call"), handler.call
    if topology.lifespan:
        yield ("lifespan",), topology.lifespan
    yield from ((("middleware", at), text) for at, text in enumerate(topology.middleware))

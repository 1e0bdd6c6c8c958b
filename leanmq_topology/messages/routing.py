"""From the name a sender gives to the copies that are stored. Pure; knows nothing of servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from msgspec import Struct

from leanmq_topology.contracts.matching import Matcher
from leanmq_topology.contracts.schemas import MessageSchema
from leanmq_topology.errors import InvalidMessageError, SettingError
from leanmq_topology.messages.deduplication import OncePerQueue
from leanmq_topology.topology.durability import MEMORY, Durability

MOST_TOPICS_KEPT: Final = 1000


class Subscriber(Struct, frozen=True):
    """One queue behind a destination, and which messages it wants."""

    queue: str
    max_message_size: int
    matcher: Matcher | None = None
    """None wants all."""
    once: OncePerQueue | None = None
    """What it says of duplicates."""
    is_wanted: Callable[[str], bool] | None = None
    """On a topic route: whether it wants a topic."""
    plain: bool = False
    """It neither limits nor delays what it gets."""


class Contract(Struct, frozen=True):
    """One message type that a destination takes."""

    type: str
    version: int
    schema: MessageSchema

    @property
    def reference(self) -> str:
        """What the `dataschema` header says: `order.placed@1`."""
        return f"{self.type}@{self.version}"


@dataclass(frozen=True, slots=True)
class Destination:
    """A queue or a route as it is applied: all that sending to it needs."""

    name: str
    digest: str
    subscribers: tuple[Subscriber, ...]
    contracts: Mapping[str, Contract] = field(default_factory=dict)
    """Accepted types; empty takes any JSON object."""
    durability: Durability = MEMORY
    """The least that covers every queue behind it; a send may raise it."""
    by_topic: bool = False
    """A topic route: who gets a copy depends on the message's topic, then on what it wants."""
    reply: Contract | None = None
    """What the answer to a request is like; None where nobody answers."""
    timeout_ms: int = 0
    """How long a request is waited for, where the caller does not say."""
    error: Contract | None = None
    """What the data of a declined request is like; None where its route declares no error."""
    everyone: tuple[str, ...] | None = field(init=False)
    """Its queues where each of them wants every message; None: `route` must ask them."""
    widest_for_all: int = field(init=False)
    """Data up to this size fits into every queue."""
    remembers: bool = field(init=False)
    """Some queue declares deduplication."""
    plain: bool = field(init=False)
    """No queue limits or delays what it gets."""
    _narrowed: dict[str, Destination] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        subscribers = self.subscribers
        wanting = tuple(one.queue for one in subscribers if one.matcher is None)
        fill = partial(object.__setattr__, self)
        fill("everyone", wanting if len(wanting) == len(subscribers) else None)
        fill("widest_for_all", min((one.max_message_size for one in subscribers), default=0))
        fill("remembers", any(one.once is not None for one in subscribers))
        fill("plain", all(one.plain for one in subscribers))
        fill("_narrowed", {})

    def narrow(self, topic: str | None, type: str) -> Destination:
        """What it is for one topic, the type where the sender names none: only the queues that want it.

        Raises `SettingError` for a topic that nothing asks for.
        """
        if not self.by_topic:
            if topic is not None:
                raise no_topic_route(self.name)
            return self
        wanted = type if topic is None else topic
        found = self._narrowed.get(wanted)
        if found is None:
            fitting = tuple(one for one in self.subscribers if one.is_wanted is None or one.is_wanted(wanted))
            if len(self._narrowed) >= MOST_TOPICS_KEPT:  # topics may hold ids, so there may be any number
                self._narrowed.clear()
            found = self._narrowed[wanted] = replace(self, subscribers=fitting, by_topic=False)
        return found


def choose_type(destination: Destination, given: str | None) -> str:
    """The type of a message for this destination; `""` where it takes any JSON object and none was given.

    Raises `InvalidMessageError` when the choice is not clear, or is not one it takes.
    """
    accepted = destination.contracts
    if not accepted:
        return given or ""
    if given is None and len(accepted) == 1:
        return next(iter(accepted))
    if given is None:
        raise InvalidMessageError(
            "",
            f"{destination.name} takes several types: {', '.join(sorted(accepted))}",
            hint="say which one with type= (--type)",
        )
    if given not in accepted:
        raise InvalidMessageError(
            "", f"{destination.name} takes only {', '.join(sorted(accepted))}", type=given
        )
    return given


def no_topic_route(name: str) -> SettingError:
    return SettingError(
        "topic",
        f"{name} is not a topic route, so no topic chooses its queues",
        hint="leave topic= (--topic) out",
    )


def check_data(contract: Contract | None, data: Any) -> None:
    """Raises `InvalidMessageError` when data breaks its schema, or is no object where there is none."""
    if contract is None:
        if not isinstance(data, dict):
            raise InvalidMessageError("", "a message without a declared type must be a JSON object")
        return
    violation = contract.schema.find_violation(data)
    if violation is not None:
        raise InvalidMessageError(violation.path, violation.reason, type=contract.type)


def route(
    destination: Destination, *, type: str, headers: Mapping[str, str], data: Any, size: int
) -> tuple[str, ...]:
    """The queues that get a copy; none if no subscriber wants it.

    `size` is that of the encoded data. Raises `InvalidMessageError` when a queue that wants it takes none as
    large.
    """
    wanted = [
        subscriber
        for subscriber in destination.subscribers
        if subscriber.matcher is None or subscriber.matcher.matches(type=type, headers=headers, data=data)
    ]
    for subscriber in wanted:
        if size > subscriber.max_message_size:
            raise InvalidMessageError(
                "",
                f"{size} bytes are more than queue {subscriber.queue} takes ({subscriber.max_message_size})",
                type=type or None,
                hint="raise its max_message_size, or send a reference to the data",
            )
    return tuple(subscriber.queue for subscriber in wanted)

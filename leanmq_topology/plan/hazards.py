"""What a planned change would do to the messages that lie there, one function and one code each.

A warning makes a change risky: it is applied when somebody approves. An error blocks it, whoever approves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from leanmq_topology.contracts.compatibility import Answer, Verdict, compare
from leanmq_topology.diagnostics import Diagnostic, Severity
from leanmq_topology.plan.changes import (
    Backlog,
    Change,
    Create,
    Plan,
    Remove,
    Update,
    gather_backlog,
    with_hazards,
)
from leanmq_topology.plan.diff import queue_name
from leanmq_topology.plan.live_state import Damage, LiveState
from leanmq_topology.plan.removal_hazards import find_removal_hazards
from leanmq_topology.topology.specs import Spec


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rule may look at besides the change itself."""

    desired: Mapping[str, Spec]
    live: LiveState
    handlers: Mapping[str, str] = field(default_factory=dict)
    """Queue -> its handler, for naming whom a change concerns."""

    def accepting(self, message: str) -> list[str]:
        """Queues that hold messages of this type: by what was applied, not by what the file says now."""
        return [
            name
            for address, resource in self.live.resources.items()
            if (name := queue_name(address)) and message in resource.spec.get("accepts", ())
        ]

    def backlog(self, queues: list[str]) -> Backlog:
        return gather_backlog(self.live.queue(name) for name in queues)


_MENDING = {
    Damage.WRONG_TYPE: "rename or delete that key, or choose another name or namespace",
    Damage.UNPLACED: (
        "set the field `tag` of that record again: to the namespace, unless the queue's other keys begin "
        "with another {tag}"
    ),
}
"""What to do about a queue whose keys cannot be used."""
_OVER_LIMIT = {
    "reject": "sends are refused",
    "drop_oldest": "each new message drops the oldest that was not handed out",
    "dead_letter": "new messages are dead-lettered",
}
"""What happens to a send while more messages wait than the limit allows."""

Rule = Callable[[Update, Surroundings], Iterator[Diagnostic]]


def find_hazards(plan: Plan, around: Surroundings) -> Plan:
    """The same plan, each change with what stands in its way."""
    return replace(plan, changes=tuple(_examine(change, around) for change in plan.changes))


def _examine(change: Change, around: Surroundings) -> Change:
    if isinstance(change, Create):
        return with_hazards(change, find_foreign_key(change, around))
    if isinstance(change, Remove):
        return with_hazards(change, [*find_foreign_key(change, around), *find_removal_hazards(change)])
    if not isinstance(change, Update):
        return change
    kind = change.address.partition(".")[0]
    concerned = _with_concerned_backlog(change, around)
    return with_hazards(concerned, [found for rule in RULES[kind] for found in rule(concerned, around)])


def _with_concerned_backlog(change: Update, around: Surroundings) -> Update:
    """A queue has messages of its own; a type or a route has those in the queues behind it."""
    kind, _, name = change.address.partition(".")
    if kind == "messages":
        return replace(change, backlog=around.backlog(around.accepting(name)))
    if kind == "routes":
        return replace(
            change, backlog=around.backlog(sorted(_targets(change.before) | _targets(change.after)))
        )
    return change


# -- queues ------------------------------------------------------------------------------------------------


def find_foreign_key(change: Create | Update | Remove, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ508: something that is not a queue lies under one of its keys, or nobody knows where they are."""
    name = queue_name(change.address)
    state = around.live.queue(name) if name else None
    mend = _MENDING.get(state.damage) if state is not None and state.damage else None
    if state is not None and mend is not None:
        yield Diagnostic("LMQ508", f"{state.problem}; it is left alone", change.address, suggestion=mend)


def find_overfull(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ501: the new limit is below what lies there."""
    limit, backlog = change.after["max_length"], _own_backlog(change)
    if limit is not None and _differs(change, "max_length") and backlog.waiting > limit:
        yield _warn(
            "LMQ501",
            change,
            "max_length",
            f"{backlog.waiting:,} messages wait, the new limit is {limit:,}:"
            f" {_OVER_LIMIT[change.after['overflow']]} until they are fewer",
            "raise the limit, or let workers drain the queue first",
        )


def find_droppable(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ511: messages that were safe in a full queue may be dropped from it."""
    waiting = _own_backlog(change).waiting
    if change.after["overflow"] == "drop_oldest" and _differs(change, "overflow") and waiting:
        yield _warn(
            "LMQ511",
            change,
            "overflow",
            f"{waiting:,} messages wait; once the queue is full, each new one drops the oldest that was not"
            " handed out",
            "drain the queue first, or keep `overflow: reject`",
        )


def find_shorter_lease(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ502: handlers at work now may lose their lease."""
    before, after = change.before.get("visibility_timeout_ms", 0), change.after["visibility_timeout_ms"]
    in_flight = _own_backlog(change).in_flight
    if after < before and in_flight:
        yield _warn(
            "LMQ502",
            change,
            "visibility_timeout",
            f"{in_flight:,} messages are being handled{_by(change, around)}; a shorter lease may hand them"
            " out twice",
            "apply when the queue is idle, or make sure its handlers may run twice",
        )


def find_forgotten_types(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ506: waiting messages of a type that is no longer accepted are dead-lettered when handed out."""
    before, after = set(change.before.get("accepts", ())), set(change.after["accepts"])
    gone = sorted(before - after) if after else []
    waiting = _own_backlog(change).waiting
    if gone and waiting:
        yield _warn(
            "LMQ506",
            change,
            "accepts",
            f"{', '.join(gone)} is no longer accepted, and {waiting:,} messages wait: those of that type are"
            " dead-lettered when they are handed out",
            "drain the queue first, or keep the type until it is empty",
        )


def find_discarded_on_expiry(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ509: messages that would have been kept when they expire are dropped."""
    waiting = _own_backlog(change).waiting
    if change.after["on_expire"] == "discard" and _differs(change, "on_expire") and waiting:
        yield _warn(
            "LMQ509",
            change,
            "on_expire",
            f"{waiting:,} waiting messages would be dropped when they expire, not dead-lettered",
            "keep `on_expire: dead_letter` until the queue is drained",
        )


# -- messages ----------------------------------------------------------------------------------------------


def find_schema_break(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ503, LMQ504, LMQ505: a changed schema, the messages it meets, and what `compatibility` promised."""
    if not _differs(change, "schema"):
        return
    before, after, mode = change.before["schema"], change.after["schema"], change.after["compatibility"]
    promise = compare(before, after, mode)
    waiting = change.backlog.waiting if change.backlog else 0
    where = ", ".join(around.accepting(change.address.partition(".")[2]))
    if promise.answer is Answer.INCOMPATIBLE and waiting:
        yield Diagnostic(
            "LMQ504",
            f"{_broken(promise, mode)}, and {waiting:,} messages wait where it is accepted ({where})",
            f"{change.address}.schema",
            suggestion="drain the queues first, or change the schema compatibly",
        )
    elif not promise.is_compatible:
        yield _warn(
            "LMQ505",
            change,
            "schema",
            _broken(promise, mode)
            + (f"; {waiting:,} messages wait where it is accepted ({where})" if waiting else ""),
            "change the schema compatibly, or deploy senders and handlers together",
        )
    elif waiting and not compare(before, after, "backward").is_compatible:
        yield _warn(
            "LMQ503",
            change,
            "schema",
            f"{waiting:,} messages wait where it is accepted ({where}); those sent under the old schema that"
            " break the new one are dead-lettered when they are handed out",
            "drain the queues first, or accept both forms",
        )


def _broken(promise: Verdict, mode: str) -> str:
    return f"`compatibility: {mode}` does not hold: {promise.reason}"


# -- routes ------------------------------------------------------------------------------------------------


def find_lost_targets(change: Update, around: Surroundings) -> Iterator[Diagnostic]:
    """LMQ507: a subscriber stops getting copies."""
    for name in sorted(_targets(change.before) - _targets(change.after)):
        handler = around.handlers.get(name)
        heard = f"; its handler {handler} hears nothing more from here" if handler else ""
        yield _warn(
            "LMQ507",
            change,
            f"to.{name}",
            f"{name} gets no more copies{heard}; what it already has stays",
            "make sure nobody needs them, or put the target back",
        )


RULES: Mapping[str, tuple[Rule, ...]] = {
    "messages": (find_schema_break,),
    "queues": (
        find_foreign_key,
        find_overfull,
        find_droppable,
        find_shorter_lease,
        find_forgotten_types,
        find_discarded_on_expiry,
    ),
    "routes": (find_lost_targets,),
}


def _warn(code: str, change: Update, part: str, message: str, suggestion: str) -> Diagnostic:
    return Diagnostic(code, message, f"{change.address}.{part}", suggestion, Severity.WARNING)


def _differs(change: Update, key: str) -> bool:
    missing: Any = object()
    return bool(change.before.get(key, missing) != change.after[key])


def _own_backlog(change: Update) -> Backlog:
    return change.backlog or Backlog()


def _by(change: Update, around: Surroundings) -> str:
    handler = around.handlers.get(queue_name(change.address) or "")
    return f" by {handler}" if handler else ""


def _targets(spec: Spec) -> set[str]:
    named = [spec["queue"]] if spec.get("queue") else []
    return {*named, *(target["queue"] for target in spec.get("to", ()))}

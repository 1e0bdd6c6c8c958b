"""Everything that can be wrong with a server and a namespace, looked at once, each with what mends it.

Looks, never touches. The server is judged by its broker (`brokers.examination`), the namespace here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from leanmq_topology.brokers.examination import Examination, Finding, Verdict
from leanmq_topology.brokers.protocol import (
    AppliedRecord,
    BlockingConnection,
    Broadcaster,
    Examiner,
    Inspector,
    QueueState,
    Roster,
    WorkerState,
)
from leanmq_topology.clock import Clock, system_clock
from leanmq_topology.errors import BrokerRefusedError
from leanmq_topology.operations.status import QUEUES_A_LOOK
from leanmq_topology.topology.durability import MEMORY, Durability, declared_levels
from leanmq_topology.topology.model import Queue, Topology
from leanmq_topology.topology.specs import digest, read_resource, resource_specs
from leanmq_topology.topology.values import format_duration

LONGEST_WAIT_SECONDS: Final = 300
"""A message that waits longer is worth a word; most queues are emptied within seconds."""
_MOST_NAMES: Final = 5
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class ExaminingBroker(Broadcaster, Examiner, Inspector, Roster, Protocol):
    """What examining needs of a broker."""


class Link(Protocol):
    """A broker and a connection to it, as `brokers.connect.open_blocking` gives them."""

    @property
    def broker(self) -> ExaminingBroker: ...
    @property
    def connection(self) -> BlockingConnection: ...
    @property
    def url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found: facts for display, and every check with its verdict."""

    server: Mapping[str, Any]
    findings: Sequence[Finding]


@dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace: what is applied, how its queues are, and who works."""

    record: AppliedRecord
    states: Mapping[str, QueueState]
    workers: Sequence[WorkerState]


def diagnose(link: Link, topology: Topology, *, clock: Clock = system_clock) -> Diagnosis:
    """Look at the server and the namespace of a topology. Raises `BrokerError` where that cannot be done."""
    examination = link.connection.execute(link.broker.examine(clock()))
    findings = [
        judge_transport(link.url),
        *examination.check_server(),
        *_judge_doorbell(link),
        *judge_levels(examination, declared_levels(topology)),
        *judge_namespace(_read_namespace(link), topology),
    ]
    return Diagnosis(examination.facts, findings)


def judge_transport(url: str) -> Finding:
    """Whether somebody on the way could read along. `url` has no password in it."""
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "valkey"} or (parts.hostname or "localhost") in _LOOPBACK:
        return Finding("connection", Verdict.OK, url)
    text = f"{url}: messages and password cross the network unencrypted"
    return Finding("connection", Verdict.WARNING, text, "use rediss:// (TLS), or a network of your own")


def _judge_doorbell(link: Link) -> Iterable[Finding]:
    """Whether workers that rest can be told of what is due sooner; no word where all is well."""
    try:
        link.connection.execute(link.broker.ring_for_nothing())
    except BrokerRefusedError as failure:
        text = "this user may not PUBLISH: short delays and pauses may take effect five seconds late"
        mend = "ACL SETUSER NAME +publish '&{NAMESPACE}:due', and '&{NAMESPACE}:e:*' for ephemeral routes"
        yield Finding("doorbell", Verdict.WARNING, f"{text} ({failure.message})", mend)


def judge_levels(examination: Examination, levels: Mapping[Durability, Sequence[str]]) -> Iterable[Finding]:
    """Each level that is asked for; for `memory`, what the server could give."""
    for level in levels:
        if level != MEMORY:
            yield examination.judge(level)
        elif examination.offers:
            could = " or ".join(map(str, examination.offers))
            yield Finding("durability memory", Verdict.OK, f"the server could give {could}")
        else:
            yield Finding("durability memory", Verdict.OK, "the server could give no more as it is set up")


def judge_namespace(seen: Namespace, topology: Topology) -> list[Finding]:
    """What is applied, and how it does."""
    if seen.record.owner is None:
        text = f"nothing is applied in namespace {topology.broker.namespace!r}"
        return [Finding("topology", Verdict.WARNING, text, "leanmq apply")]
    if seen.record.owner != topology.name:
        text = f"namespace {topology.broker.namespace!r} belongs to the topology {seen.record.owner!r}"
        return [Finding("topology", Verdict.FAILED, text, "choose another broker.namespace")]
    queues = _read_queues(seen.record)
    return [
        *_judge_record(seen, topology),
        *_judge_leaving(seen),
        *_judge_damage(seen.states),
        *_judge_dead_letters(seen.states, queues),
        *_judge_states(seen.states),
        _judge_workers(seen),
        _judge_lag(seen.states),
    ]


def _judge_record(seen: Namespace, topology: Topology) -> Iterable[Finding]:
    record = seen.record
    declared = {address: digest(spec) for address, spec in resource_specs(topology).items()}
    applied = {address: entry["hash"] for address, entry in record.resources.items()}
    differing = sorted(address for address in declared if declared[address] != applied.get(address))
    orphans = sorted(applied.keys() - declared.keys() - _find_leaving(seen))
    if record.unfinished is not None:
        yield Finding("topology", Verdict.WARNING, "an apply was not finished", "leanmq apply")
    elif differing:
        text = f"the file and what is applied differ: {_list(differing)}"
        yield Finding("topology", Verdict.WARNING, text, "leanmq plan shows how, leanmq apply mends it")
    else:
        yield Finding("topology", Verdict.OK, f"applied as in the file, generation {record.generation}")
    if orphans:
        text = f"applied, and no longer in the file: {_list(orphans)}"
        yield Finding("orphans", Verdict.WARNING, text, "declare them again, or leanmq apply --prune")


def _judge_leaving(seen: Namespace) -> Iterable[Finding]:
    """Queues on their way out: somebody has to empty them, and then to say the last word."""
    leaving = list(_leaving(seen))
    full = [
        f"{state.name} {state.waiting + state.dead:,}" for state in leaving if state.waiting or state.dead
    ]
    if full:
        text = f"on the way out, and not empty yet: {_list(full)}"
        mend = "run workers with the former file, leanmq dlq for what is dead; then leanmq apply --prune"
        yield Finding("draining", Verdict.WARNING, text, mend)
    elif leaving:
        text = f"drained: {_list([state.name for state in leaving])}"
        yield Finding("draining", Verdict.WARNING, text, "leanmq apply --prune deletes it")


def _leaving(seen: Namespace) -> Iterable[QueueState]:
    return (state for state in seen.states.values() if state.is_leaving)


def _find_leaving(seen: Namespace) -> set[str]:
    """Addresses of these queues, and of the message types that are kept for them."""
    queues = {f"queues.{state.name}" for state in _leaving(seen)}
    specs = [seen.record.resources[address]["spec"] for address in queues & seen.record.resources.keys()]
    return queues | {f"messages.{kind}" for spec in specs for kind in spec["accepts"]}


def _judge_damage(states: Mapping[str, QueueState]) -> Iterable[Finding]:
    damaged = [state for state in states.values() if state.problem]
    for state in damaged:
        yield Finding("queues", Verdict.FAILED, f"{state.name}: {state.problem}", "leanmq apply")
    if not damaged:
        yield Finding("queues", Verdict.OK, f"{len(states):,} in order")


def _judge_dead_letters(states: Mapping[str, QueueState], queues: Mapping[str, Queue]) -> Iterable[Finding]:
    alarming = [
        f"{name} {states[name].dead:,}"
        for name, queue in queues.items()
        if name in states and states[name].dead >= max(queue.dead_letter.alert_at, 1)
    ]
    if alarming:
        mend = "leanmq dlq list shows why, leanmq dlq replay sends them again"
        yield Finding("dead letters", Verdict.WARNING, f"to be looked at: {_list(alarming)}", mend)
    else:
        total = sum(state.dead for state in states.values())
        yield Finding("dead letters", Verdict.OK, f"{total:,}, below every alert_at" if total else "none")


def _judge_states(states: Mapping[str, QueueState]) -> Iterable[Finding]:
    parked = [f"{state.name} {state.parked:,}" for state in states.values() if state.parked]
    if parked:
        text = f"a full dead-letter queue holds messages back: {_list(parked)}"
        mend = "leanmq dlq replay or discard makes room"
        yield Finding("parked", Verdict.WARNING, text, mend)
    paused = [state.name for state in states.values() if state.state == "paused"]
    if paused:
        yield Finding("paused", Verdict.WARNING, f"not being read: {_list(paused)}", "leanmq resume QUEUE")


def _judge_workers(seen: Namespace) -> Finding:
    read = {queue for worker in seen.workers for queue in worker.facts.get("queues", "").split(",")}
    unread = [
        f"{state.name} {state.waiting:,}"
        for state in seen.states.values()
        if state.waiting and state.name not in read
    ]
    count = f"{len(seen.workers):,} running"
    if unread:
        text = f"{count}; messages wait that none of them reads: {_list(unread)}"
        return Finding("workers", Verdict.WARNING, text, "leanmq run")
    return Finding("workers", Verdict.OK, count)


def _judge_lag(states: Mapping[str, QueueState]) -> Finding:
    late = [
        f"{state.name} {format_duration(int(state.oldest_age_seconds) * 1000)}"
        for state in states.values()
        if state.oldest_age_seconds is not None and state.oldest_age_seconds > LONGEST_WAIT_SECONDS
    ]
    if late:
        text = f"the oldest message is old: {_list(late)}"
        return Finding("lag", Verdict.WARNING, text, "run more workers, or look for a handler that is stuck")
    return Finding("lag", Verdict.OK, "no message waits long")


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _read_namespace(link: Link) -> Namespace:
    record = link.connection.execute(link.broker.read_record())
    names = list(_read_queues(record))
    states: dict[str, QueueState] = {}
    consumers: set[str] = set()
    for start in range(0, len(names), QUEUES_A_LOOK):
        part = names[start : start + QUEUES_A_LOOK]
        states |= {state.name: state for state in link.connection.execute(link.broker.inspect_queues(part))}
        consumers.update(link.connection.execute(link.broker.list_consumers(part)))
    workers = link.connection.execute(link.broker.inspect_workers(sorted(consumers))) if consumers else []
    return Namespace(record, states, workers)


def _read_queues(record: AppliedRecord) -> dict[str, Queue]:
    found: dict[str, Queue] = {}
    for address, entry in sorted(record.resources.items()):
        if address.startswith("queues."):
            queue = read_resource(address, entry["spec"])
            if isinstance(queue, Queue):
                found[queue.name] = queue
    return found

"""The closed set of changes, and the plan that holds them.

A change is data: what it concerns, what was, what will be, which messages lie there, what stands in its way.
Carrying it out is somebody else's dull loop, showing it another's. A new kind of change is a new class here,
added to `Change`; every `match` over the set is then found by the type checker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import ClassVar, TypeVar

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.plan.live_state import QueueState
from leanmq_topology.topology.specs import Spec


class Risk(StrEnum):
    """What a change may cost, and so whether it needs somebody's word."""

    SAFE = "safe"
    """Creations and live updates: applied without asking."""
    RISKY = "risky"
    """Messages or senders feel it: applied when approved."""
    BLOCKED = "blocked"
    """Not applied, whoever approves."""


ACTIONS = ("create", "update", "replace", "move", "adopt", "delete", "orphan", "blocked")
"""Every action a plan's summary counts. Those no class here stands for yet are counted as 0."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The messages a change concerns, in one queue or in several together."""

    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    dead: int = 0
    oldest_age_seconds: float | None = None

    @property
    def waiting(self) -> int:
        """Messages that still have to be handled."""
        return self.ready + self.in_flight + self.delayed

    @property
    def total(self) -> int:
        return self.waiting + self.dead


def gather_backlog(states: Iterable[QueueState]) -> Backlog:
    """Several queues as one: counts add up, the oldest message is the oldest of all."""
    known = list(states)
    ages = [state.oldest_age_seconds for state in known if state.oldest_age_seconds is not None]
    return Backlog(
        ready=sum(state.ready for state in known),
        in_flight=sum(state.in_flight for state in known),
        delayed=sum(state.delayed for state in known),
        dead=sum(state.dead + state.parked for state in known),
        oldest_age_seconds=max(ages, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """Declared, and not on the server (any more: then `reason` says what happened to it)."""

    action: ClassVar[str] = "create"
    address: str
    after: Spec
    reason: str | None = None
    backlog: Backlog | None = None
    hazards: tuple[Diagnostic, ...] = ()
    before: None = None

    @property
    def risk(self) -> Risk:
        return _risk_of(self.hazards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """On the server with other settings; changed in place, no message moves."""

    action: ClassVar[str] = "update"
    address: str
    before: Spec
    after: Spec
    reason: str | None = None
    """What was found damaged and is mended; None when only the file changed."""
    backlog: Backlog | None = None
    hazards: tuple[Diagnostic, ...] = ()

    @property
    def risk(self) -> Risk:
        return _risk_of(self.hazards)


class Removal(StrEnum):
    """How something leaves that is no longer declared. Of a queue, `lifecycle.on_remove` says it."""

    DELETE = "delete"
    """With all that is recorded of it."""
    DRAIN = "drain"
    """It takes no more messages; once workers have emptied it, it is deleted."""
    RETAIN = "retain"
    """It stays with its messages, and belongs to nobody."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """What no longer is declared shall go."""

    allowed_losses: frozenset[str] = frozenset()
    """Addresses of queues that may go with the messages in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """On the server, ours, no longer in the file, and to go."""

    address: str
    before: Spec
    step: Removal
    may_lose: bool = False
    """Whether messages in it may go too."""
    backlog: Backlog | None = None
    hazards: tuple[Diagnostic, ...] = ()
    after: None = None
    reason: None = None

    @property
    def action(self) -> str:
        """A queue that drains is still there, and ours, when the apply is done."""
        return "delete" if self.step is Removal.DELETE else "orphan"

    @property
    def risk(self) -> Risk:
        return _risk_of(self.hazards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """On the server, ours, and no longer in the file. Kept as it is."""

    action: ClassVar[str] = "orphan"
    risk: ClassVar[Risk] = Risk.SAFE
    address: str
    before: Spec
    backlog: Backlog | None = None
    reason: str | None = None
    """Where it is on its way out already: how far it came."""
    after: None = None
    hazards: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """A change that must not happen as things stand; with one in it, a plan is not applied at all."""

    action: ClassVar[str] = "blocked"
    risk: ClassVar[Risk] = Risk.BLOCKED
    wanted: Create | Update | Remove
    hazards: tuple[Diagnostic, ...]

    @property
    def address(self) -> str:
        return self.wanted.address

    @property
    def before(self) -> Spec | None:
        return self.wanted.before

    @property
    def after(self) -> Spec | None:
        return self.wanted.after

    @property
    def reason(self) -> str | None:
        return self.wanted.reason

    @property
    def backlog(self) -> Backlog | None:
        return self.wanted.backlog


Write = Create | Update | Remove
"""What apply carries out."""

Change = Create | Update | Remove | Orphan | Blocked

W = TypeVar("W", Create, Update, Remove)


def with_hazards(change: W, found: Iterable[Diagnostic]) -> W | Blocked:
    """The same change with what stands in its way; an error among it makes the change a blocked one."""
    hazards = tuple(found)
    if any(hazard.is_error for hazard in hazards):
        return Blocked(wanted=change, hazards=hazards)
    return replace(change, hazards=hazards)


def _risk_of(hazards: tuple[Diagnostic, ...]) -> Risk:
    return Risk.RISKY if hazards else Risk.SAFE


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What apply would do. Made without a lock, without a write."""

    changes: tuple[Change, ...]
    unchanged: int
    fingerprint: str
    """Of the live state this plan was made from."""
    generation: int
    """Of that live state; an apply makes it one higher."""
    goal_fingerprint: str
    """Of the topology, as clients compare it."""
    goal_addresses: Mapping[str, str] = field(repr=False)
    """Name of every queue and route, orphans included -> the digest its senders must know."""
    stale_addresses: Mapping[str, str] = field(repr=False)
    """The part of `goal_addresses` that the server does not have yet."""
    record_reason: str | None = None
    """Why the record must be written even where no resource changes; None when it need not."""
    resumes: bool = False
    """An earlier apply did not finish; what it was to do may be done in part."""

    @property
    def writes(self) -> tuple[Write, ...]:
        return tuple(change for change in self.changes if isinstance(change, Create | Update | Remove))

    @property
    def made(self) -> tuple[Create | Update, ...]:
        """The writes after which something is on the server as the file has it."""
        return tuple(change for change in self.changes if isinstance(change, Create | Update))

    @property
    def removed(self) -> tuple[Remove, ...]:
        """The writes that take away what the file no longer has."""
        return tuple(change for change in self.changes if isinstance(change, Remove))

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        return tuple(change for change in self.changes if isinstance(change, Blocked))

    @property
    def leaving(self) -> tuple[str, ...]:
        """Addresses that are to go, also where something stands in the way."""
        wanted = (change.wanted if isinstance(change, Blocked) else change for change in self.changes)
        return tuple(change.address for change in wanted if isinstance(change, Remove))

    @property
    def risky(self) -> tuple[Write, ...]:
        """Writes that need somebody's word."""
        return tuple(change for change in self.writes if change.risk is Risk.RISKY)

    @property
    def has_work(self) -> bool:
        """Whether an apply would write anything (or would have to, were it not blocked)."""
        return bool(self.writes or self.blocked or self.record_reason)

    @property
    def differs(self) -> bool:
        """Whether server and file differ, mended by apply or not (an orphan is not)."""
        return bool(self.changes or self.record_reason)

    def summary(self) -> dict[str, int]:
        counts = dict.fromkeys(ACTIONS, 0)
        for change in self.changes:
            counts[change.action] += 1
        return {**counts, "unchanged": self.unchanged}

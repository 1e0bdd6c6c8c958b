"""Looks at the queues of a worker now and then: are they whole, are they paused, who else holds anything?

What goes missing on the server is said once, and once more when it is back; until then it is neither read nor
made anew. Only a group that was destroyed is made again: its stream still holds exactly the unfinished work.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from leanmq_topology.brokers.protocol import Broker, Damage, Part, QueueHealth
from leanmq_topology.upkeep.steps import Steps, ask
from leanmq_topology.upkeep.watched import Watched

logger = logging.getLogger("leanmq.upkeep")

LOOK_SECONDS = 0.75
"""With a tick of upkeep a second. No paused queue is read for longer; what was lost is noticed as fast."""
REST_SECONDS = 4.75
"""The same while nobody has anything in hand, for who is told of pauses, of what others hand back and of what
is due within five seconds: then it is only what somebody broke that has to be found."""
EARLY_SECONDS = 0.5
"""What comes up so soon is done with what is done now: waking up costs more."""
LOOKS_PER_LEASE = 4
QUEUES_A_LOOK = 250
MOST_NAMED = 5

_WORDS: Mapping[Damage, str] = {
    Damage.MISSING: "not on the server any more",
    Damage.GROUP_GONE: "without their consumer group",
    Damage.RECORD_GONE: "without the record of their limits",
    Damage.WRONG_TYPE: "not ours any more: something else lies under their keys",
    Damage.UNPLACED: "not to be found: their record does not say where they lie",
}


class Watch:
    """`changed` is called when there are queues that may be read again, or may not be read any more."""

    def __init__(
        self,
        broker: Broker,
        consumer: str,
        lanes: Sequence[Watched],
        changed: Callable[[], None],
        part: Part = Part.ALL,
    ) -> None:
        """`part` is what the caller claims."""
        self._broker, self._part = broker, part
        self._lanes = {lane.name: lane for lane in lanes}
        self._changed = changed
        names = list(self._lanes)
        parts = [names[start : start + QUEUES_A_LOOK] for start in range(0, len(names), QUEUES_A_LOOK)]
        self._surveys = [broker.survey(part, consumer) for part in parts]
        self._health: dict[str, QueueHealth] = {}
        self.free: set[str] = set()
        """Queues with messages that were handed back: they need not lapse to be claimed."""
        self.suspected: set[str] = set()
        """Queues with messages that only those may have who run each alone, or who claim everything."""
        self.on_suspected: Callable[[Sequence[str]], None] = lambda queues: None
        """Called after each look that found some."""
        self._due_at, self._every_seconds = 0.0, 0.0
        self._looked_at = 0.0
        self._noted: Sequence[QueueHealth] | None = None
        """What was found last, where nothing has to be done about it: the lanes know it. None once somebody
        met something odd."""
        self._untouched = False
        """Nobody held anything then, and all was whole."""
        self.topology_gone = False

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._due_at

    @property
    def due_in_seconds(self) -> float:
        return max(self._due_at - time.monotonic(), 0.0)

    @property
    def rest_seconds(self) -> float:
        """How long nobody has to look while all is `quiet`, and what changes is told."""
        longest = min(REST_SECONDS, self._shortest_lease() / LOOKS_PER_LEASE)
        return max(self._looked_at + longest - time.monotonic(), 0.0)

    @property
    def quiet(self) -> bool:
        """At the last look all was well, and nobody held anything."""
        return (
            self._due_at > 0.0
            and not self.topology_gone
            and self._every_seconds >= LOOK_SECONDS
            and self._untouched
        )

    @property
    def damaged(self) -> list[Watched]:
        return [lane for lane in self._lanes.values() if lane.damage is not None]

    @property
    def paused(self) -> list[str]:
        """Queues that this worker does not read, because an operator said so."""
        return [lane.name for lane in self._lanes.values() if lane.paused]

    def take_over(self, other: Watch) -> None:
        """Know what that one saw of queues that both look at."""
        self._health |= {name: seen for name, seen in other._health.items() if name in self._lanes}
        self.free |= other.free & self._lanes.keys()
        self.suspected |= other.suspected & self._lanes.keys()
        self._noted = None

    def look_soon(self) -> None:
        """Somebody met something odd, or was told to: look at the next tick. Safe from any thread."""
        self._due_at, self._noted = 0.0, None

    def look(self) -> Steps[None]:
        """Ask the server, mend what may be mended, and tell lanes, log and reader what changed."""
        if self._noted is None:
            self._every_seconds = self._interval()
        self._looked_at = time.monotonic()
        self._due_at = self._looked_at + self._every_seconds
        found: list[QueueHealth] = []
        for survey in self._surveys:
            found += yield from ask(survey)
        if found == self._noted:
            return
        for health in found:
            if health.damage is Damage.GROUP_GONE and (yield from self._rescue_group(health.name)):
                paused = self._lanes[health.name].paused
                found[found.index(health)] = QueueHealth(health.name, paused=paused)
        self._take_note(found)

    def is_wanted(self, lane: Watched) -> bool:
        """Whether a claim may find anything: others hold messages of it, or we do without knowing."""
        health = self._health.get(lane.name)
        if health is None or lane.damage is not None:
            return False
        held = dict(lane.held)  # a copy: another thread may settle meanwhile
        known = sum(1 for message in held.values() if not message.lost)
        return health.pending > health.own or health.own > known

    def note_topology(self, gone: bool) -> None:
        """Whether the whole applied record is missing."""
        if gone and not self.topology_gone:
            logger.error(
                "the topology is not on the server any more; what is left of it is handled on "
                "(`leanmq apply` makes it again)",
                extra={"event": "topology_missing"},
            )
        elif self.topology_gone and not gone:
            logger.warning("the topology is on the server again", extra={"event": "topology_back"})
        if gone is not self.topology_gone:
            self.topology_gone = gone
            self.look_soon()

    def facts(self) -> dict[str, str]:
        """For the heartbeat: what is lost, in one word a queue, and what an operator paused."""
        words = [f"{lane.name}={lane.damage}" for lane in self.damaged]
        return {
            "damaged": ",".join(["topology=missing"] * self.topology_gone + words),
            "paused": ",".join(self.paused),
        }

    def _interval(self) -> float:
        """Several looks a lease: what lapses was seen in other hands before."""
        return min(LOOK_SECONDS, self._shortest_lease() / LOOKS_PER_LEASE)

    def _shortest_lease(self) -> float:
        leases_ms = (lane.queue.visibility_timeout_ms for lane in self._lanes.values())
        return min(leases_ms, default=0) / 1000

    def _count_free(self, health: QueueHealth) -> int:
        match self._part:
            case Part.ALL:
                return health.free
            case Part.FRESH:
                return health.free - health.suspects
            case Part.SUSPECT:
                return health.suspects

    def _rescue_group(self, queue: str) -> Steps[bool]:
        count = yield from ask(self._broker.rescue_group(queue))
        if count is None:
            return False
        logger.error(
            "the consumer group of queue %s was gone, it is made again: %d unfinished messages go out "
            "anew, and how often each was handed out before is not known any more",
            queue,
            count,
            extra={"event": "group_rebuilt", "queue": queue, "messages": count},
        )
        return True

    def _take_note(self, found: Sequence[QueueHealth]) -> None:
        self.free = {health.name for health in found if self._count_free(health)}
        self.suspected = {health.name for health in found if health.suspects}
        if self.suspected:
            self.on_suspected(sorted(self.suspected))
        harmed = any(health.damage for health in found)
        self._untouched = not harmed and not any(health.pending for health in found)
        # What was handed back may be taken and handed back again, and what comes during a pause goes back.
        moving = harmed or self.suspected or self.free or any(health.paused for health in found)
        self._noted = None if moving else found
        broken: defaultdict[Damage, list[str]] = defaultdict(list)
        mended: list[str] = []
        changed = False
        for health in found:
            lane = self._lanes[health.name]
            self._health[health.name] = health
            if health.damage is not None and lane.damage is not health.damage:
                broken[health.damage].append(health.name)
            elif health.damage is None and lane.damage is not None:
                mended.append(health.name)
            changed |= lane.note_health(health)
        for damage, names in broken.items():
            _say_broken(damage, names)
        if mended:
            logger.warning(
                "whole again and read: %s", _list(mended), extra={"event": "queue_back", "queues": mended}
            )
        if changed:
            self._changed()


def _say_broken(damage: Damage, names: Sequence[str]) -> None:
    logger.error(
        "%s %s; left alone until `leanmq apply` or somebody else mends it",
        _list(names),
        _WORDS[damage],
        extra={"event": "queue_missing", "damage": damage.value, "queues": list(names)},
    )


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"queues {shown} and {more} more" if more > 0 else f"queue{'s' * (len(names) > 1)} {shown}"

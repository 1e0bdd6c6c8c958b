"""What a worker tells of itself: to its own process, and in heartbeats to everybody."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping

from leanmq_topology.brokers.protocol import AsyncConnection, Broker, Part
from leanmq_topology.runner.lane import Lane
from leanmq_topology.runner.middleware.counters import Counters
from leanmq_topology.runner.reader import Reader
from leanmq_topology.runner.upkeep import HEARTBEAT_SECONDS, Maintenance
from leanmq_topology.upkeep.clocks import ServerClock
from leanmq_topology.upkeep.outage import Outage
from leanmq_topology.upkeep.watch import Watch


class Report:
    """`lanes` is filled by the worker; until `begin` there is little to tell."""

    def __init__(
        self,
        broker: Broker,
        connection: AsyncConnection,
        worker: str,
        lanes: Mapping[str, Lane],
        handlers: Iterable[str],
        clock: ServerClock,
        outage: Outage,
        stopping: Callable[[], bool],
        *,
        generation: int,
        part: Part,
    ) -> None:
        """`stopping` says whether the worker was told to stop: it takes nothing new from then on."""
        self._broker, self._connection, self._worker = broker, connection, worker
        self._lanes, self._handlers = lanes, tuple(handlers)
        self._clock, self._outage = clock, outage
        self._stopping = stopping
        self._generation, self._part = generation, part
        self._said: Mapping[str, str] = {}
        self._reader: Reader | None = None
        self._watch: Watch | None = None
        self._upkeep: Maintenance | None = None

    def begin(self, reader: Reader, watch: Watch, upkeep: Maintenance) -> None:
        """Tell from now on what these know."""
        self._reader, self._watch, self._upkeep = reader, watch, upkeep

    @property
    def counters(self) -> Counters:
        """What all handlers have done so far."""
        total = Counters()
        for lane in self._lanes.values():
            total.add(lane.counters)
        return total

    @property
    def activity(self) -> tuple[int, int, int]:
        """How much is done, in hand, and running; as long as it is the same, so is `describe`."""
        done = held = running = 0
        for lane in self._lanes.values():
            done += lane.counters.total
            held += len(lane.held)
            running += lane.running
        return done, held, running

    def describe(self) -> dict[str, dict[str, int]]:
        """What each handler has in hand and has done so far."""
        return {
            lane.handler.name: {
                "held": len(lane.held),
                "running": lane.running,
                **lane.counters.as_dict(),
            }
            for lane in self._lanes.values()
        }

    def problems(self) -> list[str]:
        """What keeps the worker from its work right now, in words."""
        found = ["the server cannot be reached"] if self._outage.under_way else []
        if self._watch is not None:
            found += ["the topology is not on the server"] * self._watch.topology_gone
            found += [f"queue {lane.name}: {lane.damage}" for lane in self._watch.damaged]
        return [*found, *self._unfit()]

    def say(self, facts: Mapping[str, str]) -> None:
        """Have the next heartbeats say this too. From any thread."""
        self._said = {**self._said, **facts}

    async def beat(self) -> None:
        """Write a heartbeat; the server forgets it when three more would have been due."""
        lifetime_ms = int(3 * HEARTBEAT_SECONDS * 1000)
        facts = {
            "host": socket.gethostname(),
            "pid": str(os.getpid()),
            "generation": str(self._generation),
            "solo": str(int(self._part is Part.SUSPECT)),
            "handlers": ",".join(self._handlers),
            "queues": ",".join(self._lanes),
            "reading": ",".join(self._names_read()),
            "held": str(sum(len(lane.held) for lane in self._lanes.values())),
            "running": str(sum(lane.running for lane in self._lanes.values())),
            "seen_ms": str(self._clock.now_ms()),
            "polled_ms": self._polled_ms(),
            "lifetime_ms": str(lifetime_ms),
            "unfit": "; ".join(self._unfit()),
            **self._said,
            **(self._watch.facts() if self._watch else {}),
            **{name: str(count) for name, count in self.counters.as_dict().items()},
        }
        beat = self._broker.heartbeat(self._worker, facts, lifetime_ms=lifetime_ms, queues=list(self._lanes))
        await self._connection.execute(beat)

    def _unfit(self) -> tuple[str, ...]:
        """What the server would do to messages, in a sentence each; nothing while it is fit for them."""
        return self._upkeep.unfit if self._upkeep is not None else ()

    def _polled_ms(self) -> str:
        """How long ago a read was answered; empty before the first, and for who reads nothing new."""
        read_at = self._reader.read_at if self._reader is not None else None
        return "" if read_at is None else str(int((time.monotonic() - read_at) * 1000))

    def _names_read(self) -> list[str]:
        """Queues of which it takes what comes, and what others hand back."""
        if self._part is Part.SUSPECT or self._stopping():
            return []
        return [lane.name for lane in self._lanes.values() if lane.readable]

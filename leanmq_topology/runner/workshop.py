"""Puts together what runs the handlers of a worker: clients, what stands around them, crews, pipelines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from leanmq_topology.brokers.connect import AsyncLink
from leanmq_topology.errors import LifespanError
from leanmq_topology.messages.decision import DONE
from leanmq_topology.runner.applied import Applied
from leanmq_topology.runner.binding import Invoke
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.hiring import Employer
from leanmq_topology.runner.incoming import Incoming
from leanmq_topology.runner.lane import Crew, Finish, Forget, Lane, Succeed
from leanmq_topology.runner.marks import Marker
from leanmq_topology.runner.middleware.admission import check_admission, check_all_admission
from leanmq_topology.runner.middleware.cause import follow_cause
from leanmq_topology.runner.middleware.contract import check_all_contracts, check_contract
from leanmq_topology.runner.middleware.counters import Counters
from leanmq_topology.runner.middleware.event_log import EventLog, is_told_all
from leanmq_topology.runner.middleware.typed_data import type_data
from leanmq_topology.runner.pipeline import SUCCEEDED, Pipeline, Verdict
from leanmq_topology.runner.settlements import Settlements
from leanmq_topology.runner.surroundings import open_surroundings
from leanmq_topology.topology.model import Topology


class Workshop:
    """`now_ms` is the server's time. `forgotten` hears of each message left to others, `stuck` of a run that
    goes on although it was given up. `turned` is called when handlers have run for a while."""

    def __init__(
        self,
        topology: Topology,
        handlers: Mapping[str, LoadedHandler],
        link: AsyncLink,
        marker: Marker | None,
        now_ms: Callable[[], int],
        *,
        forgotten: Callable[[], None],
        stuck: Callable[[str], None],
        turned: Callable[[], None],
    ) -> None:
        self._topology, self._handlers, self._link = topology, handlers, link
        self._marker, self._now_ms = marker, now_ms
        self._forgotten, self._stuck, self._turned = forgotten, stuck, turned
        self._invokes: dict[str, Invoke] = {}
        self._client: Any = None

    async def open(
        self,
        resources: contextlib.AsyncExitStack,
        stop: asyncio.Event,
        ended: Callable[[LifespanError], None],
    ) -> bool:
        """Open what handlers use, until `resources` are closed; False if `stop` was set meanwhile.

        Raises `LifespanError`, or `InvalidTopologyError` if a handler wants what is not there.
        """
        handlers = list(self._handlers.values())
        self._client = await self._open_client(resources)
        environment = await open_surroundings(self._topology, handlers, resources, stop, ended)
        if environment is None:
            return False
        self._invokes = {handler.name: environment.prepare(handler) for handler in handlers}
        return True

    def build_lanes(self, applied: Applied, settlements: Settlements) -> dict[str, Lane]:
        """One lane a handler, by the name of its queue."""
        return {
            handler.declared.queue: self._build_lane(handler, applied, settlements)
            for handler in self._handlers.values()
        }

    def build_pipeline(self, handler: LoadedHandler, applied: Applied) -> Pipeline:
        """The steps of a handler's messages, by what is applied."""
        queue = applied.queues[handler.declared.queue]
        gates = [check_admission(queue, self._now_ms), check_contract(queue, applied.types)]
        sieves = (check_all_admission(queue), check_all_contracts(queue, applied.types))
        if handler.conversion is not None:
            gates.append(type_data(handler.conversion))
        declared, invoke = handler.declared, self._invokes[handler.name]
        return Pipeline(
            queue,
            declared.on_false,
            invoke if declared.batch else follow_cause(invoke),
            tuple(gates),
            applied.writer,
            declared.then,
            self._marker.starter(queue.name) if self._marker else None,
            Verdict(DONE) if is_told_all() else SUCCEEDED,
            sieves if declared.batch and handler.conversion is None else None,
        )

    def _build_lane(self, handler: LoadedHandler, applied: Applied, settlements: Settlements) -> Lane:
        employer = Employer(self._client, self._open_blocking_client, self._stuck, self._turned)

        def hire(finish: Finish, forget: Forget, succeed: Succeed) -> Crew:
            def forget_and_tell(message: Incoming) -> None:
                forget(message)
                self._forgotten()

            return employer.hire(handler, finish, forget_and_tell, succeed)

        pipeline = self.build_pipeline(handler, applied)
        log = EventLog(handler.declared, self._topology.folder)
        return Lane(handler, pipeline, hire, settlements, log, Counters(), self._marker)

    async def _open_client(self, resources: contextlib.AsyncExitStack) -> Any:
        """The client for asynchronous handlers, if one of them asks for it."""
        wanted = any(
            handler.binding.asynchronous and handler.binding.wants_client
            for handler in self._handlers.values()
        )
        if not wanted:
            return None
        from leanmq_topology.client import connect

        return await resources.enter_async_context(connect(self._topology, url=self._link.server_url))

    @contextlib.contextmanager
    def _open_blocking_client(self) -> Any:
        from leanmq_topology.client import connect_sync

        with connect_sync(self._topology, url=self._link.server_url) as client:
            yield client

"""Which crew runs a handler: tasks of the loop or threads, message by message or in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from leanmq_topology.runner.batches import BatchCrew
from leanmq_topology.runner.handlers import LoadedHandler
from leanmq_topology.runner.lane import Crew, Finish, Forget, Succeed
from leanmq_topology.runner.loop_crew import LoopCrew
from leanmq_topology.runner.thread_crew import OpenClient, ThreadCrew


class Employer(Struct, frozen=True):
    """What every crew of a worker gets from it."""

    client: Any
    """For asynchronous handlers; None if none asks for it."""
    open_client: OpenClient
    """Makes a blocking client for a thread."""
    stuck: Callable[[str], None]
    """Hears of a run that goes on although it was given up."""
    turned: Callable[[], None]
    """Called when handlers have run in the loop for a while."""

    def hire(self, handler: LoadedHandler, finish: Finish, forget: Forget, succeed: Succeed) -> Crew:
        """A crew for this handler; it reports to these."""
        batch, concurrency = handler.declared.batch, handler.declared.concurrency
        if batch is None:
            return self._runners(handler, finish, forget, succeed)  # type: ignore[no-any-return]

        def hire(finish: Any, forget: Any) -> Any:
            return self._runners(handler, finish, forget)

        return BatchCrew(batch.size, batch.wait_ms / 1000, concurrency, hire, finish, forget, succeed)

    def _runners(self, handler: LoadedHandler, finish: Any, forget: Any, succeed: Any = None) -> Any:
        """Runners of messages or of batches: they treat both alike."""
        declared = handler.declared
        limit_seconds = declared.timeout_ms / 1000
        if handler.binding.asynchronous:
            return LoopCrew(
                handler.name, declared.concurrency, finish, forget, self.client,
                limit_seconds=limit_seconds, stuck=self.stuck, turned=self.turned, succeed=succeed,
            )  # fmt: skip
        return ThreadCrew(
            handler.name, declared.concurrency, finish, forget,
            self.open_client if handler.binding.wants_client else None,
            limit_seconds=limit_seconds, stuck=self.stuck,
        )  # fmt: skip

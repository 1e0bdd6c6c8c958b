"""Says what comes of each generation after the first: in the log, and to the workers that serve."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from leanmq_topology.runner.supervisor.listening import Listener
from leanmq_topology.runner.supervisor.members import Generation
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.wire import Failed, Reloaded

logger = logging.getLogger("leanmq.runner")

Explain = Callable[[Failed], str]
"""An error in words, as the command line would print it."""


class Chronicle(Listener):
    """`explain` puts an error in words, as the command line would print it."""

    def __init__(self, supervisor: Supervisor, *, explain: Explain) -> None:
        self._supervisor, self._explain = supervisor, explain

    def serving(self, generation: Generation) -> None:
        if generation.number == 1:
            return
        took = time.monotonic() - generation.begun_at
        logger.info(
            "generation %d serves, ready in %.2f s", generation.number, took,
            extra={"event": "reloaded", "generation": generation.number, "seconds": round(took, 3)},
        )  # fmt: skip
        self._supervisor.note_reloaded(Reloaded(generation.number))

    def refused(self, generation: Generation, failed: Failed) -> None:
        self._supervisor.note_reloaded(Reloaded(generation.number, _summarize(failed)))
        current = self._supervisor.current
        goes_on = f"generation {current.number} keeps serving" if current else "waiting for the next save"
        logger.error(
            "generation %d is refused, %s\n%s", generation.number, goes_on, self._explain(failed),
            extra={
                "event": "refused",
                "generation": generation.number,
                "serving": current.number if current else None,
                "diagnostics": [found.to_dict() for found in failed.diagnostics],
            },
        )  # fmt: skip


def _summarize(failed: Failed) -> str:
    """One line: the first of its mistakes, with its place."""
    if not failed.diagnostics:
        return failed.message
    first, more = failed.diagnostics[0], len(failed.diagnostics) - 1
    return f"{first.where()}: {first.code}: {first.message}" + (f" (and {more} more)" if more else "")

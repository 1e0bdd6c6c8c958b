"""Who hears of what a supervisor's processes do."""

from __future__ import annotations

from leanmq_topology.runner.supervisor.members import Generation, Process
from leanmq_topology.runner.supervisor.wire import Failed, Loaded, Note


class Listener:
    """Hears of what happens; made to be overridden. Nothing here may wait."""

    def reloading(self, generation: Generation) -> None:
        """It starts beside the one that serves."""

    def serving(self, generation: Generation) -> None:
        """All its processes read; the one before, if any, was told to drain."""

    def refused(self, generation: Generation, failed: Failed) -> None:
        """It cannot start; what served before still does."""

    def loaded(self, process: Process, loaded: Loaded) -> None:
        """A process said which files of the user's it read."""

    def noted(self, process: Process, note: Note) -> None:
        """A helper said something."""

    def stopping(self) -> None:
        """Everything is told to drain."""


class Listeners(Listener):
    """Several as one."""

    def __init__(self, *each: Listener) -> None:
        self.each = list(each)

    def reloading(self, generation: Generation) -> None:
        for listener in self.each:
            listener.reloading(generation)

    def serving(self, generation: Generation) -> None:
        for listener in self.each:
            listener.serving(generation)

    def refused(self, generation: Generation, failed: Failed) -> None:
        for listener in self.each:
            listener.refused(generation, failed)

    def loaded(self, process: Process, loaded: Loaded) -> None:
        for listener in self.each:
            listener.loaded(process, loaded)

    def noted(self, process: Process, note: Note) -> None:
        for listener in self.each:
            listener.noted(process, note)

    def stopping(self) -> None:
        for listener in self.each:
            listener.stopping()

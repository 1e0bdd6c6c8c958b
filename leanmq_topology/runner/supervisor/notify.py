"""Tells systemd (`Type=notify`, `Type=notify-reload`) where the service stands, and that it lives."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping

from leanmq_topology.runner.supervisor import health
from leanmq_topology.runner.supervisor.listening import Listener
from leanmq_topology.runner.supervisor.members import Generation
from leanmq_topology.runner.supervisor.supervisor import Supervisor
from leanmq_topology.runner.supervisor.wire import Failed

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Not for the processes that are started: only the main one may speak."""


class Notifier(Listener):
    """Hand it to the supervisor as a listener, then `attach` it."""

    def __init__(self, address: str, watchdog_seconds: float | None = None) -> None:
        """`address` is that of `NOTIFY_SOCKET`: a path, or `@` and an abstract name."""
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds

    @classmethod
    def find(cls, environ: Mapping[str, str], pid: int) -> Notifier | None:
        """None where no service manager listens."""
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in {"/", "@"}:
            return None
        meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        micros = environ.get("WATCHDOG_USEC", "")
        return cls(address, int(micros) / 1e6 if meant and micros.isdecimal() else None)

    def attach(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        if self._watchdog_seconds:
            self._feed_watchdog(self._watchdog_seconds / 2)

    def serving(self, generation: Generation) -> None:
        self.tell("READY=1", f"STATUS=generation {generation.number} serves")

    def refused(self, generation: Generation, failed: Failed) -> None:
        first = failed.message.splitlines()[0] if failed.message else failed.kind
        self.tell("READY=1", f"STATUS=generation {generation.number} was refused: {first}")

    def reloading(self, generation: Generation) -> None:
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self.tell("STOPPING=1", "STATUS=draining")

    def tell(self, *lines: str) -> None:
        """One datagram; a service manager that is not there is not waited for."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto("\n".join(lines).encode(), self._address)

    def _feed_watchdog(self, seconds: float) -> None:
        if not health.find_stuck(self._supervisor):
            self.tell("WATCHDOG=1")
        self._supervisor.turns.after(seconds, lambda: self._feed_watchdog(seconds))

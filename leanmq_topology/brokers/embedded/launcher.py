"""A share in the embedded broker of a folder: `hold`, `look` and `stop`.

However many commands ask at once, there is one server: whoever gets the lock starts the keeper, and
everybody, that one included, connects to it. A share ends with its process, so a crash leaves nothing.

There is no password: the socket has mode 0600 in a folder of mode 0700, there is no TCP port, and whoever
may pass those could read a password file, too.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.folder import StateFolder
from leanmq_topology.brokers.embedded.line import (
    READY_SECONDS,
    KeeperLine,
    ServerFacts,
    call_keeper,
    check_identity,
)
from leanmq_topology.brokers.embedded.starter import Tie, default_tie, start_ephemeral, start_if_free
from leanmq_topology.errors import BrokerUnavailableError

RETRY_SECONDS = 0.01
"""A file lock cannot be waited for with a limit, so it is tried this often."""
STARTS = 3
"""A keeper that this command started and that then ended without an answer is started again this often."""


@dataclass(slots=True)
class Hold:
    """A share in an embedded server: it runs at least until this is closed, or this process ends."""

    facts: ServerFacts
    _line: KeeperLine = field(repr=False)

    @property
    def url(self) -> str:
        """A `unix://` URL for this server; it may be handed to child processes while the share is held."""
        return self.facts.url

    def pin(self) -> ServerFacts:
        """Keep the server without users, until `stop`."""
        pinned = self._line.ask("pin")
        if pinned is None:
            raise BrokerUnavailableError("the embedded broker ended while it was pinned", hint="try again")
        self.facts = pinned
        return pinned

    def close(self) -> None:
        """Let go. Where nothing lingers (`linger=0s`, `ephemeral=1`), the server is gone when this returns.

        Closing twice is harmless.
        """
        if not self._line.is_open:
            return
        try:
            left = self._line.ask("release")
            if left is not None and left.ending:
                self._line.wait_until_closed()
        finally:
            self._line.close()

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold(
    folder: Path, address: EmbeddedAddress | None = None, *, name: str = "leanmq", tie: Tie | None = None
) -> Hold:
    """A share in the server of this folder, which is started if it does not run.

    `name` is what `leanmq server status` shows. Raises `BrokerUnavailableError` when there is no server
    program, when it does not start or when the folder cannot be used, and `BrokerRefusedError` when another
    server answers on its socket.
    """
    if sys.platform == "win32":
        raise BrokerUnavailableError(
            "the embedded broker runs on Linux and macOS only", hint="name a server with --url, or use WSL"
        )
    wanted = _Wanted(address or EmbeddedAddress(), name, tie or default_tie())
    return wanted.hold_ephemeral() if wanted.address.ephemeral else wanted.hold(StateFolder.beside(folder))


@dataclass(frozen=True, slots=True)
class _Wanted:
    address: EmbeddedAddress
    name: str
    tie: Tie

    def hold(self, state: StateFolder) -> Hold:
        state.prepare()
        deadline = time.monotonic() + READY_SECONDS
        starts = 0
        while time.monotonic() < deadline and starts < STARTS:
            line = call_keeper(state)
            if line is None:
                line = start_if_free(state, self.tie)
                starts += line is not None
            held = self._take_share(line) if line else None
            if held is not None:
                return held
            time.sleep(RETRY_SECONDS)
        raise BrokerUnavailableError(
            f"the embedded broker of {state.path.parent} is held by a keeper that does not answer",
            hint=f"it may be stopping: try again; if it stays so, see {state.log}",
        )

    def hold_ephemeral(self) -> Hold:
        held = self._take_share(start_ephemeral(self.tie))
        if held is None:
            raise BrokerUnavailableError("the ephemeral embedded broker ended while it was starting")
        return held

    def _take_share(self, line: KeeperLine) -> Hold | None:
        """None if the keeper ended meanwhile: it was stopping when we came."""
        try:
            facts = line.ask("hold", pid=os.getpid(), name=self.name, linger_ms=self.address.linger_ms)
            if facts is not None and not facts.ending:
                check_identity(facts)
                return Hold(facts, line)
        except BaseException:
            line.close()
            raise
        line.close()
        return None


def look(folder: Path) -> ServerFacts | None:
    """The facts of this folder's server; None if it does not run. Starts and writes nothing."""
    line = call_keeper(StateFolder.beside(folder))
    if line is None:
        return None
    try:
        return line.ask("status")
    finally:
        line.close()


def stop(folder: Path, *, force: bool = False) -> ServerFacts | None:
    """Unpin this folder's server and stop it, unless others use it and `force` is not given.

    Returns its last facts (`ending` says whether it stopped), or None if it did not run.
    """
    line = call_keeper(StateFolder.beside(folder))
    if line is None:
        return None
    try:
        facts = line.ask("stop", force=force)
        if facts is not None and facts.ending and not line.wait_until_closed():
            raise BrokerUnavailableError(
                f"the embedded broker is still stopping (its keeper has pid {facts.keeper_pid})",
                hint="look again with `leanmq server status`",
            )
        return facts
    finally:
        line.close()

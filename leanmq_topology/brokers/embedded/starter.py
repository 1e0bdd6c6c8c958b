"""Starts a keeper: with the lock in its hands, its control socket open, in a session of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import leanmq_topology
from leanmq_topology.brokers.embedded.binary import find_server_binary
from leanmq_topology.brokers.embedded.folder import StateFolder, make_runtime, remove_runtime
from leanmq_topology.brokers.embedded.keeper import CONTROL_NAME
from leanmq_topology.brokers.embedded.line import KeeperLine
from leanmq_topology.errors import BrokerUnavailableError
from leanmq_topology.settings import read_environ

Tie = Literal["kernel", "guard"]
"""What ends the server when its keeper dies: the kernel's parent-death signal, or a guard process."""
KEEPER_MODULE = "leanmq_topology.brokers.embedded.keeper"
BACKLOG = 512
INHERITED = frozenset(
    {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ"}
)
"""All that the keeper and the server see of the environment: it may hold other services' passwords."""


def default_tie() -> Tie:
    return "kernel" if sys.platform == "linux" else "guard"


def start_if_free(state: StateFolder, tie: Tie) -> KeeperLine | None:
    """Start this folder's keeper and connect to it; None if another command is about to, or it still ends."""
    lock = state.try_lock()
    if lock is None:
        return None
    try:
        binary = find_server_binary()
        state.remove_stale_runtime()
        return _Start(state, make_runtime(), binary, lock, tie).run()
    finally:
        os.close(lock)


def start_ephemeral(tie: Tie) -> KeeperLine:
    """Start a keeper with a new private folder that goes when it ends."""
    binary = find_server_binary()
    state = StateFolder(make_runtime())
    state.prepare()
    lock = state.try_lock()
    if lock is None:
        raise BrokerUnavailableError(f"the embedded broker's new folder {state.path} is used by another")
    try:
        return _Start(state, state.path, binary, lock, tie, ephemeral=True).run()
    except BaseException:
        shutil.rmtree(state.path, ignore_errors=True)
        raise
    finally:
        os.close(lock)


@dataclass(frozen=True, slots=True)
class _Start:
    """One start, by the command that holds the lock."""

    state: StateFolder
    runtime: Path
    binary: Path
    lock: int
    tie: Tie
    ephemeral: bool = False

    def run(self) -> KeeperLine:
        """The control socket listens before the keeper runs, so nobody has to wait for it to appear."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.runtime / CONTROL_NAME))
            (self.runtime / CONTROL_NAME).chmod(0o600)
            listener.listen(BACKLOG)
            line = KeeperLine.connect(self.runtime / CONTROL_NAME)
            try:
                self.state.write_runtime(self.runtime)
                self._launch(listener.fileno())
            except BaseException:
                line.close()
                remove_runtime(self.runtime)
                raise
        return line

    def _launch(self, listener: int) -> None:
        """The keeper forks itself off, so this returns at once and leaves no child behind.

        A session of its own, because Ctrl-C in a terminal is meant for the command and not for the server.
        """
        package = Path(leanmq_topology.__file__).parent.parent
        environ = {name: value for name, value in read_environ().items() if name in INHERITED}
        with self.state.open_log() as log:
            ended = subprocess.run(
                [sys.executable, "-S", "-P", "-m", KEEPER_MODULE, *self._arguments(listener)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**environ, "PYTHONPATH": str(package)},
                pass_fds=(self.lock, listener),
                start_new_session=True,
                umask=0o077,
                check=False,
            )
        if ended.returncode:
            raise BrokerUnavailableError(
                f"the embedded broker's keeper did not start (it ended with {ended.returncode})",
                hint=f"see {self.state.log}",
            )

    def _arguments(self, listener: int) -> list[str]:
        settings = {
            "--state": self.state.path,
            "--runtime": self.runtime,
            "--binary": self.binary,
            "--lock": self.lock,
            "--listen": listener,
            "--ephemeral": int(self.ephemeral),
            "--tie": self.tie,
        }
        return [str(word) for pair in settings.items() for word in pair]

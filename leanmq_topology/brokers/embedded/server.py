"""The embedded server as a child process: started, known to be ours, and never outliving this process.

Imported by the keeper, so it stays with a few small modules of the standard library.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import Any

SOCKET_NAME = "s"
"""The socket's name in its folder; short, because a socket's path may have 103 bytes at most."""
START_SECONDS = 20.0
"""How long a server may take until it answers at all; reading its data back may take longer."""
STOP_SECONDS = 10.0
"""How long a clean stop may take before SIGKILL."""
WRITE_SECONDS = 2.5
"""How long what was answered for may take to be written; a write waits 2 s for a sync under way at most."""
LOG_LIMIT_BYTES = 1 << 20
LOG_KEPT_BYTES = 1 << 16
ERROR_LINES = 8
PR_SET_PDEATHSIG = 1

REMEDIES = (
    (
        "Bad file format",
        "keep a copy of {data}, then mend it with valkey-check-aof, or move it away to start empty",
    ),
    (
        "Can't handle RDB format",
        "{data} was written by a newer server: run that one, or move the folder away to start empty",
    ),
    ("No space left", "the disk is full: make room, then try again"),
    ("Permission denied", "check the rights on {data} and on the server's program"),
)
"""The server's own words, and what mends it."""


class ServerFailedError(Exception):
    """The server did not start, or is not ours. `hint` says what mends it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def ask_server(
    path: str, section: str = "server", timeout: float = 2.0
) -> tuple[dict[str, str], bool] | None:
    """What INFO says of the server on this socket, and if it has read its data; None: nothing answers."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout)
            probe.connect(path)
            probe.sendall(f"INFO {section}\r\nPING\r\n".encode())
            stream = probe.makefile("rb")
            head = stream.readline(64)
            body = stream.read(int(head[1:]) + 2) if head.startswith(b"$") else b""
            ready = stream.readline(256).startswith(b"+PONG")
    except (OSError, ValueError):
        return None
    pairs = (line.partition(":") for line in body.decode("utf-8", "replace").splitlines())
    return {key: value for key, colon, value in pairs if colon}, ready


class Log:
    """The folder's log: the server writes to it, the keeper keeps it small and reads its end."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.mark = 0

    def bound(self) -> None:
        """Keep only the end of a log that has grown too long."""
        try:
            with open(self.path, "rb+") as file:  # noqa: PTH123
                size = file.seek(0, os.SEEK_END)
                if size <= LOG_LIMIT_BYTES:
                    return
                file.seek(size - LOG_KEPT_BYTES)
                kept = file.read().partition(b"\n")[2]
                file.truncate(0)
                file.seek(0)
                file.write(kept)
                self.mark = 0
        except OSError:
            return  # the folder may be gone; the keeper ends for that reason by itself

    def remember(self) -> None:
        """What is written from here on is what `tail` shows."""
        try:
            self.mark = os.stat(self.path).st_size  # noqa: PTH116
        except OSError:
            self.mark = 0

    def tail(self) -> list[str]:
        """The last lines since `remember`."""
        try:
            with open(self.path, "rb") as file:  # noqa: PTH123
                file.seek(self.mark)
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-ERROR_LINES:]


class Server:
    """The server process: a child that ends with this process, whatever happens to it."""

    def __init__(
        self, arguments: list[str], *, socket_path: str, data: str, log: Log, lock: int, tie: str
    ) -> None:
        self.arguments, self.socket_path, self.data, self.log = arguments, socket_path, data, log
        self.lock, self.tie = lock, tie
        self.pid = 0
        self.guard: tuple[int, int] | None = None
        self.info: dict[str, str] = {}
        self.started = 0.0

    def start(self) -> None:
        """Start it and wait until it has read its data; raises `ServerFailedError`."""
        self.log.remember()
        self._remove_socket()
        self.pid = self._spawn()
        if self.tie == "guard":
            self.guard = start_guard(self.pid)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        self.started = time.monotonic()

    def _spawn(self) -> int:
        prctl = load_prctl() if self.tie == "kernel" else None
        keeper = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            if prctl is not None:
                prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
                if os.getppid() != keeper:  # it died before the line above took effect
                    os._exit(1)
            os.set_inheritable(self.lock, True)
            os.execv(self.arguments[0], self.arguments)  # noqa: S606 - no shell on purpose
        except BaseException as failure:
            os.write(2, f"cannot run {self.arguments[0]}: {failure}\n".encode())
        os._exit(127)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            answer = ask_server(self.socket_path)
            if answer is not None:
                self._check_identity(answer[0])
                if answer[1]:
                    return
            elif time.monotonic() > deadline:
                raise ServerFailedError(f"the server did not answer within {START_SECONDS:.0f} s")
            if self.has_ended():
                raise self._explain_end()
            time.sleep(0.003)  # a server has no way to signal that it listens

    def _check_identity(self, info: dict[str, str]) -> None:
        if info.get("process_id") != str(self.pid):
            raise ServerFailedError(
                f"another server (pid {info.get('process_id')}) answers on {self.socket_path}",
                "stop that server, then try again",
            )
        self.info = info

    def _explain_end(self) -> ServerFailedError:
        lines = self.log.tail()
        text = "\n".join(lines)
        hint = next((remedy for words, remedy in REMEDIES if words in text), "the whole log is {log}")
        shown = "".join(f"\n    {line}" for line in lines)
        return ServerFailedError(
            f"the server ended while starting; its last lines:{shown}"
            if lines
            else "the server ended while starting",
            hint.format(data=self.data, log=self.log.path),
        )

    def has_ended(self) -> bool:
        if self.pid and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.pid = 0
            self._release_guard()
        return not self.pid

    def has_written(self) -> bool:
        """Whether its append-only file holds all that it answered for; waits while it writes.

        A disk that is full leaves the rest in its memory, from where it tries again each second; told to end,
        it would give that up. Nothing can be kept for a server that does not answer.
        """
        deadline = time.monotonic() + WRITE_SECONDS
        while time.monotonic() < deadline and (answer := ask_server(self.socket_path, "persistence")):
            if answer[0].get("aof_last_write_status", "ok") != "ok":
                return False
            if answer[0].get("aof_buffer_length", "0") == "0":
                return True
            time.sleep(0.01)  # it waits for a sync of its own, which nothing signals
        return True

    def stop(self, first: signal.Signals = signal.SIGTERM) -> None:
        """End it: SIGTERM writes and syncs the append-only file; SIGKILL follows if that takes too long."""
        if not self.has_ended():
            os.kill(self.pid, first)
            self._wait_or_kill()
        self._release_guard()
        self._remove_socket()

    def _wait_or_kill(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while not self.has_ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline = float("inf")
            time.sleep(0.003)

    def _release_guard(self) -> None:
        if self.guard is not None:
            pid, pipe = self.guard
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(pipe)
            self.guard = None

    def _remove_socket(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.socket_path)  # noqa: PTH108


def load_prctl() -> Any:
    """The C library's prctl, loaded before the fork that needs it."""
    import ctypes

    return ctypes.CDLL(None, use_errno=True).prctl


def start_guard(server: int) -> tuple[int, int]:
    """A process that kills the server when this one dies, seen by its end of a pipe closing (macOS, BSD)."""
    watched, kept = os.pipe()
    pid = os.fork()
    if pid:
        os.close(watched)
        return pid, kept
    try:
        os.dup2(watched, 0)
        os.closerange(
            1, 4096
        )  # the pipe's other end, the lock and the holders are not the guard's to keep open
        os.read(0, 1)
        os.kill(server, signal.SIGKILL)
    finally:
        os._exit(0)


def server_arguments(binary: str, *, socket_path: str, data: str, ephemeral: bool) -> list[str]:
    """The server's command line. Options go as arguments: a config file breaks on a path with a space."""
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "600",
        "dir": data,
        "save": "",
        "appendonly": "no" if ephemeral else "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    return [binary, *(word for name, value in options.items() for word in (f"--{name}", value))]

"""The keeper of an embedded server: one small process that owns a folder's lock and the server on its data.

The starter (`starter.py`) runs it as a program and hands it two open things: the locked lock file and the
listening control socket. A command that uses the server keeps a connection to that socket; when the last one
is closed, by a clean end or by SIGKILL alike, the keeper waits a moment and stops the server.

No server outlives its keeper: on Linux the kernel kills it when the keeper dies, elsewhere a guard process
does. The server inherits the lock, so the folder of a killed keeper is free only once its server is gone too.

Requests and answers on the control socket are one JSON object a line:
    {"do": "hold", "pid": 7, "name": "leanmq run", "linger_ms": 1500}    count me as a user until I close
    {"do": "release"}                  count me no longer, and say whether the server ends now
    {"do": "status"}                   facts about the server
    {"do": "pin"}                      keep it without users
    {"do": "stop", "force": false}     unpin, and stop unless others still use it, or it has no room to write
Answered with the facts, or with {"error": {"message", "hint"}} if the server cannot start.

It imports a few small modules of the standard library, so it starts fast and stays small.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from leanmq_topology.brokers.embedded.server import (
    SOCKET_NAME,
    Log,
    Server,
    ServerFailedError,
    server_arguments,
)

CONTROL_NAME = "k"
"""The control socket's name; short, because a socket's path may have 103 bytes at most."""
LOCK_NAME = "keeper.lock"
DEFAULT_LINGER_MS = 1500
TICK_SECONDS = 5.0
CRASHES_IN_A_ROW = 3
"""A server that ends this often within a second of its start is not started again."""
REQUEST_LIMIT_BYTES = 65536


def write_record(path: str, record: dict[str, object]) -> None:
    """Replace the record at once, readable by its owner alone."""
    draft = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    with open(os.open(draft, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs 13 ms of every start
        json.dump(record, file, indent=1)
    os.replace(draft, path)  # noqa: PTH105


class Caller:
    """One connection to the control socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = b""
        self.holds: dict[str, object] | None = None
        self.linger_ms = DEFAULT_LINGER_MS

    def answer(self, content: dict[str, object]) -> None:
        with suppress(OSError):  # it is gone; the closed connection is noticed where it is read
            self.connection.sendall(json.dumps(content).encode() + b"\n")


class Keeper:
    """The loop: answers callers, and ends when nobody needs the server any more."""

    def __init__(
        self, server: Server, listener: socket.socket, *, state: str, lock: int, ephemeral: bool
    ) -> None:
        self.server, self.listener, self.state, self.lock, self.ephemeral = (
            server,
            listener,
            state,
            lock,
            ephemeral,
        )
        self.callers: list[Caller] = []
        self.pinned = False
        self.ending = False
        self.unwritten = False
        """The disk had no room for what the server answered for when it was last to end."""
        self.linger_ms = DEFAULT_LINGER_MS
        self.idle_since = time.monotonic()
        self.crashes = 0
        self.selector = selectors.DefaultSelector()
        self.started_at = time.time()

    # -- the loop ---------------------------------------------------------------------------------------

    def serve(self) -> None:
        self._listen_to_signals()
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
        self.idle_since = time.monotonic()
        while not self.ending:
            events = self.selector.select(self._patience())
            self._revive_if_dead()  # before anybody is told where the server is
            for key, _ in events:
                key.data()
            self._look_around()

    def _listen_to_signals(self) -> None:
        """Every signal wakes the loop; those that ask to end set the flag."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self.selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, lambda *_: setattr(self, "ending", True))

    def _patience(self) -> float:
        if self._is_used():
            return TICK_SECONDS
        if self.unwritten:
            return TICK_SECONDS
        return min(TICK_SECONDS, max(0.0, self.idle_since + self.linger_ms / 1000 - time.monotonic()))

    def _is_used(self) -> bool:
        return self.pinned or any(caller.holds for caller in self.callers)

    def _look_around(self) -> None:
        now = time.monotonic()
        if self._is_used():
            self.idle_since = now
        elif now >= self.idle_since + self.linger_ms / 1000:
            self._end_unless_unwritten()
        if os.fstat(self.lock).st_nlink == 0:  # the folder was deleted: nobody can find this server again
            self.ending = True
        elif not os.path.exists(self._record_path):  # noqa: PTH110
            self.record()
        self.server.log.bound()

    def _end_unless_unwritten(self) -> None:
        """Nobody needs the server. While its disk is full it stays, or what it answered for would be lost."""
        before, self.unwritten = self.unwritten, not self.server.has_written()
        self.ending = self.ending or not self.unwritten
        if self.unwritten and not before:
            print("keeper: the disk is full: staying until all is written", file=sys.stderr, flush=True)  # noqa: T201

    def _revive_if_dead(self) -> None:
        """A server that died under its users comes back on the same socket, unless it keeps dying."""
        if self.ending or not self.server.has_ended():
            return
        self.crashes = self.crashes + 1 if time.monotonic() - self.server.started < 1 else 0
        if self.crashes >= CRASHES_IN_A_ROW or not self._is_used():
            self.ending = True
            return
        try:
            self.server.start()
        except ServerFailedError as failure:
            print(f"keeper: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log
            self.ending = True
            return
        self.record()

    # -- callers ----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        caller = Caller(connection)
        self.callers.append(caller)
        self.selector.register(connection, selectors.EVENT_READ, lambda: self._read(caller))

    def _read(self, caller: Caller) -> None:
        try:
            received = caller.connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        caller.received += received
        if not received or len(caller.received) > REQUEST_LIMIT_BYTES:
            self._drop(caller)
            return
        *lines, caller.received = caller.received.split(b"\n")
        for line in lines:
            self._serve_request(caller, line)

    def _drop(self, caller: Caller) -> None:
        self.selector.unregister(caller.connection)
        caller.connection.close()
        self.callers.remove(caller)
        self._release(caller)

    def _release(self, caller: Caller) -> None:
        """The last user to go decides how long the server waits for the next one."""
        if caller.holds is None:
            return
        caller.holds = None
        if not self._is_used():
            self.idle_since, self.linger_ms = time.monotonic(), caller.linger_ms
            if not self.linger_ms:
                self._end_unless_unwritten()

    def _serve_request(self, caller: Caller, line: bytes) -> None:
        try:
            request = json.loads(line)
            self._carry_out(str(request["do"]), request, caller)
        except (ValueError, TypeError, KeyError):
            caller.answer({"error": {"message": "not a request", "hint": None}})
            return
        caller.answer({**self.facts(), "ending": self.ending})

    def _carry_out(self, verb: str, request: dict[str, Any], caller: Caller) -> None:
        match verb:
            case "hold":
                caller.linger_ms = int(request["linger_ms"])
                caller.holds = {"pid": request["pid"], "name": request["name"]}
            case "release":
                self._release(caller)
            case "pin":
                self.pinned = True
            case "stop":
                self.pinned = False
                others = any(other.holds for other in self.callers if other is not caller)
                if request["force"]:
                    self.ending = True
                elif not others:
                    self._end_unless_unwritten()

    # -- what it knows ----------------------------------------------------------------------------------

    def facts(self) -> dict[str, object]:
        info = self.server.info
        return {
            "keeper_pid": os.getpid(),
            "server_pid": self.server.pid,
            "socket": self.server.socket_path,
            "data": self.server.data,
            "server_name": info.get("server_name", "redis"),
            "server_version": info.get("valkey_version") or info.get("redis_version", "unknown"),
            "started_at": self.started_at,
            "pinned": self.pinned,
            "unwritten": self.unwritten,
            "holders": [caller.holds for caller in self.callers if caller.holds],
        }

    @property
    def _record_path(self) -> str:
        return f"{self.state}/server.json"

    def _has_folder(self) -> bool:
        """Whether the folder there is the one it locked, and not another keeper's in its place."""
        try:
            return os.path.samestat(os.fstat(self.lock), os.stat(f"{self.state}/{LOCK_NAME}"))  # noqa: PTH116
        except OSError:
            return False

    def record(self) -> None:
        """Tell later commands where everything is."""
        if not self._has_folder():
            return
        runtime = os.path.dirname(self.server.socket_path)  # noqa: PTH120
        passing = {"pinned", "unwritten", "holders"}
        kept = {key: value for key, value in self.facts().items() if key not in passing}
        try:
            write_record(self._record_path, {"format": 1, "runtime": runtime, **kept})
        except OSError as failure:
            print(f"keeper: no record written: {failure}", file=sys.stderr, flush=True)  # noqa: T201

    # -- the end ----------------------------------------------------------------------------------------

    def end(self) -> None:
        """Stop the server and leave no file behind but the data and the log.

        The control socket goes first: who comes now finds nobody, and waits for the lock to start anew.
        """
        runtime = os.path.dirname(self.server.socket_path)  # noqa: PTH120
        with suppress(OSError):
            os.unlink(f"{runtime}/{CONTROL_NAME}")  # noqa: PTH108
        self.server.stop()
        if self._has_folder():
            with suppress(OSError):
                os.unlink(self._record_path)  # noqa: PTH108
        if self.ephemeral:
            import shutil

            shutil.rmtree(self.state, ignore_errors=True)
        with suppress(OSError):
            os.rmdir(runtime)  # noqa: PTH106

    def refuse(self, failure: ServerFailedError) -> None:
        """Tell everybody who waits why there is no server."""
        self.listener.setblocking(False)
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            Caller(connection).answer({"error": {"message": str(failure), "hint": failure.hint}})
            connection.close()


def main(argv: list[str]) -> int:
    """`--state DIR --runtime DIR --binary FILE --lock FD --listen FD --ephemeral 0|1 --tie kernel|guard`."""
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    if os.fork():
        return 0  # the launcher waits for this one; the keeper itself is nobody's child
    os.umask(0o077)
    lock, listener = int(given["--lock"]), socket.socket(fileno=int(given["--listen"]))
    os.set_inheritable(lock, False)
    listener.set_inheritable(False)
    state, ephemeral = given["--state"], given["--ephemeral"] == "1"
    server = build_server(given, lock=lock, ephemeral=ephemeral)
    return keep(Keeper(server, listener, state=state, lock=lock, ephemeral=ephemeral))


def build_server(given: dict[str, str], *, lock: int, ephemeral: bool) -> Server:
    data, socket_path = f"{given['--state']}/data", f"{given['--runtime']}/{SOCKET_NAME}"
    return Server(
        server_arguments(given["--binary"], socket_path=socket_path, data=data, ephemeral=ephemeral),
        socket_path=socket_path,
        data=data,
        log=Log(f"{given['--state']}/server.log"),
        lock=lock,
        tie=given["--tie"],
    )


def keep(keeper: Keeper) -> int:
    """Start the server, serve until nobody needs it, stop it."""
    failure: ServerFailedError | None = None
    try:
        keeper.server.log.bound()
        keeper.server.start()
        keeper.record()
        keeper.serve()
    except ServerFailedError as cause:
        failure = cause
    finally:
        keeper.end()
    if failure is None:
        return 0
    keeper.refuse(failure)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One forked process, and the line between it and its supervisor."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from leanmq_topology.runner.supervisor.wire import BUG_EXIT, Lines, Message, Reloaded, Stop, encode

logger = logging.getLogger("leanmq.runner")

LARGEST_READ = 65536
QUIET = (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
"""What a terminal sends to the whole process group is the supervisor's to act on."""
HELD_BACK = (*QUIET, signal.SIGTERM)


class Upward:
    """The process's end of the line. A thread listens, so that a loop that stands still does not keep the end
    of the supervisor from being noticed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._stop: Callable[[bool], None] = _end_at_once
        self._reloaded: Callable[[Reloaded], None] = lambda reloaded: None

    def leave(self) -> None:
        """In a copy of the process: the line is not its own."""
        self._end.close()

    def listen(self) -> None:
        threading.Thread(target=self._listen, name="leanmq-supervisor", daemon=True).start()

    def on_stop(self, callback: Callable[[bool], None]) -> None:
        """Called in a thread when the process is to drain; with True when its supervisor is gone.

        Until this is set, the process holds no messages: it simply ends.
        """
        self._stop = callback

    def on_reloaded(self, callback: Callable[[Reloaded], None]) -> None:
        """Called in a thread with what came of an edit."""
        self._reloaded = callback

    def tell(self, message: Message) -> None:
        """Returns once it is written. Nobody listens any more once the supervisor is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._end.sendall(encode(message))

    def mention(self, message: Message) -> bool:
        """Like `tell`, but not at the price of waiting: False where the supervisor does not keep up."""
        if not select.select((), (self._end,), (), 0)[1]:
            return False
        self.tell(message)
        return True

    def _listen(self) -> None:
        lines = Lines()
        while True:
            try:
                data = self._end.recv(LARGEST_READ)
            except OSError:
                data = b""
            if not data:
                self._stop(True)
                return
            for message in lines.feed(data):
                if isinstance(message, Stop):
                    self._stop(False)
                elif isinstance(message, Reloaded):
                    self._reloaded(message)


class Downward:
    """The supervisor's end of the line."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._lines = Lines()

    def tell(self, message: Message) -> None:
        """A process that does not listen is dealt with by deadlines, not here."""
        with contextlib.suppress(OSError):
            self.socket.send(encode(message))

    def read(self) -> list[Message] | None:
        """What has come; None once the process closed its end."""
        try:
            data = self.socket.recv(LARGEST_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        return self._lines.feed(data) if data else None

    def read_rest(self) -> list[Message]:
        """All that is left, of a process that ended."""
        found: list[Message] = []
        with contextlib.suppress(OSError):
            while data := self.socket.recv(LARGEST_READ):
                found += self._lines.feed(data)
        return found

    def close(self) -> None:
        self.socket.close()


Main = Callable[[Upward], int]
"""What a process does; returns its exit code."""


def fork_process(main: Main, leave: Callable[[], None]) -> tuple[int, Downward]:
    """Fork; in the child `leave` closes what is the parent's, then `main` runs. Raises `OSError`.

    The child never returns from here. It ends as a program of its own would: handlers of `atexit` that it
    registered run, threads that are no daemons are waited for.
    """
    ours, theirs = socket.socketpair()
    flush_streams()
    gc.freeze()  # what is there now stays shared between parent and child
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    else:
        if pid == 0:
            _live(main, leave, ours, theirs)
        theirs.close()
        return pid, Downward(ours)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        gc.unfreeze()


def _live(main: Main, leave: Callable[[], None], ours: socket.socket, theirs: socket.socket) -> Any:
    code = BUG_EXIT
    try:
        atexit._clear()
        leave()
        ours.close()
        _reset_signals()
        _write_whole_lines()
        upward = Upward(theirs)
        upward.listen()
        code = main(upward)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        with contextlib.suppress(BaseException):
            logger.exception("a process ended by a mistake in leanmq", extra={"event": "bug"})
    finally:
        with contextlib.suppress(BaseException):
            flush_streams()
        os._exit(code)


def _reset_signals() -> None:
    for number in QUIET:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))  # until there is something to drain
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _write_whole_lines() -> None:
    """A line that is printed leaves at once and in one piece: several processes share these streams.

    Buffered, they leave in blocks that end anywhere. With PYTHONUNBUFFERED a line and its end are two writes.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it writes what is still held back
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True, write_through=False)


def _end_at_once(orphaned: bool) -> None:
    os._exit(0)


def flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream is not None:
                stream.flush()

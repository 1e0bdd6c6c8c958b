"""The workers behind the view: a process that says lines, and ends when it is told to.

It stands in a process group of its own, so that Ctrl-C reaches it exactly once: from us. If we end, however
that happens, its lifeline ends with us and it drains.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

BUG_EXIT = 70
LARGEST_READ = 65536
LONGEST_LINE = 1_000_000
"""Characters; a longer one is shown in parts."""


@dataclass(slots=True)
class Backstage:
    """A child process whose output is read line by line."""

    pid: int
    output: int
    """Descriptor to read from."""
    _lifeline: int
    _rest: bytes = b""
    _code: int | None = field(default=None)

    def read_lines(self) -> list[str] | None:
        """What has come; None at the end. Call it when `output` can be read."""
        data = os.read(self.output, LARGEST_READ)
        if not data:
            rest, self._rest = self._rest, b""
            return [rest.decode(errors="replace")] if rest else None
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").removesuffix("\r") for line in lines]

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.exit_code() is None:
                os.kill(self.pid, number)

    def exit_code(self) -> int | None:
        """None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def close(self) -> None:
        """Let it go: what still runs drains."""
        os.close(self.output)
        os.close(self._lifeline)


def fork_backstage(main: Callable[[int], int]) -> Backstage:
    """Fork; the child runs `main` with its end of the lifeline, and ends with the code that it returns.

    Call it before any thread is started.
    """
    output, writing = os.pipe()
    their_end, lifeline = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _live(main, their_end, writing, (output, lifeline))
    os.close(writing)
    os.close(their_end)
    return Backstage(pid, output, lifeline)


def _live(main: Callable[[int], int], lifeline: int, writing: int, not_ours: tuple[int, ...]) -> None:
    code = BUG_EXIT
    try:
        os.setpgid(0, 0)
        for descriptor in not_ours:
            os.close(descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for goal, source in enumerate((nothing, writing, writing)):
            os.dup2(source, goal)
        os.close(nothing)
        os.close(writing)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        code = main(lifeline)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

"""Where the lines of a session come from: a prompt with history and Tab, or plain standard input.

The standard library's `readline` does what is needed, and asks for no further dependency; where Python was
built without it the prompt is plain.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from leanmq_topology.settings import read_environ

LONGEST_HISTORY: Final = 1000
_CLEAR_LINE: Final = "\r\033[K"

Complete = Callable[[str], list[str]]


class Terminal:
    """`write` prints one block; a prompt that stands there is drawn again behind it."""

    def __init__(self, prompt: str, write: Callable[[str], None], complete: Complete) -> None:
        self._prompt, self._write, self._complete = prompt, write, complete
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._readline: Any = None
        self._asking = False
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        with self._lock:
            if self._asking:
                sys.stdout.write(_CLEAR_LINE)
                sys.stdout.flush()
            self._write(text)
            if self._asking:
                typed = self._readline.get_line_buffer() if self._readline else ""
                sys.stdout.write(self._prompt + typed)
            sys.stdout.flush()

    def lines(self) -> Iterator[str]:
        """Until the end of the input. Ctrl-C at the prompt clears the line; elsewhere it ends the session."""
        if not self.interactive:
            for line in sys.stdin:
                yield line.rstrip("\n")
            return
        with self._set_up():
            while (line := self._ask()) is not None:
                yield line

    def _ask(self) -> str | None:
        try:
            self._asking = True
            return input(self._prompt)
        except EOFError:
            sys.stdout.write("\n")
            return None
        except KeyboardInterrupt:
            sys.stdout.write("\n")
            return ""
        finally:
            self._asking = False

    @contextlib.contextmanager
    def _set_up(self) -> Iterator[None]:
        try:
            import readline
        except ImportError:
            yield
            return
        self._readline = readline
        place = _history_place()
        with contextlib.suppress(OSError):
            readline.read_history_file(place)
        readline.set_history_length(LONGEST_HISTORY)
        readline.set_completer_delims(" ")
        readline.set_completer(self._offer)
        readline.parse_and_bind("tab: complete")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(place)
                place.chmod(0o600)  # it may hold data

    def _offer(self, word: str, at: int) -> str | None:
        """What readline asks for: the possible words, one after another."""
        found = self._complete(self._readline.get_line_buffer()[: self._readline.get_endidx()])
        return found[at] if at < len(found) else None


def _history_place() -> Path:
    state = read_environ().get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "leanmq" / "history"

"""A few lines kept at the bottom of a terminal, while everything else scrolls above them.

No library: the cursor goes up over the lines, the rest of the screen is cleared, all is written in one go.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
CLEAR_BELOW = "\x1b[J"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
"""A frame is never wider than the terminal was a moment ago; should it have shrunk, it is cut, not folded."""


class Screen:
    """Use it in a `with`: the terminal is left as it was found, the last frame stays on it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: list[str] = []

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines of a frame that leaves room for what scrolls above it."""
        columns, lines = shutil.get_terminal_size()
        return max(columns, 20), max(lines // 2, 4)

    def show(self, frame: Sequence[str]) -> None:
        """Put this frame where the former one is."""
        if list(frame) != self._shown:
            self._write("", frame)

    def print_above(self, text: str) -> None:
        """Whole lines, above the frame. What they hold is printed as it is."""
        self._write(text if text.endswith("\n") else f"{text}\n", self._shown)

    def _write(self, text: str, frame: Sequence[str]) -> None:
        body = "".join(f"{line}\n" for line in frame)
        self._stream.write(f"{self._up()}{text}{NO_WRAP}{body}{WRAP}")
        self._stream.flush()
        self._shown = list(frame)

    def _up(self) -> str:
        up = f"\x1b[{len(self._shown)}A" if self._shown else ""
        return f"\r{up}{CLEAR_BELOW}"

    def __enter__(self) -> Screen:
        self._stream.write(HIDE_CURSOR)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stream.write(f"{WRAP}{SHOW_CURSOR}")
        self._stream.flush()

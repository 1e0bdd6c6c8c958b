"""The frame stays at the bottom: what a terminal would show after the bytes that are written."""

from __future__ import annotations

import io
import re

from leanmq_topology.cli.live.screen import HIDE_CURSOR, SHOW_CURSOR, Screen


class Terminal:
    """The little that the screen needs of a terminal: lines, the way up, and clearing what is below."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.at = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\?\d+[hl]|\x1b\[\d*[A-Z]|\n|\r|[^\x1b\n\r]+", text):
            match part:
                case "\n":
                    self.at += 1
                    self.lines += [""] * (self.at + 1 - len(self.lines))
                case "\x1b[J":
                    del self.lines[self.at :]
                    self.lines.append("")
                case _ if part.endswith("A") and part.startswith("\x1b"):
                    self.at -= int(part[2:-1])
                    assert self.at >= 0
                case _ if not part.startswith(("\x1b", "\r")):
                    self.lines[self.at] += part


def shown(stream: io.StringIO) -> list[str]:
    terminal = Terminal()
    terminal.feed(stream.getvalue())
    return terminal.lines[:-1]


def test_a_frame_takes_the_place_of_the_one_before():
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.show(["head", "one"])
        screen.show(["head", "two", "three"])
        screen.show(["head", "four"])
    assert shown(stream) == ["head", "four"]


def test_lines_scroll_above_the_frame():
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.print_above("before")
        screen.show(["head", "row"])
        screen.print_above("a log line\nand its second\n")
        screen.print_above("more")
        screen.show(["head", "row 2"])
    assert shown(stream) == ["before", "a log line", "and its second", "more", "head", "row 2"]


def test_an_unchanged_frame_is_not_written_again():
    stream = io.StringIO()
    with Screen(stream) as screen:
        screen.show(["head"])
        before = stream.tell()
        screen.show(["head"])
        assert stream.tell() == before


def test_the_cursor_is_there_again_whatever_happens():
    stream = io.StringIO()
    try:
        with Screen(stream):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert stream.getvalue().startswith(HIDE_CURSOR)
    assert stream.getvalue().endswith(SHOW_CURSOR)

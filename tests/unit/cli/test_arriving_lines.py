"""Lines that come slowly, at once, or from a file: each as it was, and a pause where no more are there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.cli.arriving_lines import PAUSE, read_arriving

Pipe = tuple[Iterator[bytes], int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """What is read at one end, and the other end; the test closes that one."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as source:
        yield read_arriving(source), writes


def test_lines_of_a_pipe_come_before_its_end_and_then_a_pause(pipe: Pipe):
    lines, writes = pipe
    for number in (b"1", b"2"):
        os.write(writes, number + b"\n\nha")
        assert [next(lines) for _ in range(3)][-2:] == [b"\n", PAUSE]
        os.write(writes, b"lf\n")
        assert [next(lines), next(lines)] == [b"half\n", PAUSE]
    os.write(writes, b"last")
    os.close(writes)
    assert list(lines) == [b"last"]


def test_what_is_there_at_once_has_no_pauses(pipe: Pipe):
    lines, writes = pipe
    os.write(writes, b"1\n22\r\n\n" * 1000)
    os.close(writes)
    assert list(lines) == [b"1\n", b"22\r\n", b"\n"] * 1000


def test_a_pipe_without_lines_ends(pipe: Pipe):
    lines, writes = pipe
    os.close(writes)
    assert list(lines) == []


def test_a_file_is_read_as_it_is(tmp_path: Path):
    file = tmp_path / "lines"
    file.write_bytes(b"1\n\n2")
    with file.open("rb") as source:
        assert list(read_arriving(source)) == [b"1\n", b"\n", b"2"]
    assert list(read_arriving(io.BytesIO(b"1\n2"))) == [b"1\n", b"2"]

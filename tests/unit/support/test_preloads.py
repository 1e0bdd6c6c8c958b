"""The libraries that tests put into servers do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.preloads import SkewedClock, WatchedDisk

HOUR_S = 3600


def run_python(program: str, environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", program, *words],
        env={**os.environ, **environ}, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
def test_a_clock_jumps_under_a_running_program_and_its_monotonic_clock_does_not(tmp_path: Path, seconds: int):
    clock = SkewedClock.make(tmp_path)
    program = """
import time
for _ in range(2):
    print(time.time(), time.monotonic(), flush=True)
    input()
"""
    process = run_python(program, clock.environ)
    assert process.stdout is not None
    assert process.stdin is not None
    before, steady = map(float, process.stdout.readline().split())
    assert abs(before - time.time()) < HOUR_S / 2
    clock.jump(seconds)
    process.stdin.write("\n")
    process.stdin.flush()
    after, later = map(float, process.stdout.readline().split())
    process.communicate("\n", timeout=40)
    assert abs(after - before - seconds) < HOUR_S / 2
    assert 0 <= later - steady < HOUR_S / 2


@pytest.mark.parametrize("sync", ["fsync", "fdatasync"])
def test_a_power_failure_leaves_what_was_synced_and_nothing_else(tmp_path: Path, sync: str):
    disk, folder = WatchedDisk.make(tmp_path), tmp_path / "data"
    folder.mkdir()
    program = f"""
import os, sys
kept = os.open(sys.argv[1] + "/kept", os.O_CREAT | os.O_WRONLY)
os.write(kept, b"0123456789")
os.{sync}(kept)
os.write(kept, b"gone")
os.write(os.open(sys.argv[1] + "/never", os.O_CREAT | os.O_WRONLY), b"gone too")
os.rename(sys.argv[1] + "/kept", sys.argv[1] + "/renamed")
"""
    process = run_python(program, disk.environ, str(folder))
    process.communicate(timeout=40)
    assert process.returncode == 0
    assert disk.lose_power(folder) == len(b"gone" + b"gone too")
    assert (folder / "renamed").read_bytes() == b"0123456789"
    assert (folder / "never").read_bytes() == b""


def test_what_was_synced_twice_survives_to_the_second_time(tmp_path: Path):
    disk, folder = WatchedDisk.make(tmp_path), tmp_path / "data"
    folder.mkdir()
    program = """
import os, sys
file = os.open(sys.argv[1] + "/file", os.O_CREAT | os.O_WRONLY)
for word in (b"one ", b"two ", b"three"):
    os.write(file, word)
    if word != b"three":
        os.fsync(file)
"""
    run_python(program, disk.environ, str(folder)).communicate(timeout=40)
    disk.lose_power(folder)
    assert (folder / "file").read_bytes() == b"one two "

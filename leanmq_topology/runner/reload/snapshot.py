"""What the watched files hold. Content decides: neither a date nor an event says that anything changed.

An editor that saves by renaming, a Kubernetes volume that swaps a link, a checkout that keeps dates: in the
end the path leads to other bytes, or to the same. That is all that is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ABSENT = ""
"""The digest of what is not there (or cannot be read, which is the same to whoever would load it)."""

NAMED_SUFFIXES = frozenset({".py", ".yaml", ".yml", ".json"})
"""Of new files in a watched folder, those that a topology or a handler may have been waiting for."""

Snapshot = Mapping[Path, str]
"""Path to digest, of every watched file and folder."""


@dataclass(frozen=True, slots=True)
class WatchList:
    """What a generation was made of: files by their content, folders by the names in them."""

    files: frozenset[Path] = frozenset()
    """Absolute, with their links unfollowed: where a link leads may change. They need not exist (yet)."""
    folders: frozenset[Path] = frozenset()
    """Only where something is missing: a new file here is a reason to try again."""

    def __or__(self, other: WatchList) -> WatchList:
        return WatchList(self.files | other.files, self.folders | other.folders)

    @property
    def places(self) -> frozenset[Path]:
        """All that a snapshot holds."""
        return self.files | self.folders


def take_snapshot(watched: WatchList) -> dict[Path, str]:
    """Read everything, as it is now."""
    files = {path: digest_file(path) for path in watched.files}
    return files | {path: digest_names(path) for path in watched.folders}


def digest_file(path: Path) -> str:
    """Of the content, links followed. Never raises: a file may vanish at any moment."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return ABSENT


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def digest_names(folder: Path) -> str:
    """Of names that may be modules, topology files or schemas; what editors leave beside them is not."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if _is_named(entry))
    except OSError:
        return ABSENT
    return digest("/".join(names).encode(errors="surrogateescape"))


def _is_named(entry: Path) -> bool:
    if entry.name.startswith((".", "__pycache__")):
        return False
    return entry.suffix in NAMED_SUFFIXES or entry.is_dir()


def list_changes(before: Snapshot, after: Snapshot) -> list[Path]:
    """What differs, in order; a place that only one of them knows does not."""
    return sorted(path for path in before.keys() & after.keys() if before[path] != after[path])


def shorten(paths: Iterable[Path], folder: Path) -> list[str]:
    """As one would type them in `folder`."""
    root = folder.absolute()
    return [str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in paths]

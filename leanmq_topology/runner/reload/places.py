"""Which folders to watch, so that no way to change what a path leads to goes unnoticed.

A watch on a file is lost with the first save that renames. A folder stays; and where a path leads through
links, each link can be swapped in the folder that holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

MAX_LINKS = 40
"""As the kernel: a longer chain is a circle."""


def list_folders(places: Iterable[Path]) -> frozenset[Path]:
    """The existing folders in which something must happen before one of `places` can change."""
    return frozenset(folder for place in places for folder in _folders_of(place))


def _folders_of(place: Path) -> Iterator[Path]:
    """The folder of the place itself, and of each link that is followed to it."""
    if place.is_dir():
        yield place.resolve()
    pending = place
    for _ in range(MAX_LINKS):
        step, rest = _walk(pending)
        yield step.parent
        if not step.is_symlink():
            return
        pending = step.parent.joinpath(step.readlink(), *rest)


def _walk(path: Path) -> tuple[Path, Sequence[str]]:
    """How far `path` leads: to the first link on it, else to the first part that is missing, else to its end.

    Returns that place, whose folder exists, and the parts that are left.
    """
    at = Path(path.anchor)
    parts = path.parts[1:]
    for index, part in enumerate(parts):
        if part == "..":
            at = at.parent
            continue
        at = at / part
        if at.is_symlink() or not at.is_dir():
            return at, parts[index + 1 :]
    return at, ()

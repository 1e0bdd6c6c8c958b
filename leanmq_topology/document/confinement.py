"""Paths named inside a file: only plain files below a folder, never a URL, never out through a link."""

from __future__ import annotations

import re
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LONGEST = 1024


class OutsideError(ValueError):
    """The path leads out of the folder, or is no path at all. The message says how."""


def resolve_below(named: str, *, base: Path, folder: Path) -> Path:
    """The path `named` (relative to `base`), if it stays below `folder`; raises `OutsideError` if not."""
    if not named.strip() or len(named) > _LONGEST or "\0" in named:
        raise OutsideError("is not a path")
    if _URL.match(named):
        raise OutsideError("is a URL; only files are read")
    if Path(named).is_absolute() or named.startswith(("\\", "~")):
        raise OutsideError("is absolute; write it relative to this file")
    path = base / named
    root = folder.resolve()
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise OutsideError("cannot be resolved") from error
    if not real.is_relative_to(root):
        through = "a link in it leads" if ".." not in Path(named).parts else "it leads"
        raise OutsideError(f"is refused: {through} out of the topology's folder")
    return path

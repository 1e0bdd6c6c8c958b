"""Flags and environment, as one frozen value. Nothing else in the package reads `os.environ`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from leanmq_topology.errors import SettingError

DEFAULT_NAMES = ("topology.yaml", "leanmq.yaml")


class Settings(Struct, frozen=True, kw_only=True):
    """What one invocation was told: flags first, then the environment."""

    files: tuple[Path, ...] = ()
    environment: str | None = None
    url: str | None = None
    """`--url`, which wins over the file."""
    fallback_url: str | None = None
    """`LEANMQ_URL`, used where the file names no server."""
    output: str = "text"
    color: bool = False
    environ: Mapping[str, str] | None = None


def read_environ() -> Mapping[str, str]:
    """A copy of the process environment."""
    return dict(os.environ)


def take_environ(*names: str) -> Mapping[str, str]:
    """Those of these variables that are set; processes started from now on do not get them."""
    return {name: value for name in names if (value := os.environ.pop(name, None)) is not None}


def find_topology_file(start: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The topology file to use when none is named.

    `LEANMQ_FILE` (several joined by the path separator) wins; then `topology.yaml` or `leanmq.yaml` in
    `start` or a folder above it, up to the root of the Git checkout. Raises `SettingError` if there is none.
    """
    named = tuple(Path(part) for part in environ.get("LEANMQ_FILE", "").split(os.pathsep) if part)
    if named:
        return named
    for folder in (start, *start.parents):
        for name in DEFAULT_NAMES:
            if (folder / name).is_file():
                return (folder / name,)
        if (folder / ".git").exists():
            break
    raise SettingError(
        "-f",
        f"no {' or '.join(DEFAULT_NAMES)} in {start} or above it",
        hint="name one with -f FILE or LEANMQ_FILE, or run `leanmq demo` to see one at work",
    )

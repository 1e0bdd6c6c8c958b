"""What a changed schema means for those who still speak the old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any] | bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Only what is proven counts."""

    broken: str | None = None
    """Which promise of `compatibility` the change breaks, in words; None when none is."""
    reads_old: bool = False
    """Proven: whatever the old schema allowed, the new one allows too."""


def judge_schemas(before: Schema, after: Schema, mode: str) -> Verdict:
    """Compare two schemas of one message type under its `compatibility`."""
    return Verdict()

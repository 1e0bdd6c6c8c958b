"""What the workers write, line by line: log records become text again, and tell what the view shows beside.

Whatever else comes (what handlers print, other loggers, the last words of a process) is passed on as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import click

OWN_LOGGER = "leanmq"
COLORS = {"warning": "yellow", "error": "red", "critical": "red"}
NOT_SHOWN = frozenset({"started", "handling", "ready"})
"""Said at the start for people who have no view."""


@dataclass(slots=True)
class Narration:
    """Reads the JSON lines of `leanmq run`. `note`, `is_bad` and `last_errors` are for the view."""

    color: bool = False
    note: str = "starting"
    is_bad: bool = False
    last_errors: dict[str, str] = field(default_factory=dict)
    """By queue."""

    def tell(self, line: str) -> str | None:
        """The line as it is to be shown; None for one that the view says better."""
        record = _read_record(line)
        if record is None:
            return line
        self._take_in(record)
        return None if record.get("event") in NOT_SHOWN else self._render(record)

    def _take_in(self, record: dict[str, Any]) -> None:
        number = record.get("generation")
        match record.get("event"):
            case "ready":
                self.note, self.is_bad = "serving", False
            case "reloading":
                self.note, self.is_bad = f"loading: {record['message'].removesuffix(', loading')}", False
            case "reloaded":
                self.note, self.is_bad = f"serving generation {number}", False
            case "refused":
                self.note, self.is_bad = record["message"].partition("\n")[0], True
            case "stopping":
                self.note, self.is_bad = "draining; Ctrl-C again ends at once", False
            case _:
                self._remember_error(record)

    def _remember_error(self, record: dict[str, Any]) -> None:
        queue, error, message = record.get("queue"), record.get("error"), record["message"]
        if isinstance(queue, str) and isinstance(error, str) and error:
            start = message.find(error)
            self.last_errors[queue] = (message[start:] if start >= 0 else error).partition("\n")[0]

    def _render(self, record: dict[str, Any]) -> str:
        """As `leanmq run` writes it for people."""
        time = f"{datetime.fromisoformat(record['time']).astimezone():%H:%M:%S}"
        level = "" if record["level"] in {"info", "debug"} else f"{record['level']}: "
        if self.color and level:
            level = click.style(level, fg=COLORS.get(record["level"]))
        trace = f"\n{record['traceback']}" if "traceback" in record else ""
        return f"{time} {level}{record['message']}{trace}"


def _read_record(line: str) -> dict[str, Any] | None:
    """A record of ours; handlers may print JSON of their own."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    wanted = ("time", "level", "logger", "message")
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in wanted):
        return None
    return record if record["logger"].partition(".")[0] == OWN_LOGGER and _has_time(record) else None


def _has_time(record: dict[str, Any]) -> bool:
    try:
        datetime.fromisoformat(record["time"])
    except ValueError:
        return False
    return True

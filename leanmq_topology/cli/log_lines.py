"""Log records as lines on stderr: for people, or one JSON object each for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import click

from leanmq_topology.cli.output import wants_color

FORMATS = ("text", "json")
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "asctime"}
"""What every record has; the rest are the fields that the caller added."""


class TextLines(logging.Formatter):
    """`14:02:11 warning  charge order.placed …`: local time, no level where all is well."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        time = f"{datetime.fromtimestamp(record.created).astimezone():%H:%M:%S}"
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        if self._color and level:
            level = click.style(level, fg=_COLORS.get(record.levelno))
        text = f"{time} {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonLines(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def write_logs(form: str, *, verbose: bool = False) -> None:
    """Send what `leanmq` logs to stderr; other loggers stay as the handlers' own code sets them."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else TextLines(color=wants_color(sys.stderr)))
    logger = logging.getLogger("leanmq")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False

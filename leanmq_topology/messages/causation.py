"""What a message inherits from the one whose handling caused it: the thread that runs through a whole story.

correlationid   the same for all messages of a story: the cause's, or its id where it has none
causationid     the id of the message that was being handled
traceparent     the cause's, with its tracestate, so that a trace goes on where nobody writes spans
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from leanmq_topology.messages.envelope import Envelope
from leanmq_topology.messages.message import HEADER_CORRELATION

HEADER_CAUSE: Final = "causationid"
HEADER_TRACE: Final = "traceparent"
HEADER_TRACE_STATE: Final = "tracestate"


def inherit_headers(own: Mapping[str, str], cause: Envelope) -> dict[str, str]:
    """A send's own headers, with what it leaves out taken from the message being handled."""
    theirs = cause.headers
    inherited = {
        HEADER_CORRELATION: theirs.get(HEADER_CORRELATION) or cause.id,
        HEADER_CAUSE: cause.id,
    }
    if HEADER_TRACE not in own and HEADER_TRACE in theirs:
        inherited |= {name: theirs[name] for name in (HEADER_TRACE, HEADER_TRACE_STATE) if name in theirs}
    return inherited | dict(own)

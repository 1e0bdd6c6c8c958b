"""Which message is being handled here: whoever handles one says so, and sends made meanwhile refer to it."""

from __future__ import annotations

from contextvars import ContextVar

from leanmq_topology.messages.envelope import Envelope

being_handled: ContextVar[Envelope | None] = ContextVar("leanmq_being_handled", default=None)
"""Follows tasks and threads that are started from a handler, as context variables do."""

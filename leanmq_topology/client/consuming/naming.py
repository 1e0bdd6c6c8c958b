"""The name under which a client or a worker takes messages."""

from __future__ import annotations

import base64
import secrets


def new_consumer_name() -> str:
    """Twelve characters nobody else has: the server repeats the name in its log for every message."""
    return base64.b32encode(secrets.token_bytes(7)).decode().rstrip("=").lower()

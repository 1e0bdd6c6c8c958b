"""Middleware."""


class Trace:
    """Names each run."""

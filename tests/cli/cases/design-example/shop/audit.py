"""Keeps what happened."""


def keep(data):
    """An event."""

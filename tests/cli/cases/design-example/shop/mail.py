"""Sends mail in batches."""


def send_all(data):
    """Several orders at once."""

"""Charges orders."""


def charge(data):
    """An order to be charged."""

"""Handlers of a shop."""

"""Validate, route and send."""

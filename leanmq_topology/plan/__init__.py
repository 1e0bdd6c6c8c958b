"""Desired times live is what to do: live state, changes, diff, hazards, rendering. Pure."""

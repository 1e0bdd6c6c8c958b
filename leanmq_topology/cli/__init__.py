"""The leanmq command."""

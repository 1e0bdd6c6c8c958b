"""Ephemeral channels: publish to whoever listens right now, and listen.

names       which names and patterns there may be
standing    what is applied for a channel, followed as it changes
publishing  from data to what is published; pure
inbox       what was heard and not read yet, bounded; counts
reading     from what was heard to a message, or the reason why it is none
blocking, asynchronous   subscriptions of either colour
"""

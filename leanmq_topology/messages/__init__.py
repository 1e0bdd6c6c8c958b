"""One message without a server: envelope, routing, backoff, outcome, decision. Pure."""

"""Handlers wired to queues: loading, pipeline, worker, leases."""

"""Consuming without a runner: what a client holds, how it is settled, and what is kept up beside it.

shelf        what one client holds of one queue, and the course of a receive; no I/O
housekeeper  a thread beside: renews leases, keeps the namespace up, settles what nobody waits for
settling     the verbs of a delivery as operations; no I/O
blocking, asynchronous   the two colours that carry all that out
"""

"""`leanmq run` from above: a light parent that starts, watches, replaces and buries worker processes.

The parent never imports or runs a user's code, talks to no server and has one thread. It forks, so that a
worker begins with everything but the user's code already imported (`docs/decisions/0009`).
"""

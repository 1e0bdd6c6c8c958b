"""The embedded broker: a real server of one's own, started and stopped by the commands that use it.

command ── launcher ── folder   `.leanmq/`: data, lock, log, record of where the sockets are
              │        binary   where the server's program is
              ├─────── starter  starts a keeper, if nobody else does
              └─ line ─ keeper ── server      two processes, gone without users
"""

"""An adopt that dies after some operations: `python -m tests.support.dying_adopt OPERATIONS arguments…`.

Every operation of the process counts, on whichever connection; the one after the last kills it with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from leanmq_topology.brokers.redis.connection import BlockingRedisConnection
from leanmq_topology.cli.main import main


def die_after(operations: int) -> None:
    left = [operations]
    execute = BlockingRedisConnection.execute

    def counted(self: BlockingRedisConnection, operation: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return execute(self, operation)

    BlockingRedisConnection.execute = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    die_after(int(sys.argv[1]))
    main(sys.argv[2:])

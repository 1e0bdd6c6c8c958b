"""`leanmq run` on a machine whose clock is wrong: `CLOCK_SKEW_SECONDS` ahead of the server's."""

from __future__ import annotations

import os
import time

SKEW = float(os.environ["CLOCK_SKEW_SECONDS"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + SKEW  # before anything of the product is imported
time.time_ns = lambda: _time_ns() + round(SKEW * 1e9)

from leanmq_topology.cli.main import main  # noqa: E402

if __name__ == "__main__":
    main()

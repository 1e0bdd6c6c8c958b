"""Who applies, and from which commit: what the record on the server says of an apply."""

from __future__ import annotations

import getpass
import os
import subprocess

from leanmq_topology.topology.model import Topology

GIT_SECONDS = 5


def name_applier() -> str:
    """Who applies, for the record and for whoever finds the lock taken."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{os.uname().nodename or 'localhost'}"


def find_commit(topology: Topology) -> str | None:
    """The commit the file stands at, where it is in a Git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=topology.folder,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None

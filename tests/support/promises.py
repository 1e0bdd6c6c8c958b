"""What CI promises its tests, so that no run there is green for want of a tool.

A test that lacks it is skipped at home.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def lack(reason: str) -> NoReturn:
    """End a test that cannot run here: skipped at home, failed in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI promises it")
    pytest.skip(reason)


def require_program(name: str, *, what_for: str) -> str:
    """The path of a program, or the end of the test."""
    return shutil.which(name) or lack(f"`{name}` is not installed: {what_for} needs it")


def require_root() -> None:
    """For what only root can set up. CI does not promise it: who runs a test is no tool to install."""
    if os.geteuid() != 0:
        pytest.skip("this is not root, and only root can make what belongs to another")

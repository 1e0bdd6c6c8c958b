"""A tool that is missing is noticed where it was promised."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import preloads
from tests.support.promises import require_program, require_root


@pytest.fixture(params=["ci", "home"])
def ending(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """How a test ends that lacks something."""
    if request.param == "home":
        monkeypatch.delenv("CI", raising=False)
        return pytest.skip.Exception
    monkeypatch.setenv("CI", "true")
    return pytest.fail.Exception


def test_a_missing_program_fails_in_ci_and_skips_at_home(ending: type[BaseException]):
    with pytest.raises(ending, match="`no-such-program` is not installed: nothing needs it"):
        require_program("no-such-program", what_for="nothing")


def test_a_missing_compiler_does_so(
    ending: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ending, match="a library to preload"):
        preloads.compile_preload("clock", tmp_path)


def test_missing_rights_skip_everywhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="not root"):
        require_root()


def test_a_program_that_is_there_is_found():
    assert os.access(require_program("sh", what_for="every system"), os.X_OK)

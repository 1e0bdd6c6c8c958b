"""Fixtures every test may use: real servers, a namespace of one's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.support.servers import KINDS, Server, require_binary


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each server kind in turn: a test that takes this runs on every one of them."""
    yield from _serve(request.param)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """Valkey 9 alone, for what does not depend on the server."""
    yield from _serve("valkey9")


@pytest.fixture
def namespace() -> str:
    """A namespace no other test uses, so that nothing ever needs flushing."""
    return f"t{secrets.token_hex(6)}"


def _serve(kind: str) -> Iterator[Server]:
    running = Server(kind, require_binary(kind)).start()
    yield running
    running.stop()

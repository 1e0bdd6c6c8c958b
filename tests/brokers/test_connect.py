"""A URL becomes a broker: which one, lazily, and let go of whole."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leanmq_topology.brokers.connect import open_async, open_blocking
from leanmq_topology.brokers.embedded import launcher
from leanmq_topology.brokers.embedded.launcher import look, stop
from leanmq_topology.errors import BrokerUnavailableError, SettingError
from tests.support.processes import PATIENCE_SECONDS, wait_until
from tests.support.servers import Server

EMBEDDED = "embedded:?linger=0s"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, force=True)


def test_server_named_by_url_is_connected_to(server: Server, namespace: str, folder: Path) -> None:
    with open_blocking(server.url, namespace=namespace, folder=folder) as link:
        another = link.open_another()
        assert link.connection.execute(link.broker.read_record()).owner is None
        assert another.execute(link.broker.read_record()).owner is None
        assert link.connection.connection_id != another.connection_id
        assert link.url == server.url
    assert not list(folder.iterdir()), "a named server needs no files here"
    with pytest.raises(BrokerUnavailableError):
        another.execute(link.broker.read_record())


async def test_server_named_by_url_is_connected_to_from_asyncio(
    server: Server, namespace: str, folder: Path
) -> None:
    async with await open_async(server.url, namespace=namespace, folder=folder) as link:
        another = await link.open_another()
        assert (await link.connection.execute(link.broker.read_record())).owner is None
        assert (await another.execute(link.broker.read_record())).owner is None
    with pytest.raises(BrokerUnavailableError):
        await another.execute(link.broker.read_record())


def test_embedded_broker_lives_as_long_as_its_link(folder: Path) -> None:
    with open_blocking(EMBEDDED, namespace="shop", folder=folder, client_name="leanmq-test") as link:
        running = look(folder)
        assert running is not None
        assert [holder["name"] for holder in running.holders] == ["leanmq-test"]
        assert link.url == "embedded:"
        assert link.connection.execute(link.broker.read_record()).owner is None
        with open_blocking(link.server_url, namespace="shop", folder=folder) as child:
            assert child.connection.execute(child.broker.read_record()).owner is None
    assert look(folder) is None
    link.close()  # twice is harmless


async def test_embedded_broker_lives_as_long_as_its_link_in_asyncio(folder: Path) -> None:
    async with await open_async(EMBEDDED, namespace="shop", folder=folder) as link:
        assert (await link.connection.execute(link.broker.read_record())).owner is None
        assert link.server_url.startswith("unix:///")
        assert look(folder) is not None
    assert look(folder) is None
    await link.close()


async def test_share_that_comes_after_a_cancellation_is_given_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, cancelled = threading.Event(), threading.Event()
    true_hold = launcher.hold

    def slow_hold(*arguments: object, **options: object) -> launcher.Hold:
        started.set()
        cancelled.wait(PATIENCE_SECONDS)
        return true_hold(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(launcher, "hold", slow_hold)
    opening = asyncio.create_task(open_async(EMBEDDED, namespace="shop", folder=folder))
    await asyncio.to_thread(started.wait, PATIENCE_SECONDS)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    cancelled.set()
    log = folder / ".leanmq" / "server.log"
    await asyncio.to_thread(
        wait_until, lambda: log.exists() and "bye bye" in log.read_text(), "the end of the unused server"
    )


def test_failed_connection_lets_go_of_the_embedded_broker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leanmq_topology.brokers.redis.connection import BlockingRedisConnection

    def refuse(*arguments: object, **options: object) -> None:
        raise BrokerUnavailableError("no")

    monkeypatch.setattr(BlockingRedisConnection, "open", refuse)
    with pytest.raises(BrokerUnavailableError, match="no"):
        open_blocking(EMBEDDED, namespace="shop", folder=folder)
    assert look(folder) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "http://x",
        "embedded",
        "embedded:/x",
        "postgres://me:hunter2@h",
        "redis://h:99999",
        "redis://:hunter2@h/abc",
    ],
)
def test_url_that_cannot_be_used_is_refused_before_anything_starts(folder: Path, url: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_blocking(url, namespace="shop", folder=folder)
    assert caught.value.exit_code == 64
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("url", "wanted"),
    [("http://x", "redis://"), ("embedded", "embedded:"), ("embedded?x", "embedded:"), ("", "embedded:")],
)
def test_refused_url_is_answered_with_one_that_works(folder: Path, url: str, wanted: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_blocking(url, namespace="shop", folder=folder)
    assert wanted in str(caught.value.hint)


def test_importing_connect_costs_no_client() -> None:
    code = (
        "import sys, leanmq_topology.brokers.connect\n"
        "print(sorted({'asyncio', 'redis', 'hiredis', 'subprocess'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"

"""Each exit code, reached as a user reaches it. Scripts decide by these numbers, so none may drift.

7 (timed out) belongs to `request`, which does not exist yet.
"""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from leanmq_topology.brokers.connect import open_blocking
from leanmq_topology.brokers.protocol import ApplyLock
from leanmq_topology.cli.main import main
from tests.support.commands import LEANMQ, own_environ
from tests.support.processes import wait_until
from tests.support.servers import Server
from tests.support.shop import Shop

Call = Callable[..., int]


@pytest.fixture(scope="module")
def shop(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Applied; `billing` is full, and a schema that breaks what waits there is in `incompatible.yaml`."""
    found = Shop(tmp_path_factory.mktemp("shop"), valkey.url, f"t{secrets.token_hex(6)}").open()
    assert found.leanmq("apply").returncode == 0
    for _ in range(2):
        assert found.leanmq("send", "billing", "--example").returncode == 0
    found.write("incompatible.yaml", required="total, vat")
    (found.folder / "larger.yaml").write_text("queues: {billing: {max_length: 3}}\n")
    return found


@pytest.fixture
def call(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run one command in the shop's folder; returns its exit code."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("LEANMQ_URL", shop.url)

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return run


NOWHERE = ("--url", "unix:///nowhere/at/all")
LARGER = ("-f", "topology.yaml", "-f", "larger.yaml")

TABLE: list[tuple[int, tuple[str, ...]]] = [
    (0, ("validate",)),
    (0, ("plan",)),
    (0, ("plan", "--detailed-exitcode")),
    (0, ("plan", *LARGER)),
    (0, ("send", "emails", "--example")),
    (1, ("send", "billing", "--example")),  # the queue is full
    (1, ("demo", "--keep", ".")),  # the folder is not empty
    (2, ("plan", "--detailed-exitcode", *LARGER)),
    (3, ("validate", "broken.yaml")),
    (3, ("plan", "broken.yaml")),
    (3, ("send", "emails", "{}")),
    (3, ("send", "emails", "not JSON")),
    (3, ("send", "nobody", "{}")),
    (4, ("plan", "incompatible.yaml")),
    (4, ("plan", "incompatible.yaml", "--detailed-exitcode")),
    (4, ("apply", "incompatible.yaml", "--yes")),
    (4, ("apply", "incompatible.yaml", "--dry-run")),
    (4, ("send", "billing", "--example", "-f", "unapplied.yaml")),
    (4, ("status", "-f", "unapplied.yaml")),
    (5, ("status", *NOWHERE)),
    (5, ("server", "url")),
    (64, ("status", "--bogus")),
    (64, ("bogus",)),
    (64, ()),
    (64, ("status", "--url", "http://server")),
    (64, ("explain", "LMQ999")),
]


@pytest.mark.parametrize(
    ("code", "words"), TABLE, ids=[f"{code}: {' '.join(words)}" for code, words in TABLE]
)
def test_a_command_ends_with_the_code_that_says_what_happened(call: Call, code: int, words: tuple[str, ...]):
    assert call(*words) == code


def test_an_apply_that_finds_the_lock_taken_ends_with_6(shop: Shop, call: Call):
    with open_blocking(shop.url, namespace=shop.namespace, folder=shop.folder) as link:
        lock = link.connection.execute(link.broker.take_lock(shop.namespace, "somebody", lifetime_ms=60_000))
        assert isinstance(lock, ApplyLock)
        assert call("apply", *LARGER) == 6
        assert link.connection.execute(link.broker.release_lock(lock))


def test_ctrl_c_ends_any_command_with_130(call: Call, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("leanmq_topology.cli.options.Invocation.load_topology", interrupt)
    assert call("graph") == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_worker_that_is_ended_before_its_drain_is_done_says_by_which_signal(
    valkey: Server, namespace: str, tmp_path: Path, number: signal.Signals, code: int
):
    shop = Shop(tmp_path, valkey.url, namespace).open()
    assert shop.leanmq("apply").returncode == 0
    assert shop.leanmq("send", "billing", '{"total": -1}').returncode == 0  # a handler that takes for ever
    worker = subprocess.Popen(
        [*LEANMQ, "run", "--drain", "10ms"], cwd=tmp_path, env=own_environ(valkey.url),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: in_flight(shop) == 1, "the start of the handler", seconds=20)
        worker.send_signal(number)
        assert worker.wait(20) == code
    finally:
        worker.kill()
        worker.wait()


def in_flight(shop: Shop) -> int:
    with open_blocking(shop.url, namespace=shop.namespace, folder=shop.folder) as link:
        return link.connection.execute(link.broker.inspect_queues(["billing"]))[0].in_flight

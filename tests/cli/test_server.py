"""`leanmq server` as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leanmq_topology.brokers.embedded.address import EmbeddedAddress
from leanmq_topology.brokers.embedded.launcher import hold, stop
from tests.support.processes import is_alive, wait_until_gone


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    stop(tmp_path, force=True)


def leanmq(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leanmq_topology.cli.main", "server", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def leanmq_json(folder: Path, *words: str) -> dict[str, Any]:
    ran = leanmq(folder, *words, "-o", "json")
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert answer.pop("schema") == "leanmq.server/v1"
    return answer


def test_started_server_stays_is_shown_and_stops(folder: Path) -> None:
    started = leanmq_json(folder, "start")
    assert started["running"]
    assert started["pinned"]
    assert started["holders"] == []
    assert is_alive(started["pid"])
    assert started["data"] == str(folder / ".leanmq" / "data")
    assert started["data_bytes"] > 0
    assert leanmq_json(folder, "start")["pid"] == started["pid"], "starting again changes nothing"
    assert leanmq_json(folder, "status") == started
    assert leanmq(folder, "url").stdout == f"{started['url']}\n"
    stopped = leanmq_json(folder, "stop")
    assert stopped.keys() == started.keys()
    assert not stopped["running"]
    wait_until_gone(started["pid"], started["keeper_pid"])


def test_text_says_what_a_person_needs(folder: Path) -> None:
    shown = leanmq(folder, "start").stdout
    assert shown.splitlines()[0] == "running"
    assert "Valkey 9" in shown
    assert "until `leanmq server stop`" in shown
    assert str(folder / ".leanmq" / "data") in shown
    assert leanmq(folder, "stop").stdout == "stopped\n"
    assert leanmq(folder, "status").stdout.splitlines()[0] == "not running"


def test_stopping_what_does_not_run_is_no_failure(folder: Path) -> None:
    ran = leanmq(folder, "stop")
    assert ran.returncode == 0
    assert ran.stdout == ""
    assert f"no embedded broker is running in {folder}" in ran.stderr
    assert not list(folder.iterdir())


def test_stop_names_who_still_uses_it(folder: Path) -> None:
    with hold(folder, EmbeddedAddress(linger_ms=0), name="leanmq run") as held:
        ran = leanmq(folder, "stop")
        assert ran.returncode == 0
        assert "still used by leanmq run (pid " in ran.stderr
        assert is_alive(held.facts.server_pid)
        assert leanmq_json(folder, "status")["holders"][0]["name"] == "leanmq run"
        assert leanmq(folder, "stop", "--force").stdout == "stopped\n"
        assert not is_alive(held.facts.server_pid)


def test_url_of_what_does_not_run_exits_5_and_says_how_to_start_it(folder: Path) -> None:
    ran = leanmq(folder, "url")
    assert ran.returncode == 5
    assert ran.stdout == ""
    assert "leanmq server start" in ran.stderr


def test_server_belongs_to_the_folder_of_the_topology_file(folder: Path) -> None:
    (folder / "topology.yaml").write_text("leanmq: 1\nname: shop\n")
    (folder / "deep").mkdir()
    with hold(folder, EmbeddedAddress(linger_ms=0)) as held:
        assert leanmq_json(folder / "deep", "status")["pid"] == held.facts.server_pid
        named = leanmq_json(folder.parent, "status", "-f", str(folder / "topology.yaml"))
        assert named["pid"] == held.facts.server_pid


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hunter2@localhost", "about the embedded broker only"),
        ("embedded:?ephemeral=1", "ends with its command"),
        ("embedded:?nonsense=1", "no parameter 'nonsense'"),
    ],
)
def test_url_of_another_server_is_a_usage_error(folder: Path, url: str, said: str) -> None:
    ran = leanmq(folder, "start", "--url", url)
    assert ran.returncode == 64
    assert said in ran.stderr
    assert "hunter2" not in ran.stderr

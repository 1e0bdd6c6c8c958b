"""Examples that are programs: `expected_output.txt` is a session, and it is played as it stands.

`$ command` runs to its end and prints what follows; one with `&` is started, waited for until its first line
is there, and after all others ended with SIGTERM, unless it says `# ends by itself`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_examples import run_until_settled
from tests.support.servers import start_on_tcp

ROOT = Path(__file__).parents[2]
SESSIONS = sorted(
    found.parent
    for found in (ROOT / "examples").glob("*/expected_output.txt")
    if found.read_text().startswith("$ ")
)
PATIENCE_SECONDS = 60
ENDS = "# ends by itself"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port, server = start_on_tcp("valkey9")
    yield port
    server.stop()


def environ(port: int) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_PORT": str(port),
        "LEANMQ_URL": f"redis://127.0.0.1:{port}/0",
        "PYTHONPATH": str(ROOT),
    }


def start(command: str, folder: Path, port: int) -> subprocess.Popen[str]:
    words = command.partition("&")[0].split()
    program = {"python": [sys.executable], "leanmq": [sys.executable, "-m", "leanmq_topology.cli.main"]}[
        words[0]
    ]
    return subprocess.Popen(
        [*program, *words[1:]],
        cwd=folder,
        env=environ(port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("example", SESSIONS, ids=lambda folder: folder.name)
def test_an_example_prints_what_its_session_shows(example: Path, tmp_path: Path, port: int):
    folder = tmp_path / example.name
    shutil.copytree(example, folder)
    background: list[tuple[str, str, str, subprocess.Popen[str]]] = []
    try:
        for part in (folder / "expected_output.txt").read_text().split("$ ")[1:]:
            command, _, expected = part.partition("\n")
            process = start(command, folder, port)
            if "&" in command:
                assert process.stdout is not None
                background.append((command, expected, process.stdout.readline(), process))
                continue
            check(command, expected, "", process)
        for command, expected, begun, process in background:
            if ENDS not in command:
                process.send_signal(signal.SIGTERM)
            check(command, expected, begun, process)
    finally:
        for *_, process in background:
            process.kill()
            process.communicate()


def check(command: str, expected: str, begun: str, process: subprocess.Popen[str]) -> None:
    printed, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, f"$ {command}\n{begun}{printed}{errors}"
    if not command.startswith("leanmq"):
        assert begun + printed == expected, f"$ {command}\n{errors}"


def test_every_program_has_its_session():
    assert [folder.name for folder in SESSIONS] == [
        "calculator",
        "fanout",
        "producer_consumer",
        "pubsub",
        "webhooks",
    ]


# -- FastAPI ---------------------------------------------------------------------------------------------

APPLICATION = """
import asyncio, json, sys
from app import app

async def main(bodies):
    to_app, from_app = asyncio.Queue(), asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
    lifespan = asyncio.create_task(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    started = await from_app.get()
    assert started["type"] == "lifespan.startup.complete", started
    print(json.dumps([await post("/completions", body) for body in bodies]))
    await to_app.put({"type": "lifespan.shutdown"})
    assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
    await lifespan

async def post(path, body):
    sent, raw = [], json.dumps(body).encode()
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
             "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
             "headers": [(b"content-type", b"application/json")], "client": ("c", 1), "server": ("s", 80)}
    messages = iter([{"type": "http.request", "body": raw, "more_body": False}])

    async def receive():
        return next(messages, {"type": "http.disconnect"})

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return [sent[0]["status"], json.loads(b"".join(part.get("body", b"") for part in sent[1:]))]

asyncio.run(main(json.loads(sys.argv[1])))
"""


def test_the_fastapi_application_queues_a_job_that_a_worker_does(tmp_path: Path, port: int):
    folder = tmp_path / "fastapi_app"
    shutil.copytree(ROOT / "examples" / "fastapi_app", folder)
    url = f"redis://127.0.0.1:{port}/0"
    applied = start("leanmq apply", folder, port)
    check("leanmq apply", "", "", applied)
    job = {"prompt": "Say hello", "model": "small", "user_id": "u-1"}
    answers = speak_to(folder, port, [job, job | {"model": "huge"}])
    assert answers[0][0] == 202
    assert answers[0][1]["status"] == "queued"
    assert len(answers[0][1]["task_id"]) == 36
    assert answers[1][0] == 422
    assert answers[1][1]["detail"][0]["loc"] == "/model"
    output, _ = run_until_settled(folder, url)
    assert output == (folder / "expected_output.txt").read_text()


def test_an_application_whose_topology_was_never_applied_says_so(tmp_path: Path, port: int):
    folder = tmp_path / "fastapi_app"
    shutil.copytree(ROOT / "examples" / "fastapi_app", folder)
    file = folder / "topology.yaml"
    file.write_text(file.read_text().replace("name: completions", "name: never-applied"))
    job = {"prompt": "Say hello", "model": "small", "user_id": "u-1"}
    with pytest.raises(AssertionError, match="is not applied"):
        speak_to(folder, port, [job])


def speak_to(folder: Path, port: int, bodies: list[dict[str, Any]]) -> list[Any]:
    """Start the application as a server would, post these, shut it down."""
    done = subprocess.run(
        [sys.executable, "-c", APPLICATION, json.dumps(bodies)],
        cwd=folder, env=environ(port), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]

"""Commands used as people misuse them: one clear error, never a traceback, and an exit code that says so."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from leanmq_topology.cli.main import main
from tests.support.commands import LEANMQ, leanmq, own_environ, read_answer
from tests.support.servers import Server

TOPOLOGY = """
leanmq: 1
name: {namespace}
queues:
  billing: {{accepts: [order], ttl: 1d}}
messages:
  order: {{schema: {{type: object}}}}
"""
UNKNOWN_KEY = "leanmq: 1\nname: shop\nqueues: {billing: {tll: 1d}}\n"


@pytest.fixture
def project(tmp_path: Path, namespace: str) -> Path:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY.format(namespace=namespace))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "there is no command 'statsu'; did you mean 'status'?"),
        (["-o", "json", "status"], "options stand after the command"),
        (["validate", "--bogus"], "see `leanmq validate --help`"),
        (["explain", "queues"], "'queues' is a section"),
        (["explain", "broker.colour"], "broker has no key 'colour'"),
        (["status", "--url", ""], "--url: is empty"),
        (["send", "billing"], "say what to send"),
        (["send", "billing", "@nowhere.json"], "@nowhere.json: cannot be read"),
        (["send", "billing", "{}", "--ttl", "5"], "has no unit; write 5s"),
        (["run", "--drain", "5"], "has no unit; write 5s"),
    ],
    ids=" ".join,
)
def test_a_usage_error_is_one_error_that_says_what_to_do(
    project: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = "".join(capsys.readouterr())
    assert said in told
    assert "Traceback" not in told
    assert "mistake in leanmq" not in told
    assert ended.value.code == 64


@pytest.mark.parametrize(
    ("words", "code"),
    [(["render"], 0), (["bogus", "-o", "json"], 64), (["plan", "nowhere.yaml", "-o", "json"], 3)],
)
def test_a_reader_that_goes_away_is_met_with_silence(project: Path, words: list[str], code: int):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = leanmq(*words, folder=project, stdout=gone)
    assert (done.returncode, done.stderr) == (code, "")


def test_apply_writes_nothing_when_its_plan_cannot_be_shown(project: Path, valkey: Server):
    with Path("/dev/full").open("wb") as full:
        done = leanmq("apply", folder=project, url=valkey.url, stdout=full)
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"
    assert leanmq("status", folder=project, url=valkey.url).returncode == 4


def test_a_full_disk_is_told_on_stderr_even_where_json_was_asked_for(project: Path):
    with Path("/dev/full").open("wb") as full:
        done = leanmq("render", "-o", "json", folder=project, stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "No space left" in done.stderr


@pytest.mark.parametrize("closing", [">&-", "2>&-", "</dev/null >&- 2>&-"])
def test_closed_streams_are_no_failure(project: Path, closing: str):
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closing}', "sh", *LEANMQ, "validate"], cwd=project, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize("words", [["trace"], ["adopt", "--from", "leanmq", "--prefix"]], ids=" ".join)
def test_what_the_server_is_asked_for_must_be_text(
    project: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as ended:
        main([*words, os.fsdecode(b"a\xff")])
    assert ended.value.code == 64
    assert "it is not UTF-8 text" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_shown_escaped(project: Path):
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = leanmq("render", os.fsdecode(b"\xff.yaml"), "-o", "json", folder=project, environ=strict)
    assert done.returncode == 3
    assert read_answer(done)["diagnostics"][0]["message"] == "there is no file \udcff.yaml"


def test_a_working_directory_that_is_gone_is_named_as_the_reason(project: Path):
    gone = project / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$0" && exec "$@"', str(gone), *LEANMQ, "validate"],
        cwd=gone, env={**own_environ(), "PYTHONSAFEPATH": "1"}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 64
    assert "the working directory does not exist any more" in done.stderr


def test_a_list_of_files_that_names_none_counts_as_not_set(project: Path):
    assert leanmq("validate", folder=project, environ={"LEANMQ_FILE": os.pathsep}).returncode == 0


@pytest.mark.parametrize(
    ("environ", "colored"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_a_terminal_gets_color_unless_it_is_refused(project: Path, environ: dict[str, str], colored: bool):
    (project / "topology.yaml").write_text(UNKNOWN_KEY)
    shown = run_on_terminal(["validate"], project, {"TERM": "xterm", **environ})
    assert "LMQ203" in shown
    assert ("\x1b[" in shown) is colored


def test_color_can_be_forced_into_a_pipe(project: Path):
    (project / "topology.yaml").write_text(UNKNOWN_KEY)
    assert "\x1b[" not in leanmq("validate", folder=project).stderr
    assert "\x1b[" in leanmq("validate", folder=project, environ={"FORCE_COLOR": "1"}).stderr


@pytest.mark.parametrize("words", [["--help"], ["send", "--help"], ["dlq", "list", "-h"]], ids=" ".join)
def test_help_fits_a_narrow_terminal(project: Path, words: list[str]):
    done = leanmq(*words, folder=project, environ={"COLUMNS": "40"})
    assert done.returncode == 0
    # click keeps two columns of air at 50 and gives up narrowing below that; one long word may stand out
    wide = [line for line in done.stdout.splitlines() if len(line) > 50]
    assert all("|" in line for line in wide)


def test_no_command_at_all_shows_the_help(project: Path):
    done = leanmq(folder=project)
    assert done.returncode == 64
    assert "Commands:" in done.stderr


def test_the_version_is_told_as_an_option_too(project: Path):
    done = leanmq("--version", folder=project)
    assert done.stdout.startswith("leanmq-topology ")


def run_on_terminal(words: Sequence[str], folder: Path, environ: dict[str, str]) -> str:
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*LEANMQ, *words], cwd=folder, env={**own_environ(), **environ},
        stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 4096):
            written += part
    except OSError:
        pass  # Linux says so when the other end is closed
    finally:
        os.close(ours)
        process.wait(20)
    return written.decode()

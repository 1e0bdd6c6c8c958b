"""Every bad file of the catalogue, with the words it is refused by."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leanmq_topology.diagnostics import explain_code
from leanmq_topology.topology.loading import check_topology
from tests.unit.document.files import HEADER, find_mistakes, place, write

Place = tuple[str, int, int] | tuple[str]

_QUEUE = HEADER + "queues:\n  billing:\n    accepts: []\n"
_BOMB = "a: &a0 [x]\n" + "".join(f"b{n}: &a{n} [{f'*a{n - 1}, ' * 10}]\n" for n in range(1, 8))
_CHAIN = "x-a0: &a0 [x]\n" + "".join(f"x-a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200))

CASES: dict[str, tuple[str | bytes, list[tuple[Place, str]]]] = {
    "empty file": ("", [(("LMQ201", 1, 1), "expected a mapping at the top level, but the file is empty")]),
    "only comments": ("# nothing\n", [(("LMQ201", 1, 1), "but the file is empty")]),
    "null": ("~\n", [(("LMQ201", 1, 1), "but the file is empty")]),
    "a list": ("- a\n- b\n", [(("LMQ201", 1, 1), "but the file holds a list")]),
    "a scalar": ("\nhello\n", [(("LMQ201", 2, 1), "but the file holds a single value")]),
    "two documents": (HEADER + "---\nleanmq: 1\n", [(("LMQ106", 3, 1), "a file holds one")]),
    "latin-1": (HEADER.encode() + b"x-a: caf\xe9\n", [(("LMQ104", 3, 9), "0xe9 at byte offset 29")]),
    "cut off in a letter": ("x-a: \U0001f600".encode()[:-1], [(("LMQ104", 1, 6), "byte offset 5")]),
    "UTF-16": (HEADER.encode("utf-16"), [(("LMQ104", 1, 1), "the file is UTF-16, not UTF-8")]),
    "UTF-32": (HEADER.encode("utf-32"), [(("LMQ104", 1, 1), "the file is UTF-32")]),
    "NUL byte": (HEADER + "x-é: a\0b\n", [(("LMQ104", 3, 7), "U+0000 at byte offset 28")]),
    "escape character": (HEADER + "x-a: \x1b[31m\n", [(("LMQ104", 3, 6), "U+001B")]),
    "the first of two": (HEADER + "x-a: \uffff\x1b[31m\n", [(("LMQ104", 3, 6), "U+FFFF at byte offset 26")]),
    "tab indentation": (HEADER + "queues:\n\tbilling: {}\n", [(("LMQ105", 4, 1), "a tab cannot indent")]),
    "unclosed quote": (HEADER + "x-a: 'b\nx-c: d\n", [(("LMQ105", 3, 6), "this quote is never closed")]),
    "unclosed bracket": (HEADER + "x-a: [b,\nx-c: d\n", [(("LMQ105", 3, 6), "this [ is never closed")]),
    "two colons": (HEADER + "x-a: b: c\n", [(("LMQ105", 3, 7), "a colon is not expected here")]),
    "line without a colon": (HEADER + "queues\n", [(("LMQ105", 3, 1), "not a `key: value`")]),
    "odd indentation": (
        HEADER + "queues:\n  a: {}\n b: {}\n",
        [(("LMQ105", 5, 2), "the indentation of this line fits no line above")],
    ),
    "at sign": (HEADER + "x-a: @b\n", [(("LMQ105", 3, 6), "a value cannot start with '@'")]),
    "duplicate key": (
        HEADER + "queues:\n  a: {}\n  b: {}\n  a: {ttl: 1d}\n",
        [(("LMQ107", 6, 3), "'a' is written twice; first in line 4")],
    ),
    "python tag": (
        HEADER + "x-a: !!python/object:os.system {}\n",
        [(("LMQ108", 3, 6), "tags are not allowed (!!python/object:os.system)")],
    ),
    "own tags": (
        HEADER + "x-a: !Ref b\nx-c: [!!str 1]\n",
        [(("LMQ108", 3, 6), "(!Ref)"), (("LMQ108", 4, 7), "(!!str)")],
    ),
    "alias bomb": (_BOMB, [(("LMQ111", 6, 15), "aliases expand to more than 50,000 values")]),
    "alias chain deeper than the limit": (_CHAIN, [(("LMQ111", 32, 14), "nested more than 32 deep")]),
    "recursive alias": ("a: &a [*a]\n", [(("LMQ110", 1, 8), "*a stands inside the value it names")]),
    "recursive through two": ("a: &a {b: [*a]}\n", [(("LMQ110", 1, 12), "inside the value it names")]),
    "unknown alias": ("a: *b\n", [(("LMQ110", 1, 4), "no anchor named &b stands above")]),
    "merge key": (
        HEADER + "x-a: &a {ttl: 1d}\nqueues:\n  b:\n    <<: *a\n",
        [(("LMQ109", 6, 5), "merge keys (<<) are not allowed")],
    ),
    "nesting of 1,000": ("[" * 1000 + "]" * 1000, [(("LMQ111", 1, 33), "nested more than 32 deep")]),
    "nesting by indentation": (
        "".join(" " * n + "a:\n" for n in range(1000)),
        [(("LMQ111", 33, 33), "nested more than 32 deep")],
    ),
    "nesting in keys": ("? " * 5000 + "a", [(("LMQ111", 1, 65), "nested more than 32 deep")]),
    "number as a key": (HEADER + "x-a: {1: b}\n", [(("LMQ112", 3, 7), "and this is a number")]),
    "true as a key": (HEADER + "x-a: {true: b}\n", [(("LMQ112", 3, 7), "and this is true or false")]),
    "null as a key": (HEADER + "x-a: {~: b}\n", [(("LMQ112", 3, 7), "and this is empty")]),
    "list as a key": (HEADER + "x-a:\n  ? [a]\n  : b\n", [(("LMQ112", 4, 5), "a list or a mapping")]),
    "infinity as a key": (HEADER + "x-a: {.inf: b}\n", [(("LMQ112", 3, 7), "and this is a number")]),
    "unknown field": (
        _QUEUE + "    max_attempt: 3\n",
        [(("LMQ203", 6, 5), "unknown key 'max_attempt' in queues.billing")],
    ),
    "integer of 5,000 digits": (
        _QUEUE + f"    max_length: {'9' * 5000}\n",
        [(("LMQ113", 6, 17), "an integer of 5,000 digits is out of range")],
    ),
    "2^63": (_QUEUE + f"    max_length: {2**63}\n", [(("LMQ113", 6, 17), "from -2^63 to 2^63-1")]),
    "long hexadecimal": (_QUEUE + f"    max_length: 0x{'f' * 99}\n", [(("LMQ113", 6, 17), "-2^63")]),
    "minus one": (_QUEUE + "    max_length: -1\n", [(("LMQ207", 6, 17), "must be 1 or more, not -1")]),
    "1e400": (_QUEUE + "    max_length: 1e400\n", [(("LMQ113", 6, 17), "at most about 1.8e308")]),
    "number as a string": (
        _QUEUE + "    max_length: '1e3'\n",
        [(("LMQ205", 6, 17), "max_length must be a whole number, not a string")],
    ),
    "nan": (_QUEUE + "    max_length: .nan\n", [(("LMQ113", 6, 17), ".nan is not a finite number")]),
    "inf": (_QUEUE + "    ttl: -.inf\n", [(("LMQ113", 6, 10), "-.inf is not a finite number")]),
    "duration without a unit": (
        _QUEUE + "    ttl: 10\n",
        [(("LMQ205", 6, 10), "ttl must be a duration such as 30s or 7d, or none, not a number")],
    ),
    "no version": ("name: shop\n", [(("LMQ202", 1, 1), "the version of the format is missing")]),
    "future version": (
        "leanmq: 2\nname: 3\nnew_things: {}\n",
        [(("LMQ202", 1, 9), "format 2 is unknown; this LeanMQ reads format 1")],
    ),
    "version as a string": ("leanmq: '1'\nname: a\n", [(("LMQ202", 1, 9), "must be the number 1")]),
    "version true": ("leanmq: true\nname: a\n", [(("LMQ202", 1, 9), "must be the number 1")]),
    "unset variables": (
        HEADER + "x-a: ${GONE}\nbroker: {url: '${A}${B}', namespace: '${A}'}\n",
        [
            (("LMQ114", 4, 15), "the variable A is not set (used in 2 places)"),
            (("LMQ114", 4, 15), "B is not"),
        ],
    ),
    "required variable": (
        HEADER + "broker: {url: '${A:?where the server is}'}\n",
        [(("LMQ114", 3, 15), "the variable A is not set: where the server is")],
    ),
    "unquoted variable in braces": (
        HEADER + "broker: {url: ${A}}\n",
        [(("LMQ105", 3, 15), "a variable inside { } or [ ] needs quotes")],
    ),
    "unclosed variable": (
        HEADER + "broker: {url: '${A'}\n",
        [(("LMQ115", 3, 15), "this ${ is never closed")],
    ),
    "unnamed variable": (HEADER + "broker: {url: '${}'}\n", [(("LMQ115", 3, 15), "name must follow ${")]),
    "default without a colon": (
        HEADER + "broker: {url: '${A-b}'}\n",
        [(("LMQ115", 3, 15), "a default starts with :-")],
    ),
    "deep variables": (
        HEADER + f"broker: {{url: '{'${A:-' * 5000}'}}\n",
        [(("LMQ115", 3, 15), "variables are nested more than 10 deep")],
    ),
    "include upwards": (HEADER + "include: [../a.yaml]\n", [(("LMQ117", 3, 11), "it leads out of")]),
    "include absolute": (HEADER + "include: [/etc/passwd]\n", [(("LMQ117", 3, 11), "is absolute")]),
    "include a URL": (HEADER + "include: ['https://x.org/a.yaml']\n", [(("LMQ117", 3, 11), "is a URL")]),
    "include nothing": (HEADER + "include: [gone.yaml]\n", [(("LMQ101", 3, 11), "there is no file")]),
    "include itself": (HEADER + "include: [topology.yaml]\n", [(("LMQ118", 3, 11), "include each other")]),
    "include a string": (HEADER + "include: a.yaml\n", [(("LMQ205", 3, 10), "include must be a list")]),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES.keys())
def test_bad_file_is_refused_with_its_place_and_words(
    text: str | bytes, expected: list[tuple[Place, str]], tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    started = time.process_time()
    found = find_mistakes(path)
    assert time.process_time() - started < 1
    assert [place(item) for item in found] == [where for where, _ in expected]
    for item, (_, words) in zip(found, expected, strict=True):
        assert words in item.message
        assert explain_code(item.code)
        assert item.span is None or item.span.file == str(path)


@pytest.mark.parametrize(
    ("value", "column", "words"),
    [
        ("10 minutes", 10, "write 10m"),
        ("1h30", 10, "write 1h30m"),
        ("-5s", 10, "is negative"),
        ("0s", 10, "1s to"),
        ("4000d", 10, "1s to"),
        ("1:30", 10, "write 1m30s"),
        ("010", 10, "must be a duration"),
    ],
)
def test_bad_duration_is_refused_at_its_value(value: str, column: int, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, _QUEUE + f"    ttl: {value}\n")
    topology, found = check_topology([path], environ={})
    wrong = [item for item in found if item.is_error and item.address == "queues.billing.ttl"]
    assert topology is None
    assert [(item.span and (item.span.line, item.span.column)) for item in wrong] == [(6, column)]
    assert words in f"{wrong[0].message} {wrong[0].suggestion}"


def test_missing_file_is_named(tmp_path: Path) -> None:
    (found,) = find_mistakes(tmp_path / "gone.yaml")
    assert found.code == "LMQ101"
    assert "gone.yaml" in found.message


def test_folder_is_no_file(tmp_path: Path) -> None:
    (found,) = find_mistakes(tmp_path)
    assert (found.code, found.message) == ("LMQ102", f"{tmp_path} is a folder, not a file")


def test_file_below_a_file_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER)
    assert [item.code for item in find_mistakes(path / "more.yaml")] == ["LMQ101"]


def test_path_with_a_nul_or_of_a_mile_is_unreadable() -> None:
    assert [item.code for item in find_mistakes(Path("a\0b"))] == ["LMQ102"]
    assert [item.code for item in find_mistakes(Path("a" * 5000))] == ["LMQ102"]


def test_pipe_is_refused_without_opening_it(tmp_path: Path) -> None:
    pipe = tmp_path / "topology.yaml"
    os.mkfifo(pipe)
    (found,) = find_mistakes(pipe)  # opening it would wait for a writer for ever
    assert (found.code, found.message) == ("LMQ102", f"{pipe} is a named pipe, not a file")


def test_device_is_refused_without_opening_it() -> None:
    (found,) = find_mistakes(Path("/dev/zero"))
    assert (found.code, found.message) == ("LMQ102", "/dev/zero is a device, not a file")


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, HEADER)
    # Permission bits do not stop root, as whom tests may run.
    monkeypatch.setattr(os, "access", lambda *_: False)
    (found,) = find_mistakes(path)
    assert (found.code, found.message) == ("LMQ102", f"{path} cannot be read: permission denied")


def test_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    with path.open("wb") as opened:
        opened.truncate(16 * 1024 * 1024 + 1)
    (found,) = find_mistakes(path)
    assert (found.code, found.message) == (
        "LMQ103",
        f"{path} has 16,777,217 bytes; a file may have at most 16 MiB",
    )


def test_file_with_a_million_values_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a: [" + "1," * 1_000_001 + "]")
    assert [item.code for item in find_mistakes(path)] == ["LMQ111"]


def test_include_out_through_a_link_is_refused(tmp_path: Path) -> None:
    outside = write(tmp_path, "queues: {}\n", "outside.yaml")
    path = write(tmp_path, HEADER + "include: [link.yaml]\n", "inside/topology.yaml")
    (tmp_path / "inside" / "link.yaml").symlink_to(outside)
    (found,) = find_mistakes(path)
    assert place(found) == ("LMQ117", 3, 11)
    assert "a link in it leads out of the topology's folder" in found.message


def test_include_cycle_is_printed(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "include: [b.yaml]\n", "a.yaml")
    write(tmp_path, "include: [c/c.yaml]\n", "b.yaml")
    write(tmp_path, "include: [../a.yaml]\n", "c/c.yaml")
    (found,) = find_mistakes(path)
    assert found.code == "LMQ118"
    steps = found.message.removeprefix("files include each other: ").split(" -> ")
    assert [Path(step).name for step in steps] == ["a.yaml", "b.yaml", "c.yaml", "a.yaml"]


def test_ten_mistakes_are_reported_at_once_in_file_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
        leanmq: 1
        nam: shop
        broker: {url: "${GONE}"}
        queues:
          billing:
            ttl: 10
            ttl: 1d
            overflow: rejct
            lifecycle: {prevent_delete: yes}
            max_length: .inf
            2: x
        handlers:
          charge: {queue: billing, concurrency: 0}
        """,
    )
    assert [place(item) for item in find_mistakes(path)] == [
        ("LMQ204", 1, 1),
        ("LMQ203", 2, 1),
        ("LMQ114", 3, 15),
        ("LMQ205", 6, 10),
        ("LMQ107", 7, 5),
        ("LMQ206", 8, 15),
        ("LMQ205", 9, 33),
        ("LMQ113", 10, 17),
        ("LMQ112", 11, 5),
        ("LMQ204", 13, 3),
        ("LMQ207", 13, 41),
    ]


_HOSTILE = {
    "brackets": "[" * 100_000,
    "braces": "{a: " * 100_000,
    "closed brackets": "[" * 100_000 + "]" * 100_000,
    "dashes": "- " * 100_000 + "a",
    "question marks": "? " * 100_000 + "a",
    "indentation": "".join(" " * n + "a:\n" for n in range(5000)),
    "alias bomb": _BOMB,
    "anchors": "".join(f"&a{n} " for n in range(100_000)),
    "aliases": "a: &a x\nb: [" + "*a, " * 100_000 + "]\n",
    "flow keys": "{" * 100_000 + "a" + "}: 1" * 100_000,
    "variables": HEADER + "broker: {url: '" + "${A:-" * 100_000 + "'}\n",
    "colons": ":" * 100_000,
}


@pytest.mark.parametrize("text", _HOSTILE.values(), ids=_HOSTILE.keys())
def test_process_outlives_hostile_files(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    program = (
        "import sys; from leanmq_topology.topology.loading import check_topology; "
        "topology, found = check_topology([sys.argv[1]], environ={}); "
        "assert topology is None; print(*[item.code for item in found if item.is_error])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()

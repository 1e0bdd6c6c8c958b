"""Runs the fault tests and makes a table of what they measured: `python -m tests.faults.report`.

`--long` runs the long versions too (20 to 30 minutes on two cores); `--write` puts the table into
`docs/reliability.md`. The exit code is that of the tests.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.catalogue import FAULTS, FIGURES_VARIABLE, Measured, describe

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
BEGIN: Final = "<!-- figures: python -m tests.faults.report -->\n"
END: Final = "<!-- end of figures -->\n"


def run_tests(long: bool, words: Sequence[str]) -> tuple[int, list[Measured]]:
    """Exit code of pytest, and what the tests measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.jsonl"
        marks = ["-m", "soak or not soak"] if long else []
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                "2",
                "--dist",
                "worksteal",
                *marks,
                *words,
                "tests/faults",
            ],
            cwd=ROOT,
            env={**os.environ, FIGURES_VARIABLE: str(path)},
            check=False,
        )
        lines = path.read_bytes().splitlines() if path.exists() else []
    return ran.returncode, [msgspec.json.decode(line, type=Measured) for line in lines]


def render(measured: Iterable[Measured], day: str) -> str:
    """A row for each fault, all its runs together."""
    by_fault: defaultdict[str, list[Measured]] = defaultdict(list)
    for one in measured:
        by_fault[one.fault].append(one)
    rows = [
        "| | what is done | asked | measured | tests |",
        "|---|---|---|---|---|",
        *(render_row(fault, by_fault[fault]) for fault in FAULTS if fault in by_fault),
    ]
    return f"Measured on {day}.\n\n" + "\n".join(rows) + "\n"


def render_row(fault: str, measured: Sequence[Measured]) -> str:
    names = dict.fromkeys(name for one in measured for name in one.numbers)
    runs = "1 run" if len(measured) == 1 else f"{len(measured)} runs"
    figures = "; ".join(
        describe(name, [one.numbers[name] for one in measured if name in one.numbers]) for name in names
    )
    files = ", ".join(sorted({Path(one.test.partition("::")[0]).name for one in measured}))
    entry = FAULTS[fault]
    return f"| {fault} | {entry.done} | {entry.asked} | {runs}: {figures} | {files} |"


def write(table: str) -> None:
    """Put the table where the last one stands."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--long", action="store_true")
    options.add_argument("--write", action="store_true")
    chosen, words = options.parse_known_args()
    code, measured = run_tests(chosen.long, words)
    table = render(measured, datetime.datetime.now(datetime.UTC).date().isoformat())
    print(table)
    if chosen.write and code == 0:
        write(table)
    return code


if __name__ == "__main__":
    sys.exit(main())

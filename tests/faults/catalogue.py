"""The faults by number: what is done to the system, and the figure that is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

FIGURES_VARIABLE: Final = "FAULT_FIGURES"
"""A file to which every test appends what it measured, one JSON object a line."""


@dataclass(frozen=True, slots=True)
class Entry:
    done: str
    asked: str


FAULTS: Final[dict[str, Entry]] = {
    "F1": Entry("workers get SIGKILL, one a second", "lost 0; each run again within lease + scan"),
    "F2": Entry("worker dies between the read and the handler", "lost 0; run again within lease + scan"),
    "F3": Entry(
        "worker dies after the work, before the acknowledgement", "exactly one more run, redelivered"
    ),
    "F4": Entry(
        "worker and server get SIGKILL together while the acknowledgement's script runs, or right after it",
        "all of it happened or nothing; lost 0",
    ),
    "F5": Entry(
        "worker gets SIGSTOP for three leases, then SIGCONT", "taken over; its late settlements harmless"
    ),
    "F6": Entry("handler blocks the event loop for two leases", "its lease is kept; a warning names it"),
    "F7": Entry("handler holds Python's lock for two leases", "lost 0; reported (it may run twice)"),
    "F8": Entry("handler never ends", "`timeout` ends it; retried, then dead-lettered"),
    "F9": Entry(
        "a handler ends its process: os._exit, SIGSEGV, SIGKILL, no memory left",
        "dead-lettered as `crashed` after max_crashes runs alone; nothing else is",
    ),
    "F10": Entry(
        "worker gets SIGTERM with its prefetch full", "unstarted ones elsewhere within 1 s, uncounted; exit 0"
    ),
    "F11": Entry("worker gets SIGTERM, then SIGKILL while it drains", "lost 0"),
    "F61": Entry(
        "a handler leaves a thread behind that never ends", "the process is gone soon after its drain"
    ),
    "F66": Entry(
        "no descriptors, memory or room for output in a worker; a full disk under the embedded broker",
        "it ends or recovers; its messages are run, none is lost; the broker stays until it has written all",
    ),
    "F67": Entry("a handler forks, and the copy comes back from it", "the worker goes on; no second worker"),
    "F12": Entry(
        "an await of the client is cancelled at every step of the loop", "no wrong answer, nothing left open"
    ),
    "F13": Entry("server gets SIGKILL every few seconds under load", "lost 0; workers resume within 2 s"),
    "F14": Entry(
        "power failure: of each file only what was synced is left",
        "`disk`: lost 0; `memory`: what was sent in the last 2 s at most",
    ),
    "F15": Entry("the append-only file ends at every byte of a script's last write", "all or nothing"),
    "F16": Entry(
        "a byte in the middle of the append-only file is wrong", "the server refuses to start, and says why"
    ),
    "F17": Entry("SIGKILL while the append-only file is rewritten", "lost 0; leases and positions kept"),
    "F18": Entry(
        "SIGKILL of a server that only takes snapshots", "what came after the last one is lost, nothing else"
    ),
    "F25": Entry("SCRIPT FLUSH every 100 ms", "invisible"),
    "F26": Entry("the answer is lost after the server did it", "each operation happened once"),
    "F27": Entry("the request is lost before the server saw it", "sent again, happened once"),
    "F28": Entry("the connection goes silent both ways", "noticed within block + 5 s"),
    "F29": Entry("every way takes 200 ms, 10 KiB a second", "leases are kept; no storm of retries"),
    "F30": Entry("answers come byte by byte", "understood"),
    "F31": Entry("CLIENT KILL TYPE normal every 0.5 s", "lost 0; nothing left open"),
    "F32": Entry("CLIENT PAUSE for two leases", "lost 0"),
    "F33": Entry("somebody's script holds the server", "lost 0"),
    "F34": Entry("server gets SIGSTOP for three leases", "lost 0"),
    "F35": Entry(
        "maxmemory is reached", "sends fail with BrokerFullError, workers drain, all recovers unaided"
    ),
    "F36": Entry(
        "the server is told to evict while workers run", "noticed within 30 s; `status` and `doctor` tell it"
    ),
    "F37": Entry(
        "an answer is larger than the server lets a client fall behind", "connected anew; all run, once each"
    ),
    "F38": Entry("maxclients is reached", "a typed error for newcomers; others go on"),
    "F39": Entry(
        "the disk is full: the append-only file cannot grow",
        "said so by workers and `doctor`; all goes on by itself, or once the server is started again; lost 0",
    ),
    "F40": Entry("the server's clock jumps an hour, back and forth", "lost 0; found within one scan"),
    "F41": Entry("a worker's clock is wrong by a day", "no effect on lifetimes and delays"),
    "F42": Entry("FLUSHALL", "noticed within 10 s, at most a line a second, work goes on after apply"),
    "F43": Entry(
        "one key of each kind is deleted under a worker",
        "told by name; others unharmed; none made again in silence",
    ),
    "F44": Entry("XGROUP DESTROY under load", "made again at the start; lost 0"),
    "F45": Entry("XGROUP DELCONSUMER of a worker that holds messages", "found within 60 s; lost 0"),
    "F46": Entry("somebody deletes messages that are in flight", "nothing crashes, the rest is run"),
    "F47": Entry("a key is replaced by one of another type", "a typed error before anything is written"),
    "F48": Entry("many workers claim the same lapsed message", "one gets it"),
    "F49": Entry("one lapsed lease among 5,000 living ones", "found within one sweep"),
    "F50": Entry("workers start and stop again and again", "no consumer is left"),
    "F51": Entry(
        "dead-lettering is cut at every byte, or the server is full", "in one place, never in none or both"
    ),
    "F52": Entry(
        "many delayed messages are due at once after a restart", "none early; late by at most tick x batches"
    ),
    "F53": Entry("fan-out with a full queue", "all or none"),
    "F55": Entry(
        "of 100 clients that ask once and close, 20 get SIGKILL, ten while they wait and ten once answered",
        "late replies dropped and counted; no inbox after its lifetime",
    ),
    "F60": Entry(
        "hot reload under 200 messages a second, by every kind of edit, good and bad (F62 among them)",
        "lost 0; run twice 0; new code within 1 s (p95); no gap over 0.3 s",
    ),
}


Number = int | float | str | list[float]
"""What a test measures: a count, seconds, a word, or many times."""


class Measured(msgspec.Struct):
    """What one test measured of one fault."""

    fault: str
    test: str
    numbers: dict[str, Number]


class Figures:
    """What one test measured."""

    def __init__(self, test: str) -> None:
        self._test = test

    def report(self, fault: str, **numbers: Number) -> None:
        """Say it on the output, and in the file of the report if one is being made."""
        assert fault in FAULTS, fault
        print(f"{fault}: {', '.join(describe(name, [value]) for name, value in numbers.items())}")
        path = os.environ.get(FIGURES_VARIABLE)
        if path:
            line = msgspec.json.encode(Measured(fault, self._test, numbers)) + b"\n"
            with Path(path).open("ab") as file:
                file.write(line)


def describe(name: str, values: Sequence[Number]) -> str:
    """One figure of one or several runs: counts add up, times are pooled, words are listed."""
    title = name.removesuffix("_s").replace("_", " ")
    if all(isinstance(value, int) for value in values):
        return f"{title} {sum(values):,}"  # type: ignore[arg-type]
    if all(isinstance(value, str) for value in values):
        return f"{title} {'/'.join(dict.fromkeys(map(str, values)))}"
    times = [time for value in values for time in (value if isinstance(value, list) else [value])]
    return f"{title} {describe_times([float(time) for time in times])}"


def describe_times(times: Sequence[float]) -> str:
    """p50, p99 and the largest, in seconds."""
    if not times:
        return "-"
    ordered = sorted(times)
    if len(ordered) < 4:
        return f"{ordered[-1]:.2f} s"
    p50, p99 = (ordered[int((len(ordered) - 1) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"

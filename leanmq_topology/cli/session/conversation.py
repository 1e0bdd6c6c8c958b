"""One line after another: finds the command, carries it out, says what went wrong, and goes on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from leanmq_topology.cli.session.listening import Listening
from leanmq_topology.cli.session.publishing import MOST_TEST_MESSAGES, TEST_MESSAGES, Publishing
from leanmq_topology.cli.session.verbs import DELEGATED, READ_ONLY_DLQ, Verb
from leanmq_topology.client.channels.names import check_channel
from leanmq_topology.contracts.payload import decode_data
from leanmq_topology.diagnostics import did_you_mean
from leanmq_topology.errors import LeanMQError, SettingError
from leanmq_topology.messages.broadcast import Broadcast, ChannelMessage
from leanmq_topology.topology.values import parse_duration

if TYPE_CHECKING:
    from leanmq_topology.client import SyncClient
    from leanmq_topology.topology.model import Topology

Say = Callable[[str], None]
Delegate = Callable[[Sequence[str]], int]
"""Carries a command line of `leanmq` out on the same topology; returns its exit code."""


class Conversation:
    """`say` prints an answer, `complain` an error; both may be called from other threads."""

    def __init__(
        self,
        client: SyncClient,
        topology: Topology,
        verbs: dict[str, Verb],
        delegate: Delegate,
        say: Say,
        complain: Say,
        *,
        writes: bool,
    ) -> None:
        self.verbs, self._writes = verbs, writes
        self._delegate, self._say, self._complain = delegate, say, complain
        self._listening = Listening(client, say)
        self._publishing = Publishing(client, topology, say)
        self.failed = 0
        """Commands that did not do what they were to."""

    def obey(self, line: str) -> bool:
        """Carry one line out; False: the session is over."""
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            return True
        if word in {"exit", "quit"}:
            return False
        try:
            self._carry_out(word, rest.strip())
        except click.ClickException as failure:
            self._fail(failure.format_message())
        except LeanMQError as failure:
            self._fail(failure.message + (f"\n  {failure.hint}" if failure.hint else ""))
        return True

    def end(self) -> None:
        self._publishing.stop()
        self._listening.stop()

    def _fail(self, text: str) -> None:
        self.failed += 1
        self._complain(f"error: {text}")

    def _carry_out(self, word: str, rest: str) -> None:
        verb = self.verbs.get(word)
        if verb is None:
            near = did_you_mean(word, self.verbs)
            raise click.UsageError(f"there is no command {word!r}; {near or '`help` lists them'}")
        if verb.name in DELEGATED:
            self._delegate_to(verb, rest)
            return
        self._check_writes(verb)
        getattr(self, f"_do_{verb.name}")(verb, rest)

    def _check_writes(self, verb: Verb) -> None:
        if verb.writes and not self._writes:
            raise SettingError(
                verb.name, "changes what is on the server, and this session only looks", hint="use --write"
            )

    def _delegate_to(self, verb: Verb, rest: str) -> None:
        words = _split(rest)
        if verb.name == "dlq" and words and words[0] not in READ_ONLY_DLQ:
            self._check_writes(Verb("dlq " + words[0], "", "", frozenset(), writes=True))
        self._check_writes(verb)
        if self._delegate([verb.name, *words]) != 0:
            self.failed += 1

    # -- channels ---------------------------------------------------------------------------------------

    def _do_pub(self, verb: Verb, rest: str) -> None:
        channel, data = _read_channel_and_data(verb, rest)
        self._publishing.publish(channel, data)

    def _do_batch(self, verb: Verb, rest: str) -> None:
        words = rest.split()
        if len(words) > 2:
            raise _usage(verb)
        count = _read_count(words[1], MOST_TEST_MESSAGES) if len(words) == 2 else TEST_MESSAGES
        self._publishing.publish_examples(words[0] if words else None, count)

    def _do_periodic(self, verb: Verb, rest: str) -> None:
        words = rest.split(maxsplit=3)
        if len(words) < 3:
            raise _usage(verb)
        seconds = _read_seconds(words[1])
        data = decode_data(words[3].encode()) if len(words) == 4 else None
        self._publishing.repeat(words[0], seconds, _read_count(words[2], 1_000_000), data)

    def _do_sub(self, verb: Verb, rest: str) -> None:
        names = rest.split()
        if not names:
            raise _usage(verb)
        self._listening.add(names)
        self._say(f"listening to {', '.join(self._listening.channels)}")

    def _do_unsub(self, verb: Verb, rest: str) -> None:
        names = rest.split()
        if not names:
            raise _usage(verb)
        unknown = self._listening.remove(names)
        if unknown:
            raise SettingError("unsub", f"not listening to {', '.join(unknown)}")
        self._say(f"listening to {', '.join(self._listening.channels) or 'nothing'}")

    def _do_listen(self, verb: Verb, rest: str) -> None:
        if not self._listening.channels:
            raise SettingError("listen", "no channel yet", hint="sub CHANNEL")
        self._listening.begin()

    def _do_stop(self, verb: Verb, rest: str) -> None:
        self._publishing.stop()
        self._listening.stop()

    def _do_inject(self, verb: Verb, rest: str) -> None:
        channel, data = _read_channel_and_data(verb, rest)
        broadcast = Broadcast("injected", _raw(data))
        self._listening.inject(ChannelMessage.heard(broadcast, data, check_channel(channel), None))

    # -- the session itself -----------------------------------------------------------------------------

    def _do_stats(self, verb: Verb, rest: str) -> None:
        lines = self._listening.summary()
        if "pub" in self.verbs:
            lines = [*self._publishing.summary(), *lines]
        self._say("\n".join(lines) or "nothing yet")

    def _do_help(self, verb: Verb, rest: str) -> None:
        width = max(len(one.usage) for one in self.verbs.values())
        lines = [f"{one.usage:<{width}}  {one.help}" for one in self.verbs.values()]
        if not self._writes and any(one.writes for one in self.verbs.values()):
            lines.append("What changes the server needs --write.")
        self._say("\n".join(lines))


def _read_channel_and_data(verb: Verb, rest: str) -> tuple[str, Any]:
    channel, _, text = rest.partition(" ")
    if not channel or not text.strip():
        raise _usage(verb)
    return channel, decode_data(text.strip().encode(errors="surrogateescape"))


def _raw(data: Any) -> Any:
    import msgspec

    from leanmq_topology.contracts.payload import encode_data

    return msgspec.Raw(encode_data(data))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as failure:
        raise click.UsageError(f"cannot be read: {failure}") from None


def _read_count(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise click.UsageError(f"{text!r} is no number from 1 to {most:,}")
    return int(text)


def _read_seconds(text: str) -> float:
    """`500ms`, `2s`; a bare number is seconds."""
    try:
        return (
            max(float(text), 0.001) if text.replace(".", "", 1).isdecimal() else parse_duration(text) / 1000
        )
    except ValueError as failure:
        raise click.UsageError(str(failure)) from None


def _usage(verb: Verb) -> click.UsageError:
    return click.UsageError(f"write: {verb.usage}")

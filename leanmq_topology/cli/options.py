"""The options every command takes, and what they come to together with the environment."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from leanmq_topology.cli.output import Output, wants_color
from leanmq_topology.errors import SettingError
from leanmq_topology.garbage import paused_collection
from leanmq_topology.settings import Settings, find_topology_file, read_environ
from leanmq_topology.topology.model import Topology


class Invocation(Struct, frozen=True):
    """One call of a command: what it was told, and where it writes."""

    settings: Settings
    output: Output

    def topology_files(self) -> tuple[Path, ...]:
        """The files named, else the one found; raises `SettingError` when there is none."""
        if self.settings.files:
            return self.settings.files
        here = read_working_directory()
        found = find_topology_file(here, self.settings.environ or {})
        return tuple(_shorten(path, here) for path in found)

    def with_file(self, file: Path | None) -> Invocation:
        """The same call with the file that was given as an argument; `-f` then overlays it."""
        if file is None:
            return self
        return replace(self, settings=replace(self.settings, files=(file, *self.settings.files)))

    def load_topology(self) -> Topology:
        with paused_collection():
            return Topology.load(
                *self.topology_files(), environment=self.settings.environment, environ=self.settings.environ
            )

    def broker_url(self, topology: Topology) -> str:
        """`--url`, then the file's, then `LEANMQ_URL`, then the embedded broker."""
        return self.settings.url or topology.broker.url or self.settings.fallback_url or "embedded:"


def read_working_directory() -> Path:
    """Raises `SettingError` where it was deleted under the command's feet."""
    try:
        return Path.cwd()
    except OSError as failure:
        raise SettingError("-f", "the working directory does not exist any more") from failure


def _shorten(path: Path, here: Path) -> Path:
    """Relative to the working directory where that is below: as one would type it, and as it is shown."""
    return path.relative_to(here) if path.is_relative_to(here) else path


def check_text(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """For an argument that goes to the server as it is: bytes that are no UTF-8 text name nothing there."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not UTF-8 text", context, parameter) from None
    return value


def _check_url(url: str | None) -> str | None:
    """An empty one is most likely a variable that is not set; falling back would reach another server."""
    if url is not None and not url.strip():
        raise SettingError("--url", "is empty", hint="leave it out to use the file's")
    return url


def _output_option(formats: tuple[str, ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """None for a command that knows one form only, because it is typed at a prompt."""
    if len(formats) == 1:
        return lambda command: command
    return click.option(
        "-o",
        "--output",
        "output_format",
        type=click.Choice(formats),
        default="text",
        show_default=True,
        help="Form of the answer on stdout.",
    )


def common_options(
    *, formats: tuple[str, ...] = ("text", "json")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`-f --env --url -o`; the command gets an `Invocation` as its first argument."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "-f",
            "--file",
            "files",
            multiple=True,
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Topology file; repeat to overlay. Default: topology.yaml here or above.",
        )
        @click.option("--env", "environment", metavar="NAME", help="Entry of `environments:` to use.")
        @click.option("--url", metavar="URL", help="Server; wins over the file and LEANMQ_URL.")
        @_output_option(formats)
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            files: tuple[Path, ...],
            environment: str | None,
            url: str | None,
            output_format: str = "text",
            **kwargs: Any,
        ) -> Any:
            environ = read_environ()
            settings = Settings(
                files=files,
                environment=environment,
                url=_check_url(url),
                fallback_url=environ.get("LEANMQ_URL") or None,
                output=output_format,
                environ=environ,
            )
            output = Output(format=output_format, color=wants_color(sys.stderr))
            return command(Invocation(settings, output), *args, **kwargs)

        return wrapped

    return decorate

"""Asking before something that cannot simply be taken back."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from leanmq_topology.cli.options import Invocation
from leanmq_topology.errors import BlockedChangeError


def ask_approval(call: Invocation, addresses: Sequence[str], deed: str) -> None:
    """Go on only if the person at the terminal agrees to this deed ("purge 12 messages").

    Raises `BlockedChangeError` for a no, and where nobody can be asked: without a terminal or with `-o json`.
    """
    if call.output.is_json or sys.stdin is None or not sys.stdin.isatty():
        raise BlockedChangeError(addresses, f"{deed}: needs approval", hint="say --yes to go ahead")
    if not click.confirm(f"{deed[:1].upper()}{deed[1:]}?", default=False, err=True):
        raise BlockedChangeError(addresses, f"{deed}: not approved")

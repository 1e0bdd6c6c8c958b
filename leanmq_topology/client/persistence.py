"""Carry an operation out in spite of breaks, for operations that may be repeated: flushes and reads."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

from leanmq_topology.brokers.protocol import AsyncConnection, BlockingConnection, Operation
from leanmq_topology.client.patience import PATIENT, Patience, mark_unknown, wait_before_resend
from leanmq_topology.errors import LeanMQError

T = TypeVar("T")


def persist(connection: BlockingConnection, operation: Operation[T], *, patience: Patience = PATIENT) -> T:
    """Carry it out until the server has answered, or patience ends."""
    return persist_noting(connection, operation, patience=patience)[0]


def persist_noting(
    connection: BlockingConnection, operation: Operation[T], *, patience: Patience = PATIENT
) -> tuple[T, bool]:
    """The answer, and whether an earlier try may have done it already, its own answer lost."""
    began = time.monotonic()
    try:
        return connection.execute(operation, patience.longest_s), False
    except LeanMQError as failure:
        return _persist_further(connection, operation, failure, began=began, patience=patience)


def _persist_further(
    connection: BlockingConnection,
    operation: Operation[T],
    failure: LeanMQError,
    *,
    began: float,
    patience: Patience,
) -> tuple[T, bool]:
    """Go on after a first try that began at `began` (monotonic seconds) and met this failure."""
    tries, unknown = 0, False
    while True:
        unknown = unknown or getattr(failure, "unknown", False)
        elapsed_s = time.monotonic() - began
        wait_s = wait_before_resend(
            failure, tries=tries, elapsed_s=elapsed_s, chance=random.random(), patience=patience
        )
        if wait_s is None:
            raise mark_unknown(failure, unknown) from None
        tries += 1
        time.sleep(wait_s)
        try:
            return connection.execute(operation, _left(patience, began)), unknown
        except LeanMQError as met:
            failure = met


def _left(patience: Patience, began: float) -> float | None:
    """Seconds that one more try may take, where patience has an end."""
    if patience.longest_s is None:
        return None
    return max(patience.longest_s - (time.monotonic() - began), 0.0)


async def persist_async(
    connection: AsyncConnection, operation: Operation[T], *, goes_on: Callable[[], bool] = lambda: True
) -> T:
    """What `persist` does, for asyncio; `goes_on` is asked before each further try."""
    return (await persist_noting_async(connection, operation, goes_on=goes_on))[0]


async def persist_noting_async(
    connection: AsyncConnection, operation: Operation[T], *, goes_on: Callable[[], bool] = lambda: True
) -> tuple[T, bool]:
    """What `persist_noting` does, for asyncio."""
    began = time.monotonic()
    try:
        return await connection.execute(operation), False
    except LeanMQError as failure:
        return await persist_further_async(connection, operation, failure, began=began, goes_on=goes_on)


async def persist_further_async(
    connection: AsyncConnection,
    operation: Operation[T],
    failure: LeanMQError,
    *,
    began: float,
    goes_on: Callable[[], bool] = lambda: True,
) -> tuple[T, bool]:
    """Go on after a first try that began at `began` (monotonic seconds) and met this failure."""
    tries, unknown = 0, False
    while True:
        unknown = unknown or getattr(failure, "unknown", False)
        elapsed_s = time.monotonic() - began
        wait_s = wait_before_resend(failure, tries=tries, elapsed_s=elapsed_s, chance=random.random())
        if wait_s is None or not goes_on():
            raise mark_unknown(failure, unknown) from None
        tries += 1
        await asyncio.sleep(wait_s)
        try:
            return await connection.execute(operation), unknown
        except LeanMQError as met:
            failure = met

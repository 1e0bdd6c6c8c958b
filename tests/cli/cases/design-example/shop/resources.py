"""What handlers are given by name."""

from contextlib import asynccontextmanager


@asynccontextmanager
async def open():  # noqa: A001  the name is part of the example
    yield {}

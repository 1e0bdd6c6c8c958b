"""The web process: it validates, stores and answers; it never does the work itself."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from leanmq_topology import BrokerUnavailableError, Client, InvalidMessageError, connect


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with connect(Path(__file__).with_name("topology.yaml")) as mq:
        app.state.mq = mq
        yield


app = FastAPI(lifespan=lifespan)


def get_queue(request: Request) -> Client:
    return request.app.state.mq


@app.post("/completions", status_code=202)
async def create_completion(job: dict[str, Any], mq: Annotated[Client, Depends(get_queue)]) -> dict[str, str]:
    task_id = str(uuid.uuid4())
    await mq.send("ai.completion", job, id=task_id, correlation_id=task_id)
    return {"task_id": task_id, "status": "queued"}


@app.exception_handler(InvalidMessageError)
async def refuse(request: Request, failure: InvalidMessageError) -> JSONResponse:
    return JSONResponse({"detail": [{"loc": failure.path, "msg": failure.reason}]}, status_code=422)


@app.exception_handler(BrokerUnavailableError)
async def apologize(request: Request, failure: BrokerUnavailableError) -> JSONResponse:
    return JSONResponse({"detail": "the queue cannot be reached"}, status_code=503)

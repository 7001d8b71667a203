"""A web server whose workers share an account: ``uvicorn web:app --workers 4``.

With gunicorn: ``gunicorn web:app --workers 4 --worker-class uvicorn_worker.UvicornWorker``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

import headway.httpx
from headway import DeadlineExceeded, Scheduler

SHARED = os.environ.get("HEADWAY_SHARED", "my-account")
ADDRESS = os.environ.get("TOGETHER_BASE_URL", "https://api.together.ai/v1")
MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One scheduler in each worker: made when it starts, in the event loop that it will use."""
    key = os.environ["TOGETHER_API_KEY"]
    async with (
        Scheduler("600/min", tokens="180k/min", concurrency=64, shared=SHARED) as scheduler,
        # Who waits for a page waits no longer than this, for its turn and for the answer.
        headway.httpx.client(
            scheduler.with_options(timeout=20),
            base_url=ADDRESS,
            headers={"authorization": f"Bearer {key}"},
        ) as client,
    ):
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/translate")
async def translate(text: str) -> dict[str, str]:
    """`text` in French; 503 where the account has no room for it in time."""
    messages = [{"role": "user", "content": f"Translate into French: {text}"}]
    try:
        reply = await app.state.client.post(
            "chat/completions", json={"model": MODEL, "messages": messages}
        )
    except DeadlineExceeded:
        raise HTTPException(503, "busy", headers={"retry-after": "20"}) from None
    reply.raise_for_status()
    return {"answer": reply.json()["choices"][0]["message"]["content"]}

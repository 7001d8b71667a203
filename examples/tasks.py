"""Tasks of Celery's whose workers share an account: ``celery -A tasks worker --concurrency 4``."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown

from headway import Limits
from headway.rows import Ask

app = Celery("tasks", broker=os.environ.get("BROKER", "redis://localhost:6379/0"))

# It is a description: the scheduler is made in each worker process, at its first task.
ask = Ask(
    prompt="Translate into French: {text}",
    model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    provider="together",
    limits=Limits("600/min", tokens="180k/min", concurrency=64),
    shared=os.environ.get("HEADWAY_SHARED", "my-account"),
)


@app.task(acks_late=True, reject_on_worker_lost=True)
def translate(texts: list[str]) -> list[dict[str, Any]]:
    """An answer, or an error, for each of `texts`: many in a task, for a task costs more than they
    do, and all of them are asked side by side.
    """
    done = ask.batch({"text": texts})
    return [
        {"answer": answer, "error": error}
        for answer, error in zip(done["answer"], done["answer_error"], strict=True)
    ]


@worker_process_shutdown.connect
def give_back(**_: object) -> None:
    """Let the others have at once what this process holds of the limits."""
    ask.close()

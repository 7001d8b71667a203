"""A script without async: ``python script.py "Why is the sky blue?" "And the sea?"``."""

import sys

from headway.sync import Scheduler
from headway.together import sync_client

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


def main(questions: list[str]) -> None:
    """Print each of `questions` with its answer, in their order, as soon as it is there."""
    with (
        Scheduler("600/min", tokens="180k/min", concurrency=32) as scheduler,
        sync_client(scheduler) as together,
    ):

        def ask(question: str) -> str:
            reply = together.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}]
            )
            message = reply.choices[0].message
            return (message and message.content) or ""

        for question, answer in zip(questions, scheduler.map(ask, questions), strict=True):
            print(question, answer, sep="\n    ")


if __name__ == "__main__":
    main(sys.argv[1:])

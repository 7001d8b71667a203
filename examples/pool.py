"""Processes of the standard library that share an account: ``python pool.py reviews.csv``."""

import csv
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from headway import Limits
from headway.rows import Ask

ask = Ask(
    prompt="Is this review positive or negative? One word.\n\n{review}",
    model="meta-llama/Llama-3.3-70B-Instruct-Turbo",
    provider="together",
    max_tokens=2,
    limits=Limits("600/min", tokens="180k/min", concurrency=64),
    shared=os.environ.get("HEADWAY_SHARED", "my-account"),
)


def classify(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """What each process does of its own around the calls: here, next to nothing."""
    done = ask.batch({"review": [row["review"] for row in rows]})
    return [
        {**row, "answer": answer or "", "error": error or ""}
        for row, answer, error in zip(rows, done["answer"], done["answer_error"], strict=True)
    ]


def main(path: str) -> None:
    """Write the rows of `path`, a CSV, with their answers to standard output."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # A fresh process, in place of a fork of one that may have threads.
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        writer = csv.DictWriter(sys.stdout, [*rows[0], "answer", "error"])
        writer.writeheader()
        for done in pool.map(classify, [rows[at : at + 20] for at in range(0, len(rows), 20)]):
            writer.writerows(done)


if __name__ == "__main__":
    main(sys.argv[1])

"""A CSV with a column `text` to one with answers: ``python table.py words.csv answers.csv``."""

import asyncio
import csv
import sys
from collections.abc import Iterable
from typing import Any

from headway import Scheduler
from headway.together import client

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


async def translate_all(rows: Iterable[dict[str, str]], table: Any) -> None:
    """Write each row when its answer is there, so that a file of any size will do."""
    async with Scheduler("600/min", concurrency=32) as scheduler, client(scheduler) as together:

        async def translate(row: dict[str, str]) -> str:
            question = f"Translate into French: {row['text']}"
            reply = await together.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": question}], max_tokens=50
            )
            message = reply.choices[0].message
            return (message and message.content) or ""

        async with scheduler.as_completed(translate, rows) as outcomes:
            async for each in outcomes:
                answer = "" if each.error else each.result
                table.writerow([each.item["text"], answer, each.error or ""])


if __name__ == "__main__":
    source, target = sys.argv[1:]
    with open(source, newline="") as rows, open(target, "w", newline="") as answers:
        table = csv.writer(answers)
        table.writerow(["text", "answer", "error"])
        asyncio.run(translate_all(csv.DictReader(rows), table))

"""An answer in the terminal as it is written: ``python stream.py "Why is the sky blue?"``."""

import asyncio
import sys

from headway import Scheduler
from headway.together import client

MODEL = "meta-llama/Llama-3.3-70B-Instruct-Turbo"


async def main(question: str) -> None:
    """A refusal before the answer begins is waited for; its slot is held until it ends."""
    async with Scheduler("600/min", concurrency=8) as scheduler, client(scheduler) as together:
        stream = await together.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": question}], stream=True
        )
        async with stream:  # left early, by Ctrl-C too, the slot is given back
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta:
                    print(end=chunk.choices[0].delta.content or "", flush=True)
        print()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

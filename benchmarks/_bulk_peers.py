"""What `headway run` is compared with: scripts that send a file of requests, each in few lines.

    python benchmarks/_bulk_peers.py bare|cookbook|infermesh SOURCE OUTPUT URL CONCURRENCY

The cookbook's is the algorithm of the openai-cookbook's ``api_request_parallel_processor.py``, not
the script itself: one request a turn of a main loop that sleeps for 1 ms, counters of capacity, a
task for each request, a file opened for each answer. Its limits are out of reach here, and it
counts no tokens by tiktoken. What each needs is imported where it is used: infermesh may be in
another interpreter, which has nothing else.
"""
# ruff: noqa: ASYNC230 - scripts, as people write them

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


async def bare(source: str, output: str, url: str, concurrency: int) -> None:
    """Workers, a client, a file: what is lost with the process, retried by nobody."""
    import httpx

    from headway._http.pool import Pool

    headers = {"content-type": "application/json"}
    pool = Pool(100, url)  # as many as `headway run` opens at most
    async with httpx.AsyncClient(transport=pool, timeout=600) as client:
        with open(source, "rb") as lines, open(output, "wb") as rows:

            async def work() -> None:
                for line in lines:
                    request = json.loads(line)
                    body = json.dumps(request["body"]).encode()
                    response = await client.post(
                        f"{url}/chat/completions", content=body, headers=headers
                    )
                    response.raise_for_status()
                    named = json.dumps(request["custom_id"]).encode()
                    rows.write(b'{"custom_id":%b,"response":%b}\n' % (named, response.content))

            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())


async def cookbook(source: str, output: str, url: str, concurrency: int) -> None:
    """One request a turn of the main loop, while the counters have room; retries go first."""
    import aiohttp

    a_minute = tokens_a_minute = 1e9
    room, token_room, updated = a_minute, tokens_a_minute, time.time()
    again: asyncio.Queue[Any] = asyncio.Queue()
    in_progress = 0
    following, file_left = None, True

    async def call(session: Any, request: Any, left: int) -> None:
        nonlocal in_progress
        try:
            async with session.post(f"{url}/chat/completions", json=request["body"]) as response:
                answer = await response.json()
            if "error" in answer:
                raise RuntimeError(answer["error"])
        except Exception:
            if left:
                again.put_nowait((request, left - 1))
                return
            answer = None
        with open(output, "a") as rows:  # as it does
            rows.write(json.dumps([request["body"], answer]) + "\n")
        in_progress -= 1

    with open(source) as lines:
        async with aiohttp.ClientSession() as session:
            while True:
                if following is None:
                    if not again.empty():
                        following = again.get_nowait()
                    elif file_left:
                        line = next(lines, None)
                        if line is None:
                            file_left = False
                        else:
                            following = (json.loads(line), 5)
                            in_progress += 1
                now = time.time()
                room = min(room + a_minute * (now - updated) / 60, a_minute)
                token_room = min(
                    token_room + tokens_a_minute * (now - updated) / 60, tokens_a_minute
                )
                updated = now
                if following is not None and room >= 1 and token_room >= 100:
                    room -= 1
                    token_room -= 100
                    asyncio.create_task(call(session, *following))  # noqa: RUF006 - as it does
                    following = None
                if in_progress == 0:
                    break
                await asyncio.sleep(0.001)


def infermesh(source: str, output: str, url: str, concurrency: int) -> None:
    """Its own batches, whose results are written as they come."""
    from infermesh import LMClient  # type: ignore[import-not-found]

    with open(source) as lines:
        prompts = [json.loads(line)["body"]["messages"][0]["content"] for line in lines]
    with (
        open(output, "w") as rows,
        LMClient(
            model="openai/m", api_base=url, api_key="none", max_parallel_requests=concurrency
        ) as client,
    ):

        def write(index: int, result: Any, error: BaseException | None) -> None:
            if error is not None:
                raise error
            rows.write(json.dumps({"custom_id": index, "response": result.output_text}) + "\n")

        client.generate_batch(prompts, on_result=write)


if __name__ == "__main__":
    role, source, output, url, concurrency = sys.argv[1:]
    if role == "infermesh":
        infermesh(source, output, url, int(concurrency))
    else:
        run = {"bare": bare, "cookbook": cookbook}[role]
        asyncio.run(run(source, output, url, int(concurrency)))

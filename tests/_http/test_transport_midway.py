"""An answer whose headers have come and whose body breaks off: who repeats it, and who does not."""

from __future__ import annotations

from typing import Any

import pytest
import sdks
from sites import LIBRARIES, Site, idle

from headway import Kind, Retry, Scheduler

pytestmark = pytest.mark.anyio


class Half:
    """A client of OpenAI's SDK, which repeats nothing itself; the first body breaks off midway."""

    def __init__(self, site: Site, **options: Any) -> None:
        self.site = site
        self.scheduler = Scheduler("100/s", concurrency=1, retry=Retry(base=0.01))
        gone = site.library.RemoteProtocolError("peer closed connection")
        site.answers = [site.body(1, error=gone, data=b'{"id": "an')]
        site.answers.append((200, {"content-type": "application/json"}, b'{"id": "answer"}'))
        self.http = site.client(self.scheduler, **options)
        self.openai = sdks.openai.AsyncOpenAI(http_client=self.http, api_key="k", max_retries=0)

    async def ask(self) -> Any:
        body = {"model": "m", "messages": []}
        return (await self.openai.post("/chat/completions", body=body, cast_to=object))["id"]


@pytest.fixture
def half() -> Half:
    return Half(Site(*LIBRARIES["httpx2"]))


async def test_a_request_by_itself_is_not_repeated(half: Half) -> None:
    site = half.site
    with pytest.raises(sdks.openai.APIConnectionError) as raised:
        await half.ask()
    assert isinstance(raised.value.__cause__, site.library.RemoteProtocolError)
    statistics = half.scheduler.statistics()
    assert (len(site.sent), statistics.succeeded, statistics.failed) == (1, 0, 1)
    assert statistics.refused == {Kind.TRANSIENT: 1}
    assert idle(half.scheduler)
    assert site.open == 0
    assert await half.ask() == "answer"


async def test_a_function_of_a_job_is_called_again(half: Half) -> None:
    assert await half.scheduler.submit(half.ask) == "answer"
    statistics = half.scheduler.statistics()
    assert (len(half.site.sent), statistics.succeeded, statistics.retried) == (2, 1, 1)
    assert idle(half.scheduler)


async def test_an_answer_that_is_read_to_be_judged_is_asked_for_again() -> None:
    half = Half(site := Site(*LIBRARIES["httpx2"]), is_refused=lambda _: False)
    original = site.answers[0]

    async def json() -> Any:
        status, _, body = await original()
        return status, {"content-type": "application/json"}, body

    site.answers[0] = json
    assert await half.ask() == "answer"
    assert (len(site.sent), half.scheduler.statistics().retried) == (2, 1)
    assert idle(half.scheduler)

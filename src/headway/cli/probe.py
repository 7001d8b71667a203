"""``headway probe``: the limits of an account."""

from typing import Annotated

import typer

from headway.cli.command import garbage, options
from headway.cli.command.endings import refused
from headway.cli.command.streams import tell
from headway.errors import HeadwayError

__all__ = ["probe"]


def probe(
    model: Annotated[str, typer.Option("--model", help="The model to ask.")],
    provider: options.ProviderName = None,
    base_url: options.BaseUrl = None,
    endpoint: options.EndpointName = None,
    header: options.Headers = None,
) -> None:
    """Find the account's limits by a few small calls, and print what to run with."""
    import anyio
    import httpx

    from headway.bulk.input.formats import resolve_endpoint
    from headway.bulk.probe import describe
    from headway.bulk.probe import probe as ask

    garbage.collect()

    async def work() -> str:
        where = options.endpoint(provider, base_url, header)
        async with httpx.AsyncClient(headers=dict(where.headers), timeout=60) as client:
            found = await ask(
                client, model=model, provider=where.provider,
                url=where.url(resolve_endpoint(endpoint or "chat")),
            )  # fmt: skip
        return describe(found)

    try:
        tell(anyio.run(work))
    except (HeadwayError, OSError, httpx.HTTPError) as error:
        raise refused(error) from None

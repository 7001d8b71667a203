"""``headway report``, ``plan``, ``probe`` and ``merge``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from headway.cli import options
from headway.cli.streams import say
from headway.errors import HeadwayError

__all__ = ["add"]

_BAD_USAGE = 2


def _refuse(error: object) -> typer.Exit:
    say(f"headway: {error}")
    return typer.Exit(_BAD_USAGE)


def add(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(report)
    app.command()(plan)
    app.command()(probe)
    app.command()(merge)


def report(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="The results of a run, or its .run folder."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Where the page goes.")
    ] = "report.html",
    redact: Annotated[
        bool, typer.Option("--redact", help="Leave prompts, answers and messages out.")
    ] = False,
) -> None:
    """Write a page that shows how a run went: one file, for any browser, without a network."""
    from headway.bulk.report import write_report

    try:
        write_report(Path(run), Path(output), redact=redact)
    except (HeadwayError, OSError) as error:
        raise _refuse(error) from None
    typer.echo(output)


def plan(
    source: options.Source,
    rate: options.RateText = None,
    tokens: options.TokensText = None,
    concurrency: options.Concurrency = 32,
    provider: options.ProviderName = None,
    base_url: options.BaseUrl = None,
    endpoint: options.EndpointName = None,
    model: options.Model = None,
    prompt_column: options.PromptColumn = None,
    id_column: options.IdColumn = None,
    template: options.Template = None,
    system: options.System = None,
    param: options.Parameters = None,
    limit: options.Limit = None,
    latency: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds that an answer takes. [default: as in earlier runs, or a guess]"
        ),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="RUN",
            help="The results of an earlier run to learn from. [default: those of this input]",
        ),
    ] = None,
    prices: options.PricesFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say how long a run would take, what would hold it back, and what it would cost."""
    from headway import bulk
    from headway.bulk.plan.calibration import calibration_of
    from headway.bulk.plan.plan import plan as make_plan
    from headway.bulk.plan.text import as_json as plan_as_json
    from headway.bulk.plan.text import describe
    from headway.prices import Prices
    from headway.rates import Limits

    try:
        options.check_limits(rate, tokens, concurrency)
        shape = options.shape(endpoint, model, prompt_column, id_column, template, system, param)
        lines = bulk.open_source(source, shape, limit=limit, trust_ids=True)
        try:
            found = make_plan(
                lines.requests(lambda number: False),
                Limits(rate, tokens=tokens, concurrency=concurrency),
                prices=Prices() if prices is None else Prices.read(prices),
                # As in a run: a server that is known by its address alone has no known prices.
                provider=provider or ("together" if base_url is None else "custom"),
                latency_seconds=latency,
                calibration=calibration_of(source, run),
            )
        finally:
            lines.close()
    except (HeadwayError, OSError) as error:
        raise _refuse(error) from None
    typer.echo(json.dumps(plan_as_json(found)) if as_json else describe(found))


def probe(
    model: Annotated[str, typer.Option("--model", help="The model to ask.")],
    provider: options.ProviderName = None,
    base_url: options.BaseUrl = None,
    endpoint: options.EndpointName = None,
) -> None:
    """Find the account's limits by a few small calls, and print what to run with."""
    import anyio
    import httpx

    from headway import bulk
    from headway.bulk.input.formats import resolve_endpoint
    from headway.bulk.probe import describe
    from headway.bulk.probe import probe as ask

    async def work() -> str:
        where = bulk.find_endpoint(provider, base_url)
        async with httpx.AsyncClient(headers=dict(where.headers), timeout=60) as client:
            found = await ask(
                client, model=model, provider=where.provider,
                url=where.url(resolve_endpoint(endpoint or "chat")),
            )  # fmt: skip
        return describe(found)

    try:
        typer.echo(anyio.run(work))
    except (HeadwayError, OSError, httpx.HTTPError) as error:
        raise _refuse(error) from None


def merge(
    outputs: Annotated[
        list[str], typer.Argument(metavar="RESULTS…", help="The results of all shards of a run.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Where all rows go.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Merge what is there, though shards are not done.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the output if it exists.")
    ] = False,
) -> None:
    """Join the results of shards in one file, in the order of the input."""
    from headway.bulk.output.merge import merge as join

    try:
        merged = join(outputs, output, partial=partial, overwrite=overwrite)
    except (HeadwayError, OSError) as error:
        raise _refuse(error) from None
    parts = [f"{merged.rows:,} rows", f"{merged.failed:,} of them failed"]
    if merged.duplicates:
        parts.append(f"{merged.duplicates:,} have a custom_id that came before")
    if merged.damaged:
        parts.append(f"{merged.damaged:,} were damaged or there twice, and are left out")
    if merged.missing:
        parts.append(f"{merged.missing:,} lines have no row")
    say(f"{output}: {', '.join(parts)}")

"""``headway plan``: how a run will go."""

import json
from typing import Annotated

import typer

from headway.cli.command import garbage, options
from headway.cli.command.endings import refused
from headway.cli.command.streams import tell
from headway.errors import HeadwayError

__all__ = ["plan"]


def plan(
    source: options.Source,
    rate: options.RateText = None,
    tokens: options.TokensText = None,
    input_tokens: options.InputTokensText = None,
    output_tokens: options.OutputTokensText = None,
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

    garbage.collect()
    try:
        limits = options.limits(rate, tokens, concurrency, input_tokens, output_tokens)
        shape = options.shape(endpoint, model, prompt_column, id_column, template, system, param)
        lines = bulk.open_source(source, shape, limit=limit, trust_ids=True)
        try:
            found = make_plan(
                lines.requests(lambda number: False),
                limits,
                prices=Prices() if prices is None else Prices.read(prices),
                # As in a run: a server that is known by its address alone has no known prices.
                provider=provider or ("together" if base_url is None else "custom"),
                latency_seconds=latency,
                calibration=calibration_of(source, run),
            )
        finally:
            lines.close()
    except (HeadwayError, OSError) as error:
        raise refused(error) from None
    tell(json.dumps(plan_as_json(found)) if as_json else describe(found))

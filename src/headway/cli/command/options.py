"""What the commands have in common: options, and errors in the words of the command line."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headway.errors import InvalidLimit
from headway.rates import Limits, Rate, check_concurrency

if TYPE_CHECKING:
    from headway.providers import Endpoint

__all__ = [
    "BaseUrl", "Concurrency", "EndpointName", "Headers", "IdColumn", "Limit", "Model", "Parameters",
    "PricesFile", "PromptColumn", "ProviderName", "RateText", "SharedName", "Source", "System",
    "Template", "TokensText", "endpoint", "limits", "parameters", "shape",
]  # fmt: skip

_LINES = "How lines become requests"
_WHERE = "Where requests go"
_LIMITS = "Limits"

Source = Annotated[
    str,
    typer.Argument(
        metavar="REQUESTS",
        help="Requests, one a line (JSONL in the OpenAI or the Together batch form, or bodies "
        "alone), or prompts (CSV, or JSONL with --prompt-column). .gz and .zst are read as they "
        "are; - is standard input.",
        show_default=False,
    ),
]
RateText = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        help='The limit of requests, such as "600/min" or "10/s"; given twice, both hold.',
        rich_help_panel=_LIMITS,
    ),
]
TokensText = Annotated[
    list[str] | None,
    typer.Option(
        "--tokens", help='The limit of tokens, such as "180k/min".', rich_help_panel=_LIMITS
    ),
]
InputTokensText = Annotated[
    list[str] | None,
    typer.Option(
        "--input-tokens",
        help='The limit of the tokens of prompts alone, such as "100k/min".',
        rich_help_panel=_LIMITS,
    ),
]
OutputTokensText = Annotated[
    list[str] | None,
    typer.Option(
        "--output-tokens",
        help='The limit of the tokens of answers alone, such as "20k/min".',
        rich_help_panel=_LIMITS,
    ),
]
Concurrency = Annotated[
    int, typer.Option(help="Requests in flight at most.", rich_help_panel=_LIMITS)
]
SharedName = Annotated[
    str | None,
    typer.Option(
        "--shared",
        metavar="NAME_OR_URL",
        envvar="HEADWAY_SHARED",
        help="Share these limits with every run that says the same: a name, on this machine, or an "
        "address: valkey://HOST/NAME, postgresql://… With no limit given, those that another has "
        "stated hold.",
        rich_help_panel=_LIMITS,
    ),
]
ProviderName = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="together (the default), openai, anthropic, groq, mistral, gemini, … The key is read "
        "from the provider's variable, such as TOGETHER_API_KEY.",
        rich_help_panel=_WHERE,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        "--base-url",
        help="Any other server that speaks OpenAI's HTTP, such as http://localhost:8000/v1; its "
        "key, if it needs one, is read from HEADWAY_API_KEY. Of Azure's a resource or a "
        "deployment.",
        rich_help_panel=_WHERE,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="A header of every request, or @FILE: one a line, so that no list of processes shows "
        "it. May be repeated. Its value is written nowhere.",
        rich_help_panel=_WHERE,
    ),
]
EndpointName = Annotated[
    str | None,
    typer.Option(
        "--endpoint",
        help="chat, completions, embeddings, images or rerank, for lines that have no url.",
        rich_help_panel=_LINES,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model of prompts, and of bodies that name none.",
        rich_help_panel=_LINES,
    ),
]
PromptColumn = Annotated[
    str | None,
    typer.Option(
        "--prompt-column", help="The column, or key, that holds the prompt.", rich_help_panel=_LINES
    ),
]
IdColumn = Annotated[
    str | None,
    typer.Option(
        "--id-column",
        help="The column that holds the custom_id. [default: the number of the line]",
        rich_help_panel=_LINES,
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        help='A prompt with columns in it: "Translate into French: {text}".',
        rich_help_panel=_LINES,
    ),
]
System = Annotated[
    str | None,
    typer.Option("--system", help="The system message of prompts.", rich_help_panel=_LINES),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="KEY=VALUE",
        help="A key of every prompt's request, its value in JSON: temperature=0. May be repeated.",
        rich_help_panel=_LINES,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first so many lines.", rich_help_panel=_LINES),
]
PricesFile = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help='Prices of models, TOML or JSON, in dollars per million tokens: {"model": {"input": '
        '0.6, "output": 1.2}}. Known models need none.',
    ),
]


_NOT_PARAMETERS = {
    "model": ("the model", "use --model"),
    "messages": ("the prompt", "use --prompt-column, --template and --system"),
    "prompt": ("the prompt", "use --prompt-column or --template"),
    "input": ("the prompt", "use --prompt-column or --template"),
    "stream": ("the answer by a stream, which is not one row", "leave it out"),
}


def shape(
    endpoint: str | None,
    model: str | None,
    prompt_column: str | None,
    id_column: str | None,
    template: str | None,
    system: str | None,
    params: Iterable[str] | None,
) -> Any:
    """The `headway.bulk.Shape` of these options. Raises `headway.bulk.InvalidInput`."""
    from headway.bulk import Shape

    return Shape(
        endpoint=endpoint,
        model=model,
        prompt_column=prompt_column,
        id_column=id_column,
        template=template,
        system=system,
        parameters=parameters(params or ()),
    )


def parameters(texts: Iterable[str]) -> dict[str, object]:
    """``["temperature=0"]`` as ``{"temperature": 0}``; what is no JSON is text."""
    from headway.bulk import InvalidInput

    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name in _NOT_PARAMETERS:
            what, fix = _NOT_PARAMETERS[name]
            raise InvalidInput(f"--param {name} would take the place of {what}", fix=fix)
        if not (name and equals):
            raise InvalidInput("a --param is not KEY=VALUE", fix="use one like temperature=0")
        try:
            found[name] = json.loads(value, parse_constant=_no_json)
        except ValueError:
            found[name] = value
    return found


def _no_json(constant: str) -> object:
    raise ValueError(constant)  # NaN and Infinity, which Python would take


def endpoint(
    provider: str | None, base_url: str | None, headers: Iterable[str] | None
) -> "Endpoint":
    """The `headway.bulk.Endpoint` of these options. Raises `headway.bulk.InvalidSettings`."""
    from headway.providers import find_endpoint

    return find_endpoint(provider, base_url, headers=dict(_headers(headers or ())))


def _headers(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each ``"Name: value"``, and each line of the files in ``@FILE``, as curl has it."""
    from headway.providers import InvalidSettings, header_in

    for text in texts:
        if not text.startswith("@"):
            yield header_in(text)
            continue
        try:
            with open(text[1:], encoding="utf-8-sig") as file:
                lines = file.read(_MOST_HEADERS).splitlines()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise InvalidSettings(
                f"cannot read the headers in {text[1:]}: {why}",
                fix="give a file with one Name: value a line",
            ) from None
        yield from (header_in(line) for line in lines if line.strip())


_MOST_HEADERS = 1024 * 1024  # characters: what is longer holds no headers


def limits(
    rate: list[str] | None,
    tokens: list[str] | None,
    concurrency: int,
    input_tokens: list[str] | None = None,
    output_tokens: list[str] | None = None,
) -> Limits:
    """Those limits, all of which hold. Raises `InvalidLimit` in the words of the command line, not
    in those of the library.
    """

    def check(before: str, fix: str, make: Callable[[], object]) -> None:
        try:
            make()
        except InvalidLimit as error:
            raise InvalidLimit(f"{before}{error.what}", fix=fix) from None

    def completed(text: str, example: str) -> str:
        """`text` with the period that it lacks, or `example` where that is no rate either."""
        try:
            Rate.parse(f"{text}/min")
        except InvalidLimit:
            return example
        return f"{text}/min"

    for option, texts, example in (
        ("--rate", rate, "600/min"),
        ("--tokens", tokens, "180k/min"),
        ("--input-tokens", input_tokens, "100k/min"),
        ("--output-tokens", output_tokens, "20k/min"),
    ):
        for text in texts or ():
            fix = f"{option} {completed(text.strip(), example)}"
            check(f"{option} ", fix, partial(Rate.parse, text))
    check("", "--concurrency 32", partial(check_concurrency, concurrency, "--concurrency "))
    return Limits(
        rate,
        tokens=tokens,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        concurrency=concurrency,
    )

"""The providers: one record each, which the transports, bulk runs, the probe and the prices read.

To add a provider is to add a record to `PROVIDERS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from headway.errors import InvalidArgument
from headway.hints import GENERIC, Dialect
from headway.kinds._words import HIDDEN, redacted, shown
from headway.rates import UNKNOWN_ENFORCEMENT, Enforcement

__all__ = [
    "GENERIC",
    "PROVIDERS",
    "TOGETHER",
    "Dialect",
    "Endpoint",
    "InvalidSettings",
    "OwnForm",
    "Provider",
    "check_key",
    "check_url",
    "dialect_at",
    "find_endpoint",
    "header_in",
    "provider_at",
    "provider_named",
    "provider_of",
    "record_of",
]


class InvalidSettings(InvalidArgument):
    """A key or an address that cannot be used; the message names the variable to set."""


@dataclass(frozen=True, slots=True)
class OwnForm:
    """Requests in a provider's own form, beside OpenAI's: those whose url starts with `path`. They
    show the key in `key_header`, and have `headers` too.
    """

    path: str
    key_header: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of a provider.

    `base_url` stands for ``/v1``, and is empty where each customer has an address; `hosts` are
    further hosts that it answers at, with their subdomains where they start with a dot, and in each
    region where they end with one. The key is read from the variable `key_variable` and sent in the
    header `key_header`, written as `key_form`; `headers` go with every request, and `own_form` has
    others. An address in the variable `url_variable`, with the version or without, goes before
    `base_url`. `dialect` is how its headers of limits are read. `lane` is what has limits of its
    own: the whole account, or each model in it. `prices` is the name under which genai-prices knows
    it, where that is another, and `aliases` are other names that people use. `enforcement` is how
    it counts what it states for a minute.
    """

    name: str
    base_url: str
    key_variable: str
    key_header: str = "authorization"
    key_form: str = "Bearer {}"
    keys_page: str = ""
    url_variable: str | None = None
    hosts: tuple[str, ...] = ()
    own_form: OwnForm | None = None
    headers: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = GENERIC
    lane: Literal["account", "model"] = "model"
    prices: str = ""
    aliases: tuple[str, ...] = ()
    enforcement: Enforcement = UNKNOWN_ENFORCEMENT


TOGETHER = Provider(
    "together",
    "https://api.together.ai/v1",
    "TOGETHER_API_KEY",
    keys_page="https://api.together.ai/settings/api-keys",
    url_variable="TOGETHER_BASE_URL",
    # The SDK sends chat to a host of its own where it is given no address.
    hosts=("api.together.xyz", "api-inference.together.ai"),
    # Whether its limits count by the second or the minute is not settled: `together_unit=` says.
    dialect=Dialect(reset="seconds"),
    aliases=("togetherai",),
    # "600 RPM (10 QPS)", as its refusals say.
    enforcement=Enforcement(window=1.0),
)

# Each resource has an address of its own: https://NAME.openai.azure.com, and its like.
AZURE = Provider(
    "azure",
    "",
    "AZURE_OPENAI_API_KEY",
    key_header="api-key",
    key_form="{}",
    url_variable="AZURE_OPENAI_ENDPOINT",
    hosts=(".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com"),
    # Its documentation names 1 or 10 seconds, and counts `max_tokens` when a request comes.
    enforcement=Enforcement(window=1.0, reserves=True),
)

# Known by its address alone: requests to it are signed, which no run of ours does.
BEDROCK = Provider(
    "bedrock",
    "",
    "AWS_BEARER_TOKEN_BEDROCK",
    hosts=("bedrock-runtime.", "bedrock-runtime-fips."),
    # Its documentation: what is read from the cache is reserved, and given back at the end, as is
    # what an answer leaves of its `max_tokens`.
    enforcement=Enforcement(cached=0.0, reserves=True),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            TOGETHER,
            Provider(
                "openai",
                "https://api.openai.com/v1",
                "OPENAI_API_KEY",
                url_variable="OPENAI_BASE_URL",
                # Its documentation: `max_tokens` counts, or the prompt where that is more.
                enforcement=Enforcement(reserves=True),
            ),
            Provider(
                "anthropic",
                "https://api.anthropic.com/v1",
                "ANTHROPIC_API_KEY",
                url_variable="ANTHROPIC_BASE_URL",
                own_form=OwnForm(
                    "/v1/messages", "x-api-key", (("anthropic-version", "2023-06-01"),)
                ),
                enforcement=Enforcement(cached=0.0),
            ),
            Provider(
                "deepseek",
                "https://api.deepseek.com/v1",
                "DEEPSEEK_API_KEY",
                url_variable="DEEPSEEK_BASE_URL",
                lane="account",
            ),
            Provider(
                "fireworks",
                "https://api.fireworks.ai/inference/v1",
                "FIREWORKS_API_KEY",
                url_variable="FIREWORKS_BASE_URL",
                lane="account",
            ),
            Provider(
                "gemini",
                "https://generativelanguage.googleapis.com/v1beta/openai",
                "GEMINI_API_KEY",
                url_variable="GOOGLE_GEMINI_BASE_URL",
                own_form=OwnForm("/v1beta/models/", "x-goog-api-key"),
                prices="google",
                aliases=("vertex",),
            ),
            Provider(
                "groq",
                "https://api.groq.com/openai/v1",
                "GROQ_API_KEY",
                url_variable="GROQ_BASE_URL",
                # OpenAI's names, but its requests are those of a day; its tokens of a minute.
                dialect=Dialect((("x-ratelimit-{}-requests", "x-ratelimit-{}-requests-day"),)),
                # "Limit 6000, Requested 12328": what is requested has the `max_tokens` in it.
                enforcement=Enforcement(cached=0.0, reserves=True),
            ),
            Provider(
                "huggingface",
                "https://router.huggingface.co/v1",
                "HF_TOKEN",
                url_variable="HF_BASE_URL",
                lane="account",
            ),
            Provider(
                "mistral",
                "https://api.mistral.ai/v1",
                "MISTRAL_API_KEY",
                url_variable="MISTRAL_BASE_URL",
                aliases=("mistralai",),
            ),
            Provider(
                "openrouter",
                "https://openrouter.ai/api/v1",
                "OPENROUTER_API_KEY",
                url_variable="OPENROUTER_BASE_URL",
                dialect=Dialect(reset="epoch_milliseconds"),
            ),
            Provider(
                "xai",
                "https://api.x.ai/v1",
                "XAI_API_KEY",
                url_variable="XAI_BASE_URL",
                prices="x-ai",
            ),
        )
    }
)
"""Each provider that has one address, by its name, Together first."""

_CUSTOM_KEY = "HEADWAY_API_KEY"
_ANY = Provider("custom", "", _CUSTOM_KEY)  # a server that is known by its address alone
# How addresses end that lack nothing: a version, Google's and GitHub's, and gateways'.
_VERSION = re.compile(r"v\d\w*|openai|openapi|inference|compat")
_ROOT = re.compile(r"/v\d\w*(?:/openai)?$")
_AZURE_DEPLOYMENT = re.compile(r"(.*/deployments/[^/]+)")

# What people leave on at the end of an address, longest first.
_ENDS = (
    "/chat/completions", "/images/generations", "/fim/completions", "/completions", "/embeddings",
    "/moderations", "/responses", "/messages", "/rerank",
)  # fmt: skip
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OUR_HEADERS = frozenset({"content-length", "content-type", "host", "transfer-encoding"})
_SAY_WHO = frozenset({"api-key", "authorization", "x-api-key", "x-goog-api-key"})


def provider_named(name: str) -> Provider | None:
    """The provider of that name, or of that alias; None for one that is not known."""
    wanted = name.strip().lower()
    for provider in (*PROVIDERS.values(), AZURE):
        if wanted == provider.name or wanted in provider.aliases:
            return provider
    return None


@lru_cache(maxsize=256)
def provider_at(host: str) -> Provider | None:
    """The provider that answers at `host`, None for one that is not known."""
    for provider in (*PROVIDERS.values(), AZURE, BEDROCK):
        known = host == urlsplit(provider.base_url).hostname or host in provider.hosts
        domain = host.endswith(tuple(each for each in provider.hosts if each[0] == "."))
        if known or domain or host.startswith(tuple(n for n in provider.hosts if n[-1] == ".")):
            return provider
    return None


def record_of(name: str) -> Provider:
    """The record of that name, of which nothing is known where there is none."""
    return PROVIDERS.get(name, AZURE if name == AZURE.name else _ANY)


def dialect_at(host: str) -> Dialect:
    """The dialect of the provider that answers at `host`."""
    provider = provider_at(host)
    return GENERIC if provider is None else provider.dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as a run knows it. `base_url` stands for ``/v1``; `key` is None where none is
    needed; `key_variable` is where it came from. `query` is what ends every address, and `more`
    are headers of the user's, with names in lower case.
    """

    provider: str
    base_url: str
    key: str | None
    key_variable: str
    query: str = ""
    more: tuple[tuple[str, str], ...] = ()

    @property
    def names_models(self) -> bool:
        """Whether a request that names no model is an error: some servers have one alone."""
        return self.provider not in (_ANY.name, AZURE.name)

    def __repr__(self) -> str:
        key = self.key if self.key is None else HIDDEN
        return (
            f"Endpoint(provider={self.provider!r}, base_url={redacted(self.base_url)!r}, "
            f"key={key!r}, key_variable={self.key_variable!r})"
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of requests in OpenAI's form."""
        return self.headers_of("/v1")

    def headers_of(self, path: str) -> Mapping[str, str]:
        """The headers of requests to `path`."""
        known = record_of(self.provider)
        own = _own_form(known, path)
        key_header, key = known.key_header, known.key_form
        headers = {"content-type": "application/json", "accept": "application/json"}
        headers.update(known.headers)
        if own is not None:
            key_header, key = own.key_header, "{}"
            headers.update(own.headers)
        if self.key is not None:
            headers[key_header] = key.format(self.key)
        headers.update(self.more)
        return MappingProxyType(headers)

    def url(self, path: str) -> str:
        """The address of `path`, such as ``/v1/chat/completions``."""
        if path.startswith("/v1beta/"):
            url = _ROOT.sub("", self.base_url) + path
        else:
            url = self.base_url + path.removeprefix("/v1")
        return f"{url}?{self.query}" if self.query else url


def provider_of(endpoint: Endpoint) -> Provider:
    """Who answers at `endpoint`: the provider of its host, where that is known, however the
    endpoint was named.
    """
    return provider_at(_hostname(endpoint.base_url)) or record_of(endpoint.provider)


def _own_form(provider: Provider, path: str) -> OwnForm | None:
    own = provider.own_form
    return own if own is not None and path.startswith(own.path) else None


def find_endpoint(
    provider: str | None = None,
    base_url: str | None = None,
    key: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Endpoint:
    """The provider of that name (together by default), or the server at `base_url`.

    `base_url` is what stands before ``/chat/completions``, which may be left on; ``/v1`` is added
    where it ends in no version. Without it the provider's variable may hold an address
    (``OPENAI_BASE_URL``, …). An address of Azure's is a deployment, with its ``api-version``, or
    that of the resource. The key is `key` or that of the provider's variable; a server given by its
    address alone may do without (``HEADWAY_API_KEY``), and so may one that is told by `headers`,
    which go with every request, who asks. Raises `InvalidSettings`.
    """
    for name, given in (("provider", provider), ("base_url", base_url), ("key", key)):
        if given is not None and not isinstance(given, str):
            raise InvalidSettings(f"{name}={shown(given)} is not text", fix="give it as a string")
    more = _checked_headers(headers)
    known = _known(provider, base_url)
    address, query = _address_of(known, base_url)
    found = key or os.environ.get(known.key_variable)
    if not found and base_url is not None and known is AZURE:
        found = os.environ.get(_CUSTOM_KEY)
    needless = known is _ANY or not _SAY_WHO.isdisjoint(name for name, _ in more)
    checked = None if needless and not found else check_key(found, known.key_variable)
    return Endpoint(known.name, address, checked, known.key_variable, query, more)


def _known(name: str | None, base_url: str | None) -> Provider:
    if name is None and base_url is not None:
        return AZURE if provider_at(_hostname(base_url)) is AZURE else _ANY
    known = TOGETHER if name is None else provider_named(name)
    if known is None:
        raise InvalidSettings(
            f"the provider {name!r} is not known",
            fix=f"use one of {', '.join(PROVIDERS)}, or give "
            "the address of any other server that speaks OpenAI's HTTP with --base-url",
        )
    return known


def _hostname(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "") if parts.port != 0 else ""
    except ValueError:  # of the port, too
        return ""


def _address_of(known: Provider, base_url: str | None) -> tuple[str, str]:
    """The address that stands for ``/v1``, and its query."""
    if base_url is not None:
        said, url = f"--base-url {shown(base_url)}", base_url
    else:
        url = os.environ.get(known.url_variable or "", "").strip()
        said = f"{known.url_variable}={shown(url)}"
        if not url and not known.base_url:
            raise InvalidSettings(
                f"every customer of {known.name}'s has an address, and none was given",
                fix=f"export {known.url_variable}=https://NAME.openai.azure.com, or give it with "
                "--base-url",
            )
        if not url:
            return known.base_url, ""
        if known is TOGETHER:
            check_url(url, known.url_variable or "")  # its SDK reads the same variable
    url = url.strip()
    host = _hostname(url)
    if not host or urlsplit(url).scheme not in ("http", "https"):
        example = known.base_url or "http://localhost:8000/v1"
        if base_url is not None:
            example = "http://localhost:8000/v1"
        raise InvalidSettings(f"{said} is not a web address", fix=f"use one like {example}")
    parts = urlsplit(url)
    at = provider_at(host)
    if known is AZURE or at is AZURE:
        path, query = _azure_path(parts.path.rstrip("/"), parts.query, said)
    else:
        own = base_url is None or at is known
        version = urlsplit(known.base_url).path if own and known.base_url else "/v1"
        path, query = _path(parts.path.rstrip("/"), version), parts.query
    return f"{parts.scheme}://{parts.netloc}{path}", query


def _path(path: str, version: str) -> str:
    """The path of an address, with what is left away of `version`, such as ``/openai/v1``."""
    for end in _ENDS:
        if path.endswith(end):
            return path.removesuffix(end)
    given = path.split("/")[1:]
    wanted = version.split("/")[1:]
    for length in range(len(wanted), 0, -1):
        if given[-length:] == wanted[:length]:
            return "/".join(["", *given, *wanted[length:]])
    if given and _VERSION.fullmatch(given[-1]):
        return path
    return f"{path}/v1" if given else version


def _azure_path(path: str, query: str, said: str) -> tuple[str, str]:
    """A deployment, which needs an ``api-version``, or all of a resource."""
    if (deployment := _AZURE_DEPLOYMENT.match(path)) is not None:
        version = os.environ.get("OPENAI_API_VERSION", "").strip()
        if "api-version=" not in query and not version:
            raise InvalidSettings(
                f"{said} is a deployment of Azure's without its api-version",
                fix="end it in ?api-version=2024-10-21, or set OPENAI_API_VERSION",
            )
        if "api-version=" not in query:
            query = "&".join(filter(None, (query, f"api-version={version}")))
        return deployment[1], query
    for end in _ENDS:
        path = path.removesuffix(end)
    if path in ("", "/openai"):
        path = "/openai/v1"
    return path, query


def _checked_headers(headers: object) -> tuple[tuple[str, str], ...]:
    """`headers`, with their names in lower case. Values are in no message: they may be secret."""
    if headers is None:
        return ()
    pairs: Iterable[tuple[object, object]] = (
        headers.items() if isinstance(headers, Mapping) else ((None, None),)
    )
    checked = {}
    for name, value in pairs:
        if not (isinstance(name, str) and isinstance(value, str)):
            raise InvalidSettings(
                "the headers are not a mapping of names to values, both of them text",
                fix='headers={"x-team": "search"}, or none',
            )
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidSettings(
                "the name of a header holds a space or another character that none can have",
                fix="write it as in 'X-Team: search'",
            )
        if name.lower() in _OUR_HEADERS:
            raise InvalidSettings(
                f"the header {name} is set for each request by itself", fix="leave it out"
            )
        if not (value.isascii() and (value.isprintable() or not value)):
            raise InvalidSettings(
                f"the value of the header {name} holds a line break or another character that no "
                "header can have",
                fix="copy it again, without what stands around it",
            )
        checked[name.lower()] = value.strip()
    return tuple(checked.items())


def header_in(text: str) -> tuple[str, str]:
    """The name and the value in ``"Name: value"``. Raises `InvalidSettings`, without the text,
    which may be secret.
    """
    name, colon, value = text.partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name.strip()):
        raise InvalidSettings(
            "a --header is not Name: value", fix="write it as in --header 'X-Team: search'"
        )
    return name.strip(), value.strip()


def check_key(key: str | None, variable: str = TOGETHER.key_variable) -> str:
    """`key`, or `InvalidSettings` when there is none or no request could carry it.

    `variable` is the one of the environment that should hold it.
    """
    if not key or not key.strip():
        pages = {each.key_variable: each.keys_page for each in PROVIDERS.values()}
        where = f" ({page})" if (page := pages.get(variable)) else ""
        raise InvalidSettings("no API key", fix=f"set it first: export {variable}=…{where}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSettings(
            f"the API key in {variable} holds a space, a line break or another character that "
            "a key cannot have",
            fix="copy it again, without what stands around it",
        )
    return key


def check_url(url: object, variable: str) -> str:
    """`url` as text, or `InvalidSettings` when an SDK could not use it; `variable` held it."""
    text = str(url)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            f"{variable}={shown(text)} is not a web address",
            fix="use one like https://api.together.ai, or unset it",
        )
    if parts.path.rstrip("/").endswith("/v1"):
        fixed = text.rstrip("/").removesuffix("/v1")
        raise InvalidSettings(
            f"{variable}={shown(text)} ends in /v1, which the SDK adds by itself",
            fix=f"use {redacted(fixed)}",
        )
    return text

"""The providers: one record each, which the transports, bulk runs, the probe and the prices read.

To add a provider is to add a record to `PROVIDERS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from headway._words import HIDDEN, redacted, shown
from headway.errors import InvalidArgument
from headway.hints import GENERIC, Dialect

__all__ = [
    "GENERIC",
    "PROVIDERS",
    "TOGETHER",
    "Dialect",
    "Endpoint",
    "InvalidSettings",
    "Provider",
    "check_key",
    "check_url",
    "dialect_at",
    "find_endpoint",
    "provider_at",
    "provider_named",
]


class InvalidSettings(InvalidArgument):
    """A key or an address that cannot be used; the message names the variable to set."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What is known of a provider.

    `base_url` stands for ``/v1``; `hosts` are further hosts that it answers at. The key is read
    from the variable `key_variable` and sent in the header `key_header`, written as `key_form`;
    `headers` go with every request. An address in the variable `url_variable`, without ``/v1``,
    goes before `base_url`. `dialect` is how its headers of limits are read. `lane` is what has
    limits of its own: the whole account, or each model in it. `prices` is the name under which
    genai-prices knows it, where that is another, and `aliases` are other names that people use.
    """

    name: str
    base_url: str
    key_variable: str
    key_header: str = "authorization"
    key_form: str = "Bearer {}"
    keys_page: str = ""
    url_variable: str | None = None
    hosts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    dialect: Dialect = GENERIC
    lane: Literal["account", "model"] = "model"
    prices: str = ""
    aliases: tuple[str, ...] = ()


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
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        provider.name: provider
        for provider in (
            TOGETHER,
            Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
            Provider("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
            Provider("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", lane="account"),
            Provider(
                "fireworks",
                "https://api.fireworks.ai/inference/v1",
                "FIREWORKS_API_KEY",
                lane="account",
            ),
            Provider(
                "gemini",
                "https://generativelanguage.googleapis.com/v1beta/openai",
                "GEMINI_API_KEY",
                prices="google",
                aliases=("vertex",),
            ),
            Provider(
                "groq",
                "https://api.groq.com/openai/v1",
                "GROQ_API_KEY",
                # OpenAI's names, but its requests are those of a day; its tokens of a minute.
                dialect=Dialect((("x-ratelimit-{}-requests", "x-ratelimit-{}-requests-day"),)),
            ),
            Provider("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN", lane="account"),
            Provider(
                "mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", aliases=("mistralai",)
            ),
            Provider(
                "openrouter",
                "https://openrouter.ai/api/v1",
                "OPENROUTER_API_KEY",
                dialect=Dialect(reset="epoch_milliseconds"),
            ),
            Provider("xai", "https://api.x.ai/v1", "XAI_API_KEY", prices="x-ai"),
        )
    }
)
"""Each provider by its name, Together first."""

_CUSTOM_KEY = "HEADWAY_API_KEY"
_ANY = Provider("custom", "", _CUSTOM_KEY)  # a server that is known by its address alone
_VERSION = re.compile(r"v\d\w*|openai")


def provider_named(name: str) -> Provider | None:
    """The provider of that name, or of that alias; None for one that is not known."""
    wanted = name.strip().lower()
    for provider in PROVIDERS.values():
        if wanted == provider.name or wanted in provider.aliases:
            return provider
    return None


@lru_cache(maxsize=256)
def provider_at(host: str) -> Provider | None:
    """The provider that answers at `host`, None for one that is not known."""
    for provider in PROVIDERS.values():
        if host == urlsplit(provider.base_url).hostname or host in provider.hosts:
            return provider
    return None


def dialect_at(host: str) -> Dialect:
    """The dialect of the provider that answers at `host`."""
    provider = provider_at(host)
    return GENERIC if provider is None else provider.dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as a run knows it. `base_url` stands for ``/v1``; `key` is None where none is
    needed; `key_variable` is where it came from.
    """

    provider: str
    base_url: str
    key: str | None
    key_variable: str

    def __repr__(self) -> str:
        key = self.key if self.key is None else HIDDEN
        return (
            f"Endpoint(provider={self.provider!r}, base_url={redacted(self.base_url)!r}, "
            f"key={key!r}, key_variable={self.key_variable!r})"
        )

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request."""
        known = PROVIDERS.get(self.provider, _ANY)
        headers = {"content-type": "application/json", "accept": "application/json"}
        headers.update(known.headers)
        if self.key is not None:
            headers[known.key_header] = known.key_form.format(self.key)
        return MappingProxyType(headers)

    def url(self, path: str) -> str:
        """The address of `path`, such as ``/v1/chat/completions``."""
        return self.base_url + path.removeprefix("/v1")


def find_endpoint(
    provider: str | None = None, base_url: str | None = None, key: str | None = None
) -> Endpoint:
    """The provider of that name (together by default), or the server at `base_url`.

    `base_url` is what stands before ``/chat/completions``; ``/v1`` is added where it ends in no
    version. The key is `key` or that of the provider's variable; a server given by its address
    alone may do without (``HEADWAY_API_KEY``). Raises `InvalidSettings`.
    """
    for name, given in (("provider", provider), ("base_url", base_url), ("key", key)):
        if given is not None and not isinstance(given, str):
            raise InvalidSettings(f"{name}={shown(given)} is not text", fix="give it as a string")
    if provider is None and base_url is not None:
        found = key or os.environ.get(_CUSTOM_KEY) or None
        checked = check_key(found, _CUSTOM_KEY) if found else None
        return Endpoint(_ANY.name, _with_version(base_url), checked, _CUSTOM_KEY)
    known = TOGETHER if provider is None else PROVIDERS.get(provider)
    if known is None:
        raise InvalidSettings(
            f"the provider {provider!r} is not known",
            fix=f"use one of {', '.join(PROVIDERS)}, or give "
            "the address of any other server that speaks OpenAI's HTTP with --base-url",
        )
    address = known.base_url
    if base_url is not None:
        address = _with_version(base_url)
    elif known.url_variable and (url := os.environ.get(known.url_variable)):
        address = f"{check_url(url, known.url_variable).rstrip('/')}/v1"
    found = key or os.environ.get(known.key_variable)
    key = check_key(found, known.key_variable)
    return Endpoint(known.name, address, key, known.key_variable)


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


def _with_version(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            f"--base-url {shown(url)} is not a web address",
            fix="use one like http://localhost:8000/v1",
        )
    url = url.rstrip("/")
    return url if _VERSION.fullmatch(url.rpartition("/")[2]) else f"{url}/v1"

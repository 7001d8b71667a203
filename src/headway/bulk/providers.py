"""Where requests go: the providers that speak OpenAI's HTTP, their addresses and their keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from headway._settings import KEY_VARIABLE, URL_VARIABLE, InvalidSettings, check_key, check_url

__all__ = ["PROVIDERS", "Endpoint", "find_endpoint"]

# What stands for /v1, and the variable that holds the key.
_KNOWN = {
    "together": ("https://api.together.ai/v1", KEY_VARIABLE),
    "openai": ("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "deepseek": ("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "huggingface": ("https://router.huggingface.co/v1", "HF_TOKEN"),
    "mistral": ("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
}
PROVIDERS = tuple(_KNOWN)

_CUSTOM_KEY = "HEADWAY_API_KEY"
_VERSION = re.compile(r"v\d\w*|openai")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as a run knows it. `base_url` stands for ``/v1``; `key` is None where none is
    needed; `key_variable` is where it came from.
    """

    provider: str
    base_url: str
    key: str | None
    key_variable: str

    def url(self, path: str) -> str:
        """The address of `path`, such as ``/v1/chat/completions``."""
        return self.base_url + path.removeprefix("/v1")

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request."""
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        return MappingProxyType(headers)


def find_endpoint(
    provider: str | None = None, base_url: str | None = None, key: str | None = None
) -> Endpoint:
    """The provider of that name (together by default), or the server at `base_url`.

    `base_url` is what stands before ``/chat/completions``; ``/v1`` is added where it ends in no
    version. The key is `key` or that of the provider's variable; a server given by its address
    alone may do without (``HEADWAY_API_KEY``). Raises `headway.together.InvalidSettings`.
    """
    if provider is None and base_url is not None:
        found = key or os.environ.get(_CUSTOM_KEY) or None
        checked = check_key(found, _CUSTOM_KEY) if found else None
        return Endpoint("custom", _with_version(base_url, "--base-url"), checked, _CUSTOM_KEY)
    provider = provider or "together"
    if provider not in _KNOWN:
        raise InvalidSettings(
            f"the provider {provider!r} is not known. Use one of {', '.join(PROVIDERS)}, or give "
            "the address of any other server that speaks OpenAI's HTTP with --base-url"
        )
    known, variable = _KNOWN[provider]
    if base_url is not None:
        known = _with_version(base_url, "--base-url")
    elif provider == "together" and (url := check_url(os.environ.get(URL_VARIABLE) or None)):
        known = f"{url.rstrip('/')}/v1"
    return Endpoint(provider, known, check_key(key or os.environ.get(variable), variable), variable)


def _with_version(url: str, option: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            f"{option} {url!r} is not a web address. Use one like http://localhost:8000/v1"
        )
    url = url.rstrip("/")
    return url if _VERSION.fullmatch(url.rpartition("/")[2]) else f"{url}/v1"

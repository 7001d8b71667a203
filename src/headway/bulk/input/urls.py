"""The endpoints that requests may go to, under all the names that files have for them."""

from __future__ import annotations

import re

from headway.bulk.input.lines import InvalidInput

__all__ = [
    "DEFAULT_URL",
    "ENDPOINTS",
    "GENERATE",
    "GENERATES",
    "MESSAGES",
    "SUPPORTED_URLS",
    "WITHOUT_MODEL",
    "known_url",
    "resolve_endpoint",
]

ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "rerank": "/v1/rerank",
}
SUPPORTED_URLS = (
    *ENDPOINTS.values(), "/v1/responses", "/v1/moderations", "/v1/messages",
    "/v1/fim/completions", "/v1/chat/moderations", "/v1/ocr",
)  # fmt: skip
DEFAULT_URL = ENDPOINTS["chat"]
MESSAGES = "/v1/messages"  # Anthropic's
GENERATE = "/v1beta/models/{}:generateContent"  # Gemini's
GENERATES = re.compile(r".*/models/([^/:]+):generateContent")
WITHOUT_MODEL = ("/v1/moderations",)
_KNOWN = frozenset(SUPPORTED_URLS)
_BY_END = sorted((url.removeprefix("/v1") for url in SUPPORTED_URLS), key=len, reverse=True)


def resolve_endpoint(endpoint: str) -> str:
    """The url of a short name or a path; `InvalidInput` for what is neither."""
    url = ENDPOINTS.get(endpoint) or known_url(endpoint)
    if url is None:
        raise InvalidInput(
            f"there is no endpoint {endpoint!r}",
            fix=f"use one of {', '.join(ENDPOINTS)}, or a path: {', '.join(SUPPORTED_URLS)}",
        )
    return url


def known_url(url: object) -> str | None:
    """The url that `url` means, which may be whole or lack its version; None for what is none."""
    if not isinstance(url, str) or url in _KNOWN:
        return url if isinstance(url, str) else None
    path = url.strip().partition("?")[0].rstrip("/")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    if (found := GENERATES.fullmatch(path)) is not None:
        return GENERATE.format(found[1])
    path = f"/{path.lstrip('/')}"
    end = next((end for end in _BY_END if path.endswith(end)), None)
    return None if end is None else f"/v1{end}"

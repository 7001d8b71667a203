"""The endpoints that requests may go to, under all the names that files have for them."""

from __future__ import annotations

import re

from headway.bulk.input.lines import InvalidInput

__all__ = [
    "DEFAULT_URL",
    "EMBED",
    "ENDPOINTS",
    "GEMINIS",
    "GENERATE",
    "MESSAGES",
    "OCR",
    "SUPPORTED_URLS",
    "TRANSCRIPTIONS",
    "WITHOUT_MODEL",
    "known_url",
    "resolve_endpoint",
    "why_not",
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
    "/v1/fim/completions", "/v1/chat/moderations", "/v1/classifications",
    "/v1/chat/classifications", "/v1/ocr", "/v1/score",
)  # fmt: skip
DEFAULT_URL = ENDPOINTS["chat"]
MESSAGES = "/v1/messages"  # Anthropic's
GENERATE = "/v1beta/models/{}:generateContent"  # Gemini's
EMBED = "/v1beta/models/{}:embedContent"
GEMINIS = re.compile(r".*/models/([^/:]+):(generateContent|embedContent)")
OCR = "/v1/ocr"  # Mistral's
TRANSCRIPTIONS = "/v1/audio/transcriptions"
WITHOUT_MODEL = ("/v1/moderations",)
_KNOWN = frozenset(SUPPORTED_URLS)
_BY_END = sorted((url.removeprefix("/v1") for url in SUPPORTED_URLS), key=len, reverse=True)


_IN_PYTHON = "call it from Python, with Scheduler.submit"
_UPLOADS = re.compile(r"/(?:audio/(?:transcriptions|translations)|images/(?:edits|variations))\b")
_SOUNDS = re.compile(r"/audio/(?:speech|generations)\b")


def why_not(url: object) -> str:
    """Why no line can go to `url`, though providers have it; "" where that is not known."""
    if not isinstance(url, str):
        return ""
    if _UPLOADS.search(url):
        return "its requests upload files (multipart/form-data), and a line is sent as JSON"
    return "its answers are sound, and a row holds JSON" if _SOUNDS.search(url) else ""


def resolve_endpoint(endpoint: str) -> str:
    """The url of a short name or a path; `InvalidInput` for what is neither."""
    url = ENDPOINTS.get(endpoint) or known_url(endpoint)
    if url is None and (reason := why_not(endpoint)):
        raise InvalidInput(f"the endpoint {endpoint!r} cannot be used: {reason}", fix=_IN_PYTHON)
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
    if (found := GEMINIS.fullmatch(path)) is not None:
        return f"/v1beta/models/{found[1]}:{found[2]}"
    path = f"/{path.lstrip('/')}"
    end = next((end for end in _BY_END if path.endswith(end)), None)
    return None if end is None else f"/v1{end}"

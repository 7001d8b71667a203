"""What must not be written down, taken out of what came: whatever a server echoes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx

from headway._http.credentials import CREDENTIALS
from headway._words import HIDDEN, redacted

__all__ = ["Secrets", "hidden_in"]

_PLAIN_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version",
        "api-version", "connection", "content-type", "http-referer", "openai-beta",
        "openai-organization", "openai-project", "referer", "user-agent", "x-title",
    }
)  # fmt: skip
_SHORTEST = 6  # a shorter one is a word, of which an answer may be full
_NO_SECRETS = frozenset({"api-key", "lm-studio", "no-key-required", "not-needed", "ollama"})
_SCHEME = re.compile(r"^(?:basic|bearer|token|key)\s+", re.I)


class Secrets:
    """The keys in `headers` and in the addresses `urls` (userinfo, and what `redacted` hides), in
    every form in which JSON, HTML and addresses hold them.
    """

    def __init__(self, headers: Mapping[str, str], urls: Iterable[str | None]) -> None:
        said: set[str] = set()
        for name, value in headers.items():
            if name.lower() not in _PLAIN_HEADERS:
                said |= {value, _SCHEME.sub("", value)}
        for url in urls:
            said |= _in_url(url or "")
        forms: set[str] = set()
        for secret in said:
            if len(secret) >= _SHORTEST and secret.lower() not in _NO_SECRETS:
                forms |= _forms(secret)
        self._texts = sorted(forms, key=len, reverse=True)  # the longest first: it holds others
        self._bytes = [text.encode() for text in self._texts]
        self._wide = [text.encode(code) for code in ("utf-16-le", "utf-16-be")
                      for text in self._texts]  # fmt: skip

    def hide(self, text: str) -> str:
        """`text` without them, and without what looks as one."""
        for secret in self._texts:
            text = text.replace(secret, HIDDEN)
        return redacted(text)

    def hide_in(self, body: bytes) -> bytes:
        """`body` without them: itself, where it holds none."""
        for secret in self._bytes if b"\0" not in body else (*self._bytes, *self._wide):
            if secret in body:
                # Of the same width: what is UTF-16 stays that.
                wide = secret.count(b"\0") * 2 >= len(secret)
                code = "utf-16-be" if wide and secret.startswith(b"\0") else "utf-16-le"
                body = body.replace(secret, HIDDEN.encode(code if wide else "ascii"))
        return body

    def clean(self, response: httpx.Response) -> httpx.Response:
        """`response`, which was read, or one like it that holds none of them."""
        came, reason = response.content, response.extensions.get("reason_phrase", b"")
        said = b"\n".join(value for _, value in response.headers.raw)
        content = self.hide_in(came)
        if content is came and self.hide_in(said) is said and self.hide_in(reason) is reason:
            return response
        headers = [(name, self.hide_in(value)) for name, value in response.headers.raw]
        whole = [pair for pair in headers if pair[0].lower() not in _OF_THE_BODY]
        return httpx.Response(
            response.status_code,
            headers=whole,
            content=content,
            request=response.request,
            extensions={**response.extensions, "reason_phrase": self.hide_in(reason)},
        )

    def clean_error(self, error: Exception) -> None:
        """Take them out of the words of `error`, and of what it was raised from."""
        causes: list[BaseException] = []
        one: BaseException | None = error
        while one is not None and one not in causes and len(causes) < 8:
            causes.append(one)
            one = one.__cause__
        for each in causes:
            each.args = tuple(self.hide(arg) if isinstance(arg, str) else arg for arg in each.args)


def hidden_in(text: str, request: Any) -> str:
    """`text`, which an answer to `request` says, without what the request shows to say who pays."""
    shown = {name: value for name, value in request.headers.items() if name.encode() in CREDENTIALS}
    return Secrets(shown, (str(request.url),)).hide(text)


# What writers of JSON escape that need not be, .NET's in capitals and Go's in small letters; and
# what writers of HTML do: Python's, Go's, and those that do as OWASP says.
_NEEDLESS = "+&<>'`"
_ENTITIES: tuple[Mapping[str, str], ...] = (
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;", "+": "&#43;"},
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;", "/": "&#x2F;",
     "=": "&#x3D;", "`": "&#x60;"},
)  # fmt: skip


def _forms(secret: str) -> set[str]:
    """`secret` as JSON, HTML, addresses and base64 have it."""
    escaped = json.dumps(secret)[1:-1]
    forms = {secret, quote(secret, safe=""), escaped, escaped.replace("/", "\\/")}
    if " " not in secret:  # a header's whole value is in no base64
        forms.add(base64.b64encode(secret.encode()).decode())
    for digits in ("04X", "04x"):
        codes = {ord(char): f"\\u{ord(char):{digits}}" for char in _NEEDLESS}
        forms |= {escaped.translate(codes), secret.translate({**codes, 34: f"\\u{34:{digits}}"})}
    for entities in _ENTITIES:
        forms.add(secret.translate({ord(char): text for char, text in entities.items()}))
    return forms


_OF_THE_BODY = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


def _in_url(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return set()
    found = {unquote(password), password}
    if user:
        plain = f"{unquote(user)}:{unquote(password)}"
        found |= {user if not password else "", base64.b64encode(plain.encode()).decode()}
    for name, value in parse_qsl(parts.query):
        if redacted(f"?{name}={value}") != f"?{name}={value}":
            found.add(value)
    return found

"""Keys and addresses, as people set them in the environment."""

from __future__ import annotations

from urllib.parse import urlsplit

from headway.errors import HeadwayError

__all__ = ["KEY_VARIABLE", "URL_VARIABLE", "InvalidSettings", "check_key", "check_url"]

KEY_VARIABLE = "TOGETHER_API_KEY"
URL_VARIABLE = "TOGETHER_BASE_URL"

_KEYS_PAGE = "https://api.together.ai/settings/api-keys"


class InvalidSettings(HeadwayError, ValueError):
    """A key or an address that cannot be used; the message names the variable to set."""


def check_key(key: str | None, variable: str = KEY_VARIABLE) -> str:
    """`key`, or `InvalidSettings` when there is none or no request could carry it.

    `variable` is the one of the environment that should hold it.
    """
    if not key or not key.strip():
        where = f" ({_KEYS_PAGE})" if variable == KEY_VARIABLE else ""
        raise InvalidSettings(f"no API key. Set it first: export {variable}=…{where}")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSettings(
            f"the API key in {variable} holds a space, a line break or another character that "
            "a key cannot have. Copy it again, without what stands around it"
        )
    return key


def check_url(url: object | None) -> str | None:
    """`url`, or `InvalidSettings` when the SDK could not use it; None is the SDK's default."""
    if url is None:
        return None
    text = str(url)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidSettings(
            f"{URL_VARIABLE}={text!r} is not a web address. "
            "Use one like https://api.together.ai, or unset it"
        )
    if parts.path.rstrip("/").endswith("/v1"):
        fixed = text.rstrip("/").removesuffix("/v1")
        raise InvalidSettings(
            f"{URL_VARIABLE}={text!r} ends in /v1, which the SDK adds by itself. Use {fixed}"
        )
    return text

"""What a request identifies its caller by, as a hash; and 401s that only ask for it."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl

from headway._core.queue.credentials import Credential

__all__ = ["Replies", "is_challenge", "is_credential", "name_of"]

# Headers that say who pays, in lower case: providers', clouds' and gateways' (Kong's, RapidAPI's,
# Portkey's, LiteLLM's, Cloudflare's, Helicone's). A cookie is none: servers change it with answers.
_CREDENTIAL = re.compile(
    r"(?:.*[-_])?(?:api[-_]?(?:key|token)|rapidapi-key|auth(?:orization|[-_](?:key|token))?|access[-_]token)"
    r"|ocp-apim-subscription-key|x-amz-security-token|x-functions-key|private-token"
)
_NOT_OURS = frozenset({"proxy-authorization"})  # a proxy's own, who says 407


@lru_cache(maxsize=512)
def is_credential(name: bytes) -> bool:
    """Whether the header `name`, in any case, says who pays."""
    said = name.decode("latin-1").lower()
    return said not in _NOT_OURS and _CREDENTIAL.fullmatch(said) is not None


_PARAMETERS = frozenset({"key", "api_key", "api-key", "apikey", "access_token", "token"})

# Schemes whose first 401 is a question, with what of their answer stands for the caller: the rest
# is another with every request.
_ASKING = frozenset({"digest", "negotiate", "ntlm", "kerberos", "scram-sha-256", "hoba", "mutual"})
_FIXED = {
    "digest": ("username", "realm"),
    "aws4-hmac-sha256": ("credential",),
    "aws4-ecdsa-p256-sha256": ("credential",),
    "hmac": ("username", "keyid", "id"),
    "signature": ("keyid",),
}

_MOST = 100  # refusals whose answers are kept
_HOP = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection"})


def name_of(request: Any) -> str:
    """A hash of what `request`, of either library, says of its caller, and to whom: two requests
    with the same key at one server have the same. Nothing of the key can be read from it.
    """
    url = request.url
    said = [url.raw_scheme, url.netloc]
    for name, value in request.headers.raw:
        if is_credential(name):
            said += (name.lower(), value if value.startswith(b"Bearer ") else _lasting(value))
    if query := url.query:
        for parameter, given in parse_qsl(query.decode("latin-1")):
            if parameter.lower() in _PARAMETERS:
                said.append(f"?{parameter}\n{given}".encode())
    return blake2b(b"\n".join(said), digest_size=16).hexdigest()


def _lasting(value: bytes) -> bytes:
    """What of a header's `value` is the same in all requests of one caller."""
    scheme, _, rest = value.partition(b" ")
    fixed = _FIXED.get(scheme.decode("latin-1").lower())
    if fixed is None:
        return value
    parts = []
    for part in rest.decode("latin-1").split(","):
        name, _, given = part.strip().partition("=")
        if name.lower() in fixed:
            # AWS names the day and the region behind the key, with slashes.
            parts.append(given.strip('"').partition("/")[0])
    return scheme + " ".join(parts).encode("latin-1") if parts else value


def is_challenge(request: Any, response: Any) -> bool:
    """Whether `response`, a 401, only asks for what the scheme of its server needs to know before
    a caller can answer: such as Digest's nonce, which is new or too old.
    """
    sent, _, token = request.headers.get("authorization", "").partition(" ")
    for given in response.headers.get_list("www-authenticate"):
        scheme, _, rest = given.strip().partition(" ")
        scheme = scheme.lower()
        if scheme not in _ASKING:
            continue
        if sent.lower() != scheme or "stale=true" in rest.lower().replace(" ", "").replace('"', ""):
            return True
        if scheme != "digest" and token and rest:  # the next step of several
            return True
    return False


REPEATED = (
    "headway: this is the server's last answer to the same key, which is not asked again before "
    "scheduler.reset()"
)


class Replies:
    """The last refusals of credentials: what a server would answer them again."""

    def __init__(self) -> None:
        self._kept: dict[Credential, tuple[int, list[tuple[str, str]], bytes, Any]] = {}

    def keep(self, credential: Credential, response: Any, body: bytes, refusal: Any) -> None:
        """Keep the answer to `credential`, whose body says `refusal`."""
        headers = [(key, value) for key, value in response.headers.multi_items()
                   if key.lower() not in _HOP]  # fmt: skip
        self._kept.pop(credential, None)
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[credential] = response.status_code, headers, body, refusal

    def again(self, library: Any, credential: Credential, request: Any) -> tuple[Any, Any] | None:
        """The same answer, as a response to `request`, and what it says; None for none kept."""
        kept = self._kept.get(credential)
        if kept is None:
            return None
        status, headers, body, refusal = kept
        response = library.Response(status, headers=headers, content=body, request=request)
        response.extensions["headway"] = REPEATED
        return response, refusal

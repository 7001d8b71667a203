"""Images, sound and documents in a request: the tokens that they are billed, and what of the body
is theirs, which is no text.

The rules are the providers' own, as published in November 2025:

- OpenAI ("Images and vision"): a detailed image is fitted into 2048 x 2048 and then to 768 on its
  shorter side, and costs a base and so many tokens for each tile of 512 pixels, 85 and 170 for most
  models; at low detail the base alone. The small models of 2025 count patches of 32 pixels, 1,536
  at most, times a factor. ("Audio": a token for a tenth of a second.)
- Anthropic ("Vision"): width x height / 750, after fitting into 1,568 pixels; 1,600 at most.
  ("PDF support": up to 3,000 a page for its text, and its image.)
- Gemini ("Token counting"): 258 for an image up to 384 x 384, and for each tile of 768 pixels of a
  larger one, and of a page; 32 a second of sound, 263 a second of video.

The rule is that of the model's maker, where its name tells, else that of the form; other models
count as OpenAI's. What cannot be known (a link, a format without a reader here) is estimated on the
high side: an image as the largest that the rule knows, sound at 2,000 bytes a second (a low rate of
speech), video at 62,500, a document at a page for 20,000 bytes; of what is behind a link, 300
seconds, or ten pages. An image of Gemini's counts nine tiles then. OpenAI reads a page as its text
and its image: 2,300 tokens.

The size of an image is read of its first bytes (PNG, JPEG, GIF, WebP); no pixel is decoded.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["Media", "media_in"]


class Media(NamedTuple):
    """Of what is no text in a request: its `tokens`, and the `size` in bytes that it has there."""

    tokens: int = 0
    size: int = 0


_NO_MEDIA = Media()

_HEAD = 256 * 1024  # characters of base64 that are decoded: what stands before a JPEG's size
_WHOLE = 32 * 1024 * 1024  # and of a document, for its pages
_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")
_DATA_URL = re.compile(r"data:([^;,]{0,100})[^,]{0,200},")
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\r\n]{16,}={0,2}")
_LINK = re.compile(r"(?:https?|gs|s3|file)://")

# What is not looked through: it holds none, and may be large.
_NEVER = frozenset(
    {
        "function_call", "functions", "generationConfig", "generation_config", "metadata",
        "response_format", "safety_settings", "tool_calls", "tools",
    }
)  # fmt: skip
_HOLDERS = (dict, list)
# Members whose text is media: as base64, a data URL or a link.
_NAMES = frozenset(
    {
        "audio", "audio_url", "b64_json", "bytes", "data", "document_url", "fileUri", "file_data",
        "file_id", "file_uri", "file_url", "image", "image_base64", "image_url", "images",
        "input_audio", "input_image", "result", "uri", "url", "video_url",
    }
)  # fmt: skip
# Links are media under the names of these, and not wherever a "url" stands.
_LINKED = {
    "audio_url": "audio", "document_url": "document", "file_uri": "file", "file_url": "document",
    "fileUri": "file", "image": "image", "image_url": "image", "images": "image",
    "input_audio": "audio", "input_image": "image", "video_url": "video",
}  # fmt: skip

_TYPES = {"image": "image", "document": "document", "video": "video", "audio": "audio"}
_MEDIUM = 4_096  # characters of base64 that are no text, whatever they are

_SOUND = 2_000  # bytes a second, where nothing tells
_RATES = {"pcm16": 48_000, "pcm": 48_000, "l16": 48_000, "g711_ulaw": 8_000, "g711_alaw": 8_000}
_VIDEO = 62_500
_SECONDS = 300  # of sound or video behind a link
_PAGE_BYTES = 20_000
_PAGES = 10  # of a document behind a link


class _Rule(NamedTuple):
    """Tokens of a second of sound, of one of video, of a page, and of an image of unknown size."""

    sound: float
    video: float
    page: int
    unknown: int


_OPENAI = _Rule(10, 263, 2_300, 0)
_ANTHROPIC = _Rule(32, 263, 4_600, 1_600)
_GEMINI = _Rule(32, 263, 258, 2_322)

# Base and tile of OpenAI's models, by the longest beginning of their names that is here.
_TILES = {
    "": (85, 170), "gpt-4o-mini": (2_833, 5_667), "gpt-5": (70, 140), "o1": (75, 150),
    "o3": (75, 150), "computer-use": (65, 129),
}  # fmt: skip
# The factor of those that count patches.
_PATCHES = {
    "gpt-4.1-mini": 1.62, "gpt-4.1-nano": 2.46, "gpt-5-mini": 1.62, "gpt-5-nano": 2.46,
    "o4-mini": 1.72,
}  # fmt: skip
_MOST_PATCHES = 1_536


def media_in(body: Mapping[str, Any]) -> Media:
    """What of a request with this JSON body is no text."""
    parts = list(_parts(body))
    if not parts:
        return _NO_MEDIA
    model = body.get("model")
    name = model.rpartition("/")[2].lower() if isinstance(model, str) else ""
    tokens = sum(_tokens(part, name) for part in parts)
    return Media(math.ceil(tokens), sum(part.size for part in parts))


class _Medium(NamedTuple):
    """One of them: `kind` is what is said of it, "" where nothing is; `encoded` is base64."""

    kind: str
    encoded: str
    size: int
    form: str = ""  # the member that tells what it is
    low: bool = False  # detail
    rate: int = 0  # bytes a second, 0 where they are not known


class _Member(NamedTuple):
    """A member `name` of `holder`, which is itself the member `above` of something of `type`."""

    name: str
    value: Any
    above: str = ""
    holder: Mapping[str, Any] = {}
    type: str = ""

    @property
    def form(self) -> str:
        return self.above if self.name in ("bytes", "data", "uri", "url") else self.name

    @property
    def said(self) -> str:
        """What is said of its format."""
        each = map(self.holder.get, ("media_type", "mime_type", "mimeType", "format"))
        return next((said.lower() for said in each if isinstance(said, str)), "")


def _parts(body: Mapping[str, Any]) -> Iterator[_Medium]:
    # Each with the name it has, or that its list has, and the `type` of what holds it: most bodies
    # hold prose alone, and are through in microseconds.
    rest: list[tuple[Any, str, str]] = [(body, "", "")]
    while rest:
        value, above, type_ = rest.pop()
        if type(value) is list:
            rest.extend([(each, above, type_) for each in value if isinstance(each, _HOLDERS)])
            continue
        for name, each in value.items():
            kind = type(each)
            if kind is str:
                if name in _NAMES and (part := _part(_Member(name, each, above, value, type_))):
                    yield part
            elif (kind is dict or kind is list) and name not in _NEVER:
                said = value.get("type")
                rest.append((each, name, said if isinstance(said, str) else ""))
                if name in _NAMES and isinstance(each, list):
                    texts = (_Member(name, text, above, value) for text in each)
                    yield from filter(None, (_part(m) for m in texts if isinstance(m.value, str)))


def _part(member: _Member) -> _Medium | None:
    """The media in a member that is text; None where it is just that."""
    text, form, said = member.value, member.form, member.said
    low = member.holder.get("detail") == "low"
    named = _kind_of(said) or _LINKED.get(form, "")
    if form == "result":  # of a tool: an image where OpenAI has made it, which comes back so
        if member.holder.get("type") != "image_generation_call":
            return None
        named = "image"
    if form == "source":
        named = _kind_of(said) or _TYPES.get(member.type, "")
    if member.name == "file_id":
        image = "image" in member.above or "image" in str(member.holder.get("type"))
        return _Medium("image" if image else "document", "", len(text), form, low)
    rate = _RATES.get(said.rpartition("/")[2].partition(";")[0], 0)
    if (url := _DATA_URL.match(text)) is not None:
        encoded = text[url.end() :] if ";base64" in url[0] else ""
        if url[1].startswith("text/"):
            return _Medium("text", encoded, len(text)) if encoded else None
        return _Medium(_kind_of(url[1].lower()) or named, encoded, len(text), form, low, rate)
    if _LINK.match(text):
        return _Medium(named, "", len(text), form, low) if named else None
    if member.holder.get("type") == "text" or said.startswith("text/"):
        return None
    if _BASE64.fullmatch(text[:256]) is None:
        return None
    part = _Medium(named, text, len(text), form, low, rate)
    return part if named or len(text) > _MEDIUM or _is_known(text) else None


def _is_known(encoded: str) -> bool:
    """Whether short base64, of which nobody says what it is, is media at all."""
    head = _decoded(encoded, _MEDIUM)
    return _dimensions(head) is not None or head.startswith(b"%PDF") or _byte_rate(head) > 0


def _kind_of(said: str) -> str:
    """The kind of a MIME type, or of a format's name."""
    for kind in ("image", "audio", "video"):
        if said.startswith(f"{kind}/"):
            return kind
    if said.endswith("pdf") or said.startswith("application/"):
        return "document"
    if said in ("wav", "mp3", "flac", "opus", "ogg", "aac", "m4a", *_RATES):
        return "audio"
    return "image" if said in ("png", "jpeg", "jpg", "gif", "webp") else ""


# -- tokens ------------------------------------------------------------------------------------


def _rule_of(model: str, form: str) -> _Rule:
    if "claude" in model:
        return _ANTHROPIC
    if "gemini" in model or "gemma" in model:
        return _GEMINI
    if model.startswith(("gpt", "o1", "o3", "o4", "chatgpt", "computer-use")):
        return _OPENAI
    if form in ("inline_data", "inlineData", "file_data", "fileData", "fileUri", "file_uri"):
        return _GEMINI
    return _ANTHROPIC if form == "source" else _OPENAI


def _tokens(part: _Medium, model: str) -> float:
    rule = _rule_of(model, part.form)
    stored = len(part.encoded.rstrip("=")) * 3 // 4
    if part.kind == "text":
        return stored / 4
    head = _decoded(part.encoded, _HEAD)
    size = _dimensions(head)
    rate = part.rate or _byte_rate(head)
    if size is not None:
        kind = "image"
    elif head.startswith(b"%PDF"):
        kind = "document"
    else:
        kind = part.kind or ("audio" if rate else "image")
    if kind == "audio":
        return rule.sound * (stored / (rate or _SOUND) if stored else _SECONDS)
    if kind == "video":
        return rule.video * (stored / _VIDEO if stored else _SECONDS)
    if kind in ("document", "file"):
        return float(rule.page * _pages(part.encoded, stored))
    return _image(rule, model, size, low=part.low)


def _pages(encoded: str, stored: int) -> int:
    if not stored:
        return _PAGES
    counted = len(_PAGE.findall(_decoded(encoded, _WHOLE)))
    return counted or math.ceil(stored / _PAGE_BYTES)


def _image(rule: _Rule, model: str, size: tuple[int, int] | None, *, low: bool) -> float:
    """Tokens of an image of that width and height, None where they are not known."""
    if rule is _OPENAI:
        return _openai_image(model, size, low=low)
    if size is None:
        return rule.unknown
    width, height = size
    if rule is _GEMINI:
        if max(size) <= 384:
            return 258
        return 258 * math.ceil(width / 768) * math.ceil(height / 768)
    scale = min(1.0, 1_568 / max(size))
    return min(1_600.0, max(1.0, math.ceil(width * scale * height * scale / 750)))


def _openai_image(model: str, size: tuple[int, int] | None, *, low: bool) -> float:
    factor = next((f for name, f in _PATCHES.items() if model.startswith(name)), None)
    if factor is not None:
        patches = _MOST_PATCHES
        if size is not None:
            patches = min(patches, math.ceil(size[0] / 32) * math.ceil(size[1] / 32))
        return math.ceil(patches * factor)
    base, tile = _TILES[max((name for name in _TILES if model.startswith(name)), key=len)]
    if low:
        return base
    if size is None:
        return base + 8 * tile  # 768 x 2,048: none has more tiles
    width, height = size
    scale = min(1.0, 2_048 / max(size))
    scale *= min(1.0, 768 / (min(size) * scale))
    tiles = math.ceil(round(width * scale, 3) / 512) * math.ceil(round(height * scale, 3) / 512)
    return base + tile * max(1, tiles)


# -- what stands in the first bytes ------------------------------------------------------------


def _decoded(text: str, most: int) -> bytes:
    """The beginning of what base64 says: b"" for what is none."""
    head = text[:most].translate(_PLAIN)
    head = head[: len(head) // 4 * 4] if len(text) > most else head.rstrip("=")
    try:
        return base64.b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return b""


_PLAIN = str.maketrans({"-": "+", "_": "/", "\r": None, "\n": None, " ": None})


def _dimensions(head: bytes) -> tuple[int, int] | None:
    """Width and height of the image that starts with `head`; None where they are not found."""
    found: tuple[int, int] | None = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
        found = _number(head[16:20]), _number(head[20:24])
    elif head.startswith((b"GIF87a", b"GIF89a")):
        found = _little(head[6:8]), _little(head[8:10])
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        found = _webp(head)
    elif head.startswith(b"\xff\xd8"):
        found = _jpeg(head)
    return found if found is not None and min(found) > 0 else None


def _webp(head: bytes) -> tuple[int, int] | None:
    chunk = head[12:16]
    if chunk == b"VP8X":
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    if chunk == b"VP8L" and len(head) >= 25:
        bits = _little(head[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """By the markers up to the start of a frame, each with its length."""
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            return None
        code = head[at + 1]
        if code == 0xFF:  # filling
            at += 1
        elif 0xC0 <= code <= 0xCF and code not in (0xC4, 0xC8, 0xCC):
            return _number(head[at + 7 : at + 9]), _number(head[at + 5 : at + 7])
        else:
            at += 2 if code == 0x01 or 0xD0 <= code <= 0xD7 else 2 + _number(head[at + 2 : at + 4])
    return None


# Kilobits a second of a frame of MPEG-1 and of MPEG-2 sound, layer III.
_MP3 = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
)


def _byte_rate(head: bytes) -> int:
    """Bytes a second of the sound that starts with `head`: WAV and MP3; 0 where it is not found."""
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        at = head.find(b"fmt ", 12, 4_096)
        return _little(head[at + 16 : at + 20]) if at >= 0 else 0
    at = 0
    if head.startswith(b"ID3") and len(head) > 10:
        sizes = head[6:10]
        at = 10 + (sizes[0] << 21 | sizes[1] << 14 | sizes[2] << 7 | sizes[3])
    frame = head[at : at + 3]
    if len(frame) == 3 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2:
        return _MP3[frame[1] >> 3 & 1][frame[2] >> 4] * 125
    return 0


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")

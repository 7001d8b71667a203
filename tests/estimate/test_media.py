"""Images, sound and documents are tokens by the providers' rules, in every form of a request."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway import bulk
from headway.bulk.budget import needed
from headway.bulk.input.formats import Request, RequestReader, estimate_tokens
from headway.bulk.input.lines import Line
from headway.bulk.plan.plan import plan
from headway.estimate import Estimator, Media, media_in
from headway.rates import Limits


def png(width: int, height: int) -> bytes:
    head = struct.pack(">I4sII5s", 13, b"IHDR", width, height, b"\x08\2\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + bytes(40_000)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(9)


def jpeg(width: int, height: int, *, exif: int = 60_000) -> bytes:
    app1 = b"\xff\xe1" + struct.pack(">H", exif + 2) + bytes(exif)
    table = b"\xff\xdb\x00\x43" + bytes(65)
    frame = b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + bytes(12)
    return b"\xff\xd8" + app1 + b"\xff" + table + frame


def webp(kind: bytes, data: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(data)) + data


def wav(seconds: int, rate: int = 32_000) -> bytes:
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate // 2, rate, 2, 16)
    return head + b"data" + struct.pack("<I", rate * seconds) + bytes(rate * seconds)


def mp3(seconds: int) -> bytes:
    tag = b"ID3\x04\0\0\0\0\x02\x01" + bytes(257)
    return tag + b"\xff\xfb\x90\x00" + bytes(16_000 * seconds)  # 128 kbit/s


def pdf(pages: int) -> bytes:
    page = b"<< /Type /Page /Parent 2 0 R >>\n" + bytes(3_000)
    return b"%PDF-1.7\n<< /Type /Pages >>" + page * pages


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chat(*parts: Any, model: str = "gpt-4o") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": list(parts)}]}


def image_url(data: bytes, **more: str) -> dict[str, Any]:
    url = f"data:image/png;base64,{encoded(data)}"
    return {"type": "image_url", "image_url": {"url": url, **more}}


def source(kind: str, data: bytes, mime: str) -> dict[str, Any]:
    said = {"type": "base64", "media_type": mime, "data": encoded(data)}
    return {"type": kind, "source": said}


def gemini(data: bytes, mime: str, *, camel: bool = False) -> dict[str, Any]:
    name, type_ = ("inlineData", "mimeType") if camel else ("inline_data", "mime_type")
    return {"contents": [{"parts": [{name: {type_: mime, "data": encoded(data)}}]}]}


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        # OpenAI's: the examples of its page, 1024 x 1024 and 2048 x 4096.
        (chat(image_url(png(1024, 1024))), 765),
        (chat(image_url(png(2048, 4096))), 1105),
        (chat(image_url(png(2048, 4096), detail="low")), 85),
        (chat(image_url(png(512, 512))), 255),
        (chat(image_url(png(513, 512))), 425),
        (chat(image_url(png(1, 1))), 255),
        (chat(image_url(png(1024, 1024)), image_url(gif(512, 512))), 765 + 255),
        (chat(image_url(jpeg(1024, 1024))), 765),
        (chat(image_url(webp(b"VP8X", bytes(4) + b"\xff\x03\0\xff\x03\0"))), 765),
        (chat(image_url(webp(b"VP8L", b"\x2f" + struct.pack("<I", 1023 | 1023 << 14)))), 765),
        (chat(image_url(webp(b"VP8 ", bytes(6) + struct.pack("<HH", 1024, 1024)))), 765),
        (chat(image_url(png(1024, 1024)), model="gpt-4o-mini"), 2833 + 4 * 5667),
        (chat(image_url(png(1024, 1024)), model="gpt-4.1-mini"), 1659),
        (chat({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}), 1445),
        (chat({"type": "image_url", "image_url": "https://x.example/a.png"}), 1445),  # Mistral's
        (chat({"type": "image_url", "image_url": {"url": "https://x", "detail": "low"}}), 85),
        (chat({"type": "input_image", "image_url": "https://x.example/a"}), 1445),
        (chat({"type": "input_image", "file_id": "file-abc", "detail": "low"}), 85),
        (
            {
                "model": "gpt-4o",
                "input": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_text", "text": "?"},
                            {
                                "type": "input_image",
                                "image_url": f"data:image/jpeg;base64,{encoded(jpeg(512, 512))}",
                            },
                        ],
                    }
                ],
            },
            255,
        ),
        # The maker's rule, whatever the form.
        (chat(image_url(png(1000, 750)), model="anthropic/claude-sonnet-4"), 1000),
        (chat(image_url(png(1000, 700)), model="google/gemini-2.5-flash"), 516),
        # Anthropic's.
        (chat(source("image", png(200, 200), "image/png"), model="claude-opus-4"), 54),
        (chat(source("image", png(1000, 1000), "image/png"), model="claude-opus-4"), 1334),
        (chat(source("image", png(8000, 8000), "image/png"), model="claude-opus-4"), 1600),
        (
            chat({"type": "image", "source": {"type": "url", "url": "https://x"}}, model="claude"),
            1600,
        ),
        (chat(source("document", pdf(3), "application/pdf"), model="claude-opus-4"), 3 * 4600),
        (
            {
                "model": "claude",
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "content": [source("image", png(1000, 1000), "image/png")],
                            }
                        ],
                    }
                ],
            },
            1334,
        ),
        # Gemini's.
        (gemini(png(384, 384), "image/png"), 258),
        (gemini(png(385, 300), "image/png"), 258),
        (gemini(png(1536, 800), "image/png"), 4 * 258),
        (gemini(jpeg(1536, 768), "image/jpeg", camel=True), 2 * 258),
        (gemini(wav(60), "audio/wav"), 60 * 32 + 1),
        (gemini(pdf(4), "application/pdf"), 4 * 258),
        (gemini(bytes(62_500 * 10), "video/mp4"), 2630),
        (
            {
                "contents": [
                    {"parts": [{"file_data": {"mime_type": "audio/mp3", "file_uri": "gs://b/a"}}]}
                ]
            },
            9600,
        ),
        # Sound.
        (
            chat(
                {"type": "input_audio", "input_audio": {"data": encoded(wav(60)), "format": "wav"}}
            ),
            601,
        ),
        (
            chat(
                {"type": "input_audio", "input_audio": {"data": encoded(mp3(30)), "format": "mp3"}}
            ),
            301,
        ),
        (
            chat(
                {
                    "type": "input_audio",
                    "input_audio": {"data": encoded(bytes(48_000 * 9)), "format": "pcm16"},
                }
            ),
            90,
        ),
        (chat({"type": "audio_url", "audio_url": {"url": "https://x.example/a.ogg"}}), 3000),
        # Documents.
        (
            chat(
                {
                    "type": "file",
                    "file": {
                        "filename": "a.pdf",
                        "file_data": f"data:application/pdf;base64,{encoded(pdf(2))}",
                    },
                }
            ),
            4600,
        ),
        (chat({"type": "input_file", "file_url": "https://x.example/a.pdf"}), 23_000),
        (
            chat(
                {
                    "type": "input_file",
                    "file_data": f"data:text/plain;base64,{encoded(b'word ' * 80)}",
                }
            ),
            100,
        ),
        # Bedrock's and Ollama's.
        (
            {
                "model": "nova",
                "messages": [
                    {
                        "content": [
                            {
                                "image": {
                                    "format": "png",
                                    "source": {"bytes": encoded(png(750, 100))},
                                }
                            }
                        ]
                    }
                ],
            },
            100,
        ),
        (
            {
                "model": "llava",
                "messages": [
                    {"role": "user", "content": "?", "images": [encoded(png(512, 512))] * 2}
                ],
            },
            510,
        ),
    ],
)
def test_what_is_no_text_counts_by_its_makers_rule(body: dict[str, Any], tokens: int) -> None:
    found = media_in(body)
    assert found.tokens == tokens
    text = len(json.dumps(body)) - found.size
    assert 0 < text < 300
    # The library's reservation, a run's, its bounds, `--check` and `plan` alike.
    assert Estimator()({**body, "max_tokens": 0}, len(json.dumps(body))) == text / 4 + tokens
    line = json.dumps(body).encode()
    request = RequestReader("/v1/chat/completions").parse(Line(1, len(line), line), None)
    assert isinstance(request, Request)
    assert estimate_tokens(request) == text // 4 + tokens
    assert needed(request)[0] == text // 3 + tokens + 1
    assert plan([request], Limits("60/min")).input_tokens == pytest.approx(text / 4 + tokens)


@pytest.mark.parametrize(
    "body",
    [
        chat({"type": "text", "text": encoded(png(9, 9))}),
        {"messages": [{"content": "data:image/png;base64," + encoded(png(9, 9))}]},
        {"input": "https://x.example/a.png"},
        {"data": "supercalifragilisticexpialidocious", "url": "https://x.example"},
        {"tools": [{"image_url": "https://x.example/a.png"}], "metadata": {"url": "https://x"}},
        {"messages": [{"content": [source("document", b"word", "text/plain")]}]},
        {"image_url": None, "input_audio": 3, "source": [1, None, ["x"]]},
    ],
)
def test_what_is_text_stays_text(body: dict[str, Any]) -> None:
    assert media_in(body) == Media()


def test_an_image_that_a_model_has_made_and_gets_back_is_one() -> None:
    """The `result` of OpenAI's tool is an image; one of another tool is what it says."""
    result = encoded(png(512, 512) + bytes(300_000))
    made = {"type": "image_generation_call", "id": "ig_1", "result": result}
    assert media_in({"model": "gpt-4o", "input": [made]}) == Media(255, len(result))
    for type_ in ("function_call_output", ""):
        assert media_in({"model": "gpt-4o", "input": [{**made, "type": type_}]}) == Media(0, 0)


def test_check_counts_them_too(tmp_path: Path) -> None:
    body = chat(image_url(png(1024, 1024)))
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps(body)}\n")
    source = bulk.open_source(path, bulk.Shape())
    found = bulk.check(source)
    source.close()
    assert 765 < found.input_tokens < 850


HEADS = st.sampled_from(
    [png(9, 9)[:30], gif(9, 9), jpeg(9, 9, exif=5), webp(b"VP8L", b"\x2f"), wav(0)[:20],
     mp3(0)[:12], b"\xff\xd8\xff\xe1\x00\x00", b"%PDF"]
)  # fmt: skip


@given(HEADS, st.binary(max_size=40), st.integers(0, 40))
def test_no_first_bytes_make_it_raise(head: bytes, rest: bytes, cut: int) -> None:
    found = media_in(chat(image_url(head[:cut] + rest)))
    assert 0 < found.tokens <= 10**6

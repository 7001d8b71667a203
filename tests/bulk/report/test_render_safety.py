"""The page as an attacker, or a broken disk, would have it: nothing raw, nothing that hangs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import random
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from depth import depth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import ChoiceLoader, DictLoader
from reports import CASES, HOSTILE, HOSTILE_ERROR, failure, make_run, sample, session, words

from headway.bulk.report import render, write_report
from headway.bulk.report.measured import Content, Measured
from headway.bulk.report.sections import SECTIONS, Section
from headway.errors import HeadwayError


def policy_of(page: str) -> dict[str, str]:
    """The directives of a page's Content Security Policy."""
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert found
    directives = (part.strip().partition(" ") for part in html.unescape(found[1]).split(";"))
    return {name: value for name, _, value in directives}


def hashed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@pytest.mark.parametrize("case", CASES)
def test_the_policy_allows_this_script_and_this_style_alone(tmp_path: Path, case: str) -> None:
    run = make_run(tmp_path, CASES[case](), [HOSTILE_ERROR])
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    [style] = re.findall(r"<style>(.*?)</style>", page, re.S)
    [script] = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert policy_of(page) == {
        "default-src": "'none'", "style-src": hashed(style), "script-src": hashed(script),
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert "unsafe" not in page
    assert not re.findall(
        r"\s(?:style|on\w+)\s*=", page[page.index("<body>") :].split("<script")[0]
    )


ESCAPES = "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07 \x07\x08\x7f\x9b31m\u2028\ufeff"


def test_no_byte_of_a_provider_or_a_file_reaches_the_page_raw(tmp_path: Path) -> None:
    text = f"{HOSTILE}{ESCAPES}{{{{ 7 * 7 }}}}{{% raw %}}[/nope]"
    lines = [
        {"session": session(input=text, provider=text, version=text,
                            limits={"requests": [text], "tokens": [text]})},
        sample(1, 1, models={text: {"rows": 3}}, refused={text: 2}, binds={text: 1},
               failed={text: 1}),
        {"end": {"t": 2, "reason": text, "said": text}},
    ]  # fmt: skip
    rows = [
        failure(1, text, code=text, custom_id=text, response={"status_code": 400, "body": text})
    ]
    write_report(make_run(tmp_path, lines, rows), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert all(c.isprintable() or c in "\n\N{NO-BREAK SPACE}" for c in page)
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    assert body.count("&lt;/script&gt;&lt;script&gt;") >= 8
    assert "{{ 7 * 7 }}{% raw %}[/nope]" in words(page)
    assert set(re.findall(r"<(\w+)", body)) <= {
        "body", "main", "header", "h1", "h2", "h3", "p", "b", "i", "dl", "div", "dt", "dd",
        "section", "figure", "figcaption", "span", "svg", "path", "title", "table", "thead",
        "tbody", "tr", "td", "th", "details", "summary", "code", "pre", "footer",
    }  # fmt: skip


# -- traces that were damaged ------------------------------------------------------------------

RECORDED = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in [
        {"session": session(0)},
        *(sample(n, 1, refused={"rate": 1}, failed={"http_400": 1}) for n in range(1, 20)),
        {"end": {"t": 1_764_000_020.0, "reason": "interrupted", "said": "Ctrl-C"}},
        {"session": session(171, 1_764_003_600.0)},
        *(sample(3600 + n, 1) for n in range(1, 20)),
    ]
)
FAILED = b"".join(
    json.dumps(failure(n, f"too long: {n} tokens")).encode() + b"\n" for n in range(5)
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
NUMBERS = [b"0", b"-1", b"1e308", b"-1e308", b"5e-324", b"1e18", b"9223372036854775807",
           b"99999999999999999999999999", b"1e999", b"NaN", b"null", b"true", b'""', b"[]", b"{}",
           b"0.0000001", b"1e12", b"253402300800"]  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with some of what disks, editors and attackers do to a file."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) or 1)
        kind = chance.randrange(6)
        if kind <= 2 and (found := list(NUMBER.finditer(data))):
            one = chance.choice(found)
            data = data[: one.start()] + chance.choice(NUMBERS) + data[one.end() :]
        elif kind == 3:
            data = data[:at] + chance.randbytes(chance.randint(1, 40)) + data[at:]
        elif kind == 4:
            data = data[:at] + bytes(chance.randint(0, 600)) + data[at + chance.randint(0, 600) :]
        else:
            lines = data.split(b"\n")
            chance.shuffle(lines)
            data = b"\n".join(lines[: chance.randint(0, len(lines))])
    return data


@settings(max_examples=depth(20, 500), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_damaged_trace_gives_a_page_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("damaged")
    run = make_run(folder, [damaged(RECORDED, chance)], [damaged(FAILED, chance)])
    try:
        write_report(run, folder / "report.html", redact=chance.random() < 0.3)
    except HeadwayError:
        return  # a message; nothing else may be raised
    page = (folder / "report.html").read_text("utf-8")
    assert len(page) < 400_000
    [data] = re.findall(r'id="data">(.*?)</script>', page, re.S)
    json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


SAMPLED = {
    "t": b"%s", "span": b"%s", "sent": b"%s", "done": b"%s", "limit": b"%s", "input": b"%s",
    "cost": b"%s", "in_flight": b"%s", "binds": b'{"requests": %s}', "latency": b'{"40": %s}',
    "wait": b'{"%s": 1}', "refused": b'{"rate": %s}',
}  # fmt: skip


def test_any_number_in_a_sample_gives_a_page(tmp_path: Path) -> None:
    wrong: list[tuple[str, bytes, str]] = []
    numbers = NUMBERS[:9] + NUMBERS[-3:]
    for at, (field, number) in enumerate(product(SAMPLED, numbers)):
        lines: list[Any] = [{"session": session()}, *(sample(n, 1) for n in range(1, 6))]
        line = json.dumps({**sample(6, 1), field: "HERE"}).encode()
        lines.append(line.replace(b'"HERE"', SAMPLED[field] % number) + b"\n")
        folder = tmp_path / str(at)
        folder.mkdir()
        try:
            write_report(make_run(folder, lines), folder / "report.html")
            page = words((folder / "report.html").read_text("utf-8"))
            wrong += [(field, number, page)] if "Sessions" not in page else []
        except Exception as error:
            wrong.append((field, number, repr(error)))
    assert wrong == []
    assert at == 143


# -- a section more ----------------------------------------------------------------------------


def test_a_section_is_a_function_a_template_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowest(run: Measured) -> Content | None:
        return Content() if run.sums.sent else None

    templates = render._templates()
    own = DictLoader({"slowest.html": "<section><h2>Slowest {{ '<b>' }}</h2></section>"})
    assert templates.loader is not None
    monkeypatch.setattr(templates, "loader", ChoiceLoader([own, templates.loader]))
    monkeypatch.setattr(render, "SECTIONS", (*SECTIONS, Section("slowest", slowest)))
    write_report(make_run(tmp_path, CASES["one_sample"]()), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<section><h2>Slowest &lt;b&gt;</h2></section>" in page
    assert page.index("Slowest") > page.index("Errors")

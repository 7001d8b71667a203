"""Runs of many kinds, made by hand, for the tests of the report."""

from __future__ import annotations

import html
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from headway._core.counters import Recent, Statistics
from headway.bulk.record.trace import Recorder
from headway.bulk.report import write_report

STARTED = 1_764_000_000.0


def statistics(**changes: Any) -> Statistics:
    base: dict[str, Any] = dict.fromkeys(Statistics.__slots__, 0)
    base |= {"refused": {}, "recent": Recent(0.0, 0, {}), "binds": "", "why": ""}
    return Statistics(**{**base, "capacity": math.inf, "pace": math.inf, **changes})


MODELS = [("meta-llama/Llama-3.3-70B-Instruct-Turbo", 0.7), ("Qwen/Qwen3-235B-A22B", 0.22),
          ("acme/private-finetune-7b", 0.08)]  # fmt: skip


def simulate(folder: Path, *, total: int = 60_000) -> Path:
    """A run with a ramp, a fall of the limit, an outage, a kill and a resume; its output's path."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "requests.results.jsonl"
    (folder / "requests.results.run").mkdir()
    chance = random.Random(4)
    errors: list[bytes] = []
    sent, done, line = 0, 0, 0
    refused: dict[str, int] = {}
    sessions = [(STARTED, 3900), (STARTED + 3900 + 9_480, 2700)]
    for number, (started, seconds) in enumerate(sessions):
        sent, refused = 0, {}
        recorder = Recorder(
            output.with_suffix(".run") / "trace.jsonl",
            {"version": "0.2.0", "started": started, "input": "requests.jsonl",
             "output": output.name, "provider": "together", "total": total, "already_done": line,
             "limits": {"requests": ["600/min"], "tokens": ["360k/min"], "concurrency": 64}},
        )  # fmt: skip
        recorder.sample(started, statistics())
        due, flight, slow = 0.0, 0, 1.0
        for second in range(1, seconds + 1):
            slow = max(0.6, min(2.5, slow + chance.gauss(0, 0.03)))
            limit = 9.7
            binds = "requests"
            wave = 1 + 0.6 * math.sin(second / 300)
            if number == 0 and second < 120:
                limit, binds = 1 + 8.7 * second / 120, "requests"
            elif number == 0 and 1500 <= second < 2100:
                limit = 6.2 if second > 1504 else 9.7
                if second <= 1504 or chance.random() < 0.02:
                    refused["rate"] = refused.get("rate", 0) + chance.randint(1, 4)
            elif 2300 < second < 2900 and number == 0:
                binds, limit = "tokens", 9.7
            if number == 1 and 1000 < second < 1500:
                binds = "concurrency"
            outage = number == 0 and 3000 <= second < 3240
            rate = limit
            if binds == "tokens":
                rate = 6.9 + chance.gauss(0, 0.3)
            if binds == "concurrency":
                rate = 7.5 + chance.gauss(0, 0.8)
            if outage:
                binds, rate = "gate", 0.05
                if chance.random() < 0.06 or second < 3004:
                    refused["transient"] = refused.get("transient", 0) + (5 if second < 3004 else 1)
            if chance.random() < 0.004:
                refused["capacity"] = refused.get("capacity", 0) + 1
            if second > seconds - 20 and number == 1:
                binds = ""
            due += rate
            count, due = int(due), due % 1
            sent += count
            for _ in range(count if not outage else 0):
                if line >= total:
                    break
                line += 1
                latency = slow * wave**0.5 * chance.lognormvariate(0.4, 0.5)
                attempts = 1 + (chance.random() < 0.03) + (chance.random() < 0.004)
                (model, price) = MODELS[chance.choices((0, 1, 2), (70, 25, 5))[0]]
                code = None
                draw = chance.random()
                if draw < 0.006:
                    code = (
                        "http_400"
                        if draw < 0.004
                        else "timeout"
                        if draw < 0.005
                        else "invalid_answer"
                    )
                    errors.append(failed_row(line, code, chance))
                else:
                    done += 1
                used = (
                    int(chance.lognormvariate(5.5, 0.4)),
                    int(chance.lognormvariate(5, 0.5) * wave),
                )
                if code:
                    used = (0, 0)
                recorder.row(
                    model=model, code=code, attempts=attempts, waited=0.08 * chance.expovariate(1),
                    latency=latency, size=900, input_tokens=used[0], output_tokens=used[1],
                    cost=None if price == 0.08 else price * sum(used) / 1e6,
                )  # fmt: skip
            flight = 1 if outage else round(rate * slow * 1.7 + chance.gauss(0, 1.5))
            recorder.sample(
                started + second,
                statistics(sent=sent, refused=dict(refused), in_flight=max(0, flight), queued=16,
                           binds=binds, pace=limit),
            )  # fmt: skip
        if number == 1:
            recorder.end(started + seconds, "stopped", "--max-cost 6 is reached: $5.99 are spent")
        recorder.close()
    output.write_bytes(b"")
    output.with_name("requests.results.errors.jsonl").write_bytes(b"".join(errors))
    return output


def failed_row(line: int, code: str, chance: random.Random) -> bytes:
    number = chance.randint(8200, 120_000)
    said = {
        "http_400": f"This model's maximum context length is 8192 tokens, but {number} were given",
        "timeout": "no answer within 600 s. It was tried 3 times",
        "invalid_answer": "the answer is not JSON (text/html): '<html><title>502 Bad Gateway'",
    }[code]
    if code == "http_400" and number % 5 == 0:
        said = "messages.0.content: Input should be a valid string"
    body: object = {"error": {"message": said, "type": "invalid_request_error", "param": None}}
    if code == "invalid_answer":
        body = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    status = {"http_400": 400, "invalid_answer": 200}.get(code)
    response = status and {"status_code": status, "request_id": f"req_{line}", "body": body}
    row = {"id": f"batch_req_{line}", "custom_id": f"review-{line:06}", "response": response,
           "error": {"code": code, "message": said}}  # fmt: skip
    return msgspec.json.encode(row) + b"\n"


# -- runs of every shape -----------------------------------------------------------------------


def session(number: int = 0, started: float = STARTED, **changes: Any) -> dict[str, Any]:
    return {"version": "0.2.0", "started": started, "input": "in.jsonl", "output": "out.jsonl",
            "provider": "together", "limits": {"requests": ["600/min"], "tokens": [],
            "concurrency": 8}, "total": 100, "already_done": number, **changes}  # fmt: skip


def sample(t: float, span: float, **changes: Any) -> dict[str, Any]:
    return {"t": STARTED + t, "span": span, "sent": int(9 * span), "done": int(9 * span),
            "limit": 10, "binds": {"requests": span}, "latency": {"40": int(9 * span)},
            "wait": {"-1": int(9 * span)}, "attempts": {"1": int(9 * span)}, "input": 100,
            "cost": 0.01, "output": 9, "in_flight": 3,
            "models": {"m": {"rows": int(9 * span), "input": 100, "output": 9, "cost": 0.01}},
            **changes}  # fmt: skip


def make_run(folder: Path, lines: list[Any], errors: list[Any] | None = None) -> Path:
    """A run with this trace and these error rows (bytes are written as they are)."""
    (folder / "in.results.run").mkdir(parents=True)

    def write(path: Path, rows: list[Any]) -> None:
        path.write_bytes(b"".join(
            row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows
        ))  # fmt: skip

    write(folder / "in.results.run" / "trace.jsonl", lines)
    if errors is not None:
        write(folder / "in.results.errors.jsonl", errors)
    return folder / "in.results.jsonl"


HOSTILE = "</script><script>document.title='owned'</script>\ud800\u0000\u202e&quot;'\"<img src=x>"
HOSTILE_ERROR = {
    "id": "batch_req_7", "custom_id": HOSTILE,
    "response": {"status_code": 400, "request_id": None, "body": HOSTILE},
    "error": {"code": f"c{HOSTILE}", "message": HOSTILE},
}  # fmt: skip


def hostile() -> list[Any]:
    return [
        {"session": session(input=f"x/{HOSTILE}.jsonl", provider=HOSTILE,
                            limits={"requests": [HOSTILE]}, version=HOSTILE)},
        sample(1, 1, models={HOSTILE: {"rows": 1}}, refused={HOSTILE: 2}, binds={HOSTILE: 1},
               failed={HOSTILE: 1}),
        {"end": {"t": STARTED + 2, "reason": HOSTILE, "said": HOSTILE}},
    ]  # fmt: skip


def days() -> list[Any]:
    lines: list[Any] = [{"session": session(total=3_000_000)}]
    t, span, count = 0.0, 1.0, 0
    while t < 3 * 86400:
        t, count = t + span, count + 1
        lines.append(sample(t, span, sent=int(span * (6 + 3 * math.sin(t / 9000))),
                            refused={"rate": 1} if count % 50 == 0 else {}))  # fmt: skip
        span *= 2 if count % 600 == 0 else 1
    return lines


def resumed(sessions: int, samples: int) -> list[Any]:
    lines: list[Any] = []
    for i in range(sessions):
        start = i * 5000.0
        lines.append({"session": session(i * samples * 9, STARTED + start, total=10_000)})
        lines += [sample(start + n, 1) for n in range(1, samples * (i % 3 + 1) + 1)]
    return lines


MANY = {f"org/model-{i}": {"rows": 10_000 - i, "input": 5, "output": 1, "cost": 0.001}
        for i in range(10_000)}  # fmt: skip

CASES: dict[str, Callable[[], list[Any]]] = {
    "nothing": list,
    "no_sample": lambda: [{"session": session()}],
    "one_sample": lambda: [{"session": session()}, sample(1, 1)],
    "no_rows": lambda: [{"session": session(total=0)}, {"t": STARTED + 1, "span": 1},
                        {"end": {"t": STARTED + 1, "reason": "done"}}],
    "no_span": lambda: [{"session": session()}, sample(1, 0)],
    "no_limits": lambda: [{"session": session(limits={}, total=None)},
                          *(sample(i, 1, limit=None, binds={}) for i in range(1, 50))],
    "far_limit": lambda: [{"session": session()}, *(sample(i, 1, limit=1e6) for i in range(1, 50))],
    "models": lambda: [{"session": session()}, sample(1, 1, models=MANY)],
    "unknown_prices": lambda: [{"session": session()}, sample(
        1, 1, cost=None, models={"m": {"rows": 9, "input": 8, "cost": None}})],
    "five_sessions": lambda: resumed(5, 40),
    "many_sessions": lambda: resumed(200, 2),
    "three_days": days,
    "clock_back": lambda: [{"session": session()}, sample(50, 1), sample(2, 1), sample(4, 1e8)],
    "hostile": hostile,
}  # fmt: skip


def report(folder: Path, case: str, **options: Any) -> str:
    errors = [HOSTILE_ERROR] if case == "hostile" else None
    run = make_run(folder, CASES[case](), errors)
    write_report(run, folder / "report.html", **options)
    return (folder / "report.html").read_text("utf-8")


# -- what the page says ------------------------------------------------------------------------


def words(page: str) -> str:
    """The text of a page, tags left out."""
    body = page[page.index("<body>") : page.index('<script type="application/json"')]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def data_of(page: str) -> dict[str, Any]:
    """The JSON inside a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return dict(json.loads(found[1]))


def failure(line: int, message: str, code: str = "http_400", **changes: Any) -> dict[str, Any]:
    return {"id": f"batch_req_{line}", "custom_id": f"id-{line}",
            "response": {"status_code": 400, "request_id": None, "body": {"said": "secret answer"}},
            "error": {"code": code, "message": message}, **changes}  # fmt: skip

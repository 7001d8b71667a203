"""The command line as a user meets it: what it prints, what it returns, what it leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llmock.pytest_plugin import LLMock
from rich.console import Console
from typer.testing import CliRunner, Result

from headway import __version__, cli
from headway.bulk import progress
from headway.bulk.run import Report
from headway.events import Kind


@pytest.fixture(autouse=True)
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with ten requests in it and a server in the environment."""
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key")
    monkeypatch.setenv("TOGETHER_BASE_URL", llmock.url + "/together")
    monkeypatch.chdir(tmp_path)
    write_requests(tmp_path / "requests.jsonl", 10)
    return tmp_path


@pytest.fixture
def signals() -> Iterator[None]:
    """What a run that was stopped leaves ignored is heard again."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def write_requests(path: Path, count: int) -> None:
    lines = (
        {"custom_id": f"q{number}", "body": {"model": "m", "messages": [message(number)]}}
        for number in range(count)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def message(number: int) -> dict[str, str]:
    return {"role": "user", "content": f"question {number}"}


def headway(*arguments: str) -> Result:
    return CliRunner().invoke(cli.build(), list(arguments), catch_exceptions=False)


def said(result: Result) -> str:
    """What the user reads, with the spaces that lay it out taken together."""
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def test_a_run_ends_with_a_summary_and_0(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "-o", "results.jsonl", "--rate", "60000/min")
    text = said(result)
    assert result.exit_code == 0, text
    assert "done 10 of 10 lines" in text
    assert "refused none" in text
    assert "of 60,000/min" in text
    assert "rows results.jsonl" in text
    assert len((folder / "results.jsonl").read_text().splitlines()) == 10


def test_the_output_is_beside_the_input_by_default(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "--tokens", "1M/min", "--concurrency", "2")
    assert result.exit_code == 0, said(result)
    assert "rows requests.results.jsonl" in said(result)
    assert (folder / "requests.results.jsonl").exists()


def test_a_failed_line_is_1(llmock: LLMock, folder: Path) -> None:
    llmock.fail(400, times=2)
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 1
    assert "done 8 of 10 lines failed 2 (2 http_400)" in said(result)


def test_refusals_are_counted_and_lose_nothing(llmock: LLMock) -> None:
    llmock.rate_limit(times=2, retry_after=0.01)
    result = headway("run", "requests.jsonl", "--concurrency", "1")
    assert result.exit_code == 0
    assert "refused 2 rate" in said(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--rate", "0/min"),
            "headway: --rate '0/min' is not a limit: a rate is a finite number above 0. "
            "Fix: --rate 600/min",
        ),
        (("--rate", "-1/min"), "--rate '-1/min' is not a limit"),
        (
            ("--rate", "700"),
            "headway: --rate '700': a rate is a number and a period. Fix: --rate 700/min",
        ),
        (("--rate", ""), "--rate '': a rate is a number and a period. Fix: --rate 600/min"),
        (("--rate", "1e-300/day"), "--rate '1e-300/day'"),
        (("--tokens", "nan/min"), "--tokens 'nan/min' is not a limit"),
        (("--tokens", "90k"), "Fix: --tokens 90k/min"),
        (("--tokens", "lots"), "Fix: --tokens 180k/min"),
        (
            ("--concurrency", "0"),
            "headway: --concurrency 0 is not a whole number from 1: it is how many attempts may "
            "be in flight at once. Fix: --concurrency 32",
        ),
        (("--concurrency", "-4"), "--concurrency -4 is not a whole number from 1"),
        (("--concurrency", "many"), "Invalid value for '--concurrency'"),
        (("-o", "requests.jsonl"), "the output requests.jsonl is the input itself"),
        (("-o", ""), "the output's name is empty. Give the path of a file with -o"),
        (("-o", "."), "the output . is a folder. Give a file with -o"),
        (
            ("-o", "-"),
            "rows cannot go to standard output yet. Give the path of a file with -o "
            "(./- for a file of that name)",
        ),
        (("-o", "x" * 300), f"cannot write {'x' * 300}: File name too long. Give another file"),
        (("-o", "/proc/out.jsonl"), "cannot write /proc/out.jsonl: No such file or directory"),
        (("-o", "no/out.jsonl"), "the folder no does not exist. Make it first: mkdir -p no"),
        (("--nonsense",), "No such option: --nonsense"),
    ],
)
def test_bad_usage_is_2_before_anything_is_sent(
    arguments: tuple[str, ...], message: str, llmock: LLMock, folder: Path
) -> None:
    result = headway("run", "requests.jsonl", *arguments)
    assert result.exit_code == 2
    assert message in said(result)
    assert not llmock.requests
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "headway: in.jsonl is empty."),
        ("{}".encode("utf-16"), "headway: in.jsonl is UTF-16, not UTF-8 text."),
        (None, "headway: in.jsonl does not exist. Check the path"),
    ],
)
def test_bad_input_is_2(data: bytes | None, message: str, folder: Path) -> None:
    if data is not None:
        (folder / "in.jsonl").write_bytes(data)
    result = headway("run", "in.jsonl")
    assert result.exit_code == 2
    assert message in said(result)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("-", "standard input cannot be read yet. Write the requests to a file, and give its path"),
        ("", "the input's name is empty. Give the path of a file"),
    ],
)
def test_names_that_are_no_input(name: str, message: str, folder: Path) -> None:
    (folder / "-").write_bytes((folder / "requests.jsonl").read_bytes())
    result = headway("run", name)
    assert result.exit_code == 2
    assert message in said(result)
    assert headway("run", "./-").exit_code == 0


def test_an_existing_output_is_2_and_says_the_way_out(folder: Path) -> None:
    (folder / "out.jsonl").write_text("precious\n")
    result = headway("run", "requests.jsonl", "-o", "out.jsonl")
    assert result.exit_code == 2
    assert said(result) == (
        "headway: out.jsonl exists already, and may hold results. "
        "Give another file with -o, or replace it with --overwrite"
    )
    assert headway("run", "requests.jsonl", "-o", "out.jsonl", "--overwrite").exit_code == 0
    assert "precious" not in (folder / "out.jsonl").read_text()


def test_a_missing_key_is_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOGETHER_API_KEY")
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 2
    assert said(result).startswith("headway: no API key. Set it first: export TOGETHER_API_KEY=…")


def test_a_wrong_key_is_2_and_names_the_variable(llmock: LLMock, folder: Path) -> None:
    llmock.fail(401, times=None, message="Invalid API key provided")
    result = headway("run", "requests.jsonl", "--concurrency", "1")
    assert result.exit_code == 2
    text = said(result)
    assert text.startswith("done 0 of 10 lines")  # the library's own line is not shown
    assert text.count("Invalid API key provided") == 1
    assert "reset()" not in text
    assert "not answered 10 lines have no row" in text
    assert "rows none written" in text
    assert text.endswith(
        "headway: the provider refuses the key (401: Invalid API key provided). "
        "Set TOGETHER_API_KEY to a valid one"
    )
    assert len(llmock.requests) == 1
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]


def test_an_empty_account_is_1(llmock: LLMock) -> None:
    llmock.fail(402, times=None, message="credit limit exceeded")
    result = headway("run", "requests.jsonl", "--concurrency", "1")
    assert result.exit_code == 1
    text = said(result)
    assert "the account has no credit left (402: credit limit exceeded)" in text
    assert text.count("credit limit exceeded") == 1
    assert "reset()" not in text


def test_404_for_every_line_names_the_address(llmock: LLMock) -> None:
    llmock.fail(404, times=9)
    assert "TOGETHER_BASE_URL" not in said(headway("run", "requests.jsonl"))
    llmock.fail(404, times=None)
    result = headway("run", "requests.jsonl", "--overwrite")
    assert result.exit_code == 1
    assert said(result).endswith(
        "headway: every line was answered with 404, not found. "
        "Check the address in TOGETHER_BASE_URL, and the names of the models"
    )


def test_a_full_disk_is_1() -> None:
    result = headway("run", "requests.jsonl", "-o", "/dev/full")
    assert result.exit_code == 1
    assert said(result).endswith(
        "headway: cannot go on: [Errno 28] No space left on device: '/dev/full'. Free some space, "
        "then run again with another -o: rows written are kept"
    )


def test_an_output_that_breaks_says_what_to_do() -> None:
    assert cli._cannot_go_on(OSError(5, "Input/output error", "out.jsonl")) == (
        "cannot go on: [Errno 5] Input/output error: 'out.jsonl'. Correct that, "
        "then run again with another -o: rows written are kept"
    )


# A process of its own, and the signals as a shell gives them: not ignored, as in the background.
CHILD = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from headway.cli import main
main()
"""


@pytest.mark.parametrize(
    ("first", "later", "code", "reason"),
    [
        (signal.SIGINT, None, 130, "stopped by Ctrl-C"),
        (signal.SIGTERM, None, 143, "stopped by SIGTERM"),
        (signal.SIGINT, signal.SIGINT, 130, "stopped by Ctrl-C"),
        (signal.SIGINT, signal.SIGTERM, 130, "stopped by Ctrl-C"),
    ],
)
def test_a_signal_ends_a_run_in_order(
    first: signal.Signals, later: signal.Signals | None, code: int, reason: str, llmock: LLMock
) -> None:
    llmock.rate_limit(times=None, retry_after=300)
    command = [sys.executable, "-c", CHILD, "run", "requests.jsonl"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        log = child.stderr.readline()  # the warning that nothing is sent for a while
        child.send_signal(first)
        text = ""
        for line in child.stderr:
            text += line
            if later is not None:  # while it says how far it is, and while it ends
                child.send_signal(later)
        assert child.wait() == code, log + text
    assert "refused (rate" in log
    assert "done 0 of 10 lines" in " ".join(text.split())
    assert text.splitlines()[-1] == f"headway: {reason}"


@pytest.mark.usefixtures("signals")
def test_ctrl_c_is_130_and_says_how_far_it_is(
    llmock: LLMock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Impatient(progress.PlainDisplay):
        def __call__(self, report: Report) -> None:
            super().__call__(report)
            if report.in_flight:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress, "display", Impatient)
    llmock.delay(2, times=None)
    write_requests(folder / "requests.jsonl", 500)
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 130
    text = said(result)
    assert "done 0 of 500 lines not answered 500 lines have no row" in text
    assert text.endswith("headway: stopped by Ctrl-C")


def test_without_arguments_it_shows_its_help() -> None:
    assert "run" in headway().output
    assert headway("--version").output == f"headway {__version__}\n"
    text = headway("run", "--help").output
    for option in ("--output", "--rate", "--tokens", "--concurrency", "--overwrite"):
        assert option in text


LAZY = ("headway.bulk", "headway.together")


@pytest.mark.parametrize("package", ["typer", "rich.console", "msgspec", "together"])
def test_a_missing_package_says_what_to_install(
    package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.startswith(LAZY)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys, "argv", ["headway", "run", "requests.jsonl"])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 2
    assert "Install it with: pip install 'headway[" in capsys.readouterr().err


# -- what a run shows --------------------------------------------------------------------------


def a_report(**changes: object) -> Report:
    fields: dict[str, object] = {
        "input": Path("in.jsonl"),
        "output": Path("out.jsonl"),
        "total": 4000,
        "done": 1000,
        "failed": {},
        "in_flight": 32,
        "sent": 1040,
        "refused": {},
        "tokens": 1_234_567,
        "limit": 10.0,
        "seconds": 100.0,
        "stopped": None,
    }
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


def shown(*reports: Report, terminal: bool) -> str:
    console = Console(record=True, force_terminal=terminal, width=100, file=sys.stderr)
    with progress.display(console) as display:
        for report in reports:
            display(report)
        assert display.last is reports[-1]
    return console.export_text()


def test_a_log_gets_a_line_now_and_then() -> None:
    reports = [a_report(seconds=seconds) for seconds in (1.0, 9.9, 10.1, 12.0, 20.2)]
    text = shown(*reports, terminal=False)
    assert text.splitlines() == [
        "1,000 of 4,000 done, 0 failed, 32 in flight; 6,172/min of 600/min; refused: none; "
        "about 30.3 s left",
        "1,000 of 4,000 done, 0 failed, 32 in flight; 3,086/min of 600/min; refused: none; "
        "about 1 min 1 s left",
    ]


def test_a_terminal_gets_a_bar() -> None:
    refused = {Kind.RATE: 7, Kind.TRANSIENT: 2}
    report = a_report(failed={"http_400": 3}, refused=refused, fault="ConnectError")
    text = shown(report, terminal=True)
    assert "1,003 of 4,000 lines, 1,000 done, 3 (3 http_400) failed, 32 in flight" in text
    assert (
        "623/min of 600/min; refused: 7 rate; faults: 2 (the last: ConnectError); "
        "about 4 min 59 s left"
    ) in text


def test_an_outage_is_seen_in_the_pace() -> None:
    report = a_report(seconds=11.0, refused={Kind.TRANSIENT: 12}, fault="http_500", done=0)
    assert shown(report, terminal=False) == (
        "0 of 4,000 done, 0 failed, 32 in flight; 5,667/min of 600/min; refused: none; "
        "faults: 12 (the last: http_500); no line finished yet\n"
    )


def test_a_summary_has_what_matters() -> None:
    console = Console(record=True, width=100, file=sys.stderr)
    console.print(
        progress.summary(
            a_report(
                failed={"http_400": 3},
                refused={Kind.RATE: 7, Kind.TRANSIENT: 2, Kind.PERMANENT: 3},
                seconds=3725.0,
                limit=None,
            )
        )
    )
    assert [" ".join(line.split()) for line in console.export_text().splitlines()] == [
        "done 1,000 of 4,000 lines",
        "failed 3 (3 http_400)",
        "not answered 2,997 lines have no row",
        "refused 7 rate",
        "faults 2",
        "tokens 1,234,567",
        "time 1 h 2 min",
        "rate 1,040 attempts, 17/min (no limit given)",
        "rows out.jsonl",
    ]

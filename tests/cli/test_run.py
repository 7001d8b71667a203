"""``headway run`` as a user meets it: what it prints, what it returns, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import (
    command,
    headway,
    ids_of,
    prepare,
    request_line,
    requests,
    rows_of,
    run_process,
    said,
    write_requests,
)  # fmt: skip
from llmock.pytest_plugin import LLMock

from headway import __version__
from headway.bulk import PROVIDERS


@pytest.fixture(autouse=True)
def folder(llmock: LLMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return prepare(tmp_path, llmock.url, monkeypatch)


def test_a_run_ends_with_a_summary_and_0(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "-o", "results.jsonl", "--rate", "60000/min")
    text = said(result)
    assert result.exit_code == 0, text
    assert "done 10 of 10 lines" in text
    assert "refused none" in text
    assert "of 60,000/min" in text
    assert "rows results.jsonl" in text
    assert len(rows_of(folder / "results.jsonl")) == 10


def test_the_output_is_beside_the_input_by_default(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "--tokens", "1M/min", "--concurrency", "2")
    assert result.exit_code == 0, said(result)
    assert "rows requests.results.jsonl" in said(result)
    assert (folder / "requests.results.jsonl").exists()


def test_a_path_is_no_markup(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "-o", "[red]x[b].jsonl")
    assert "rows [red]x[b].jsonl" in said(result)


def test_a_failed_line_is_1_and_stands_in_a_file_of_its_own(llmock: LLMock, folder: Path) -> None:
    llmock.fail(400, times=2)
    result = headway("run", "requests.jsonl")
    assert result.exit_code == 1
    text = said(result)
    assert "done 8 of 10 lines failed 2 (2 http_400)" in text
    assert text.endswith(
        "headway: 2 were refused for good, and would be again: put them, corrected, in a file of "
        "their own (see the errors file)"
    )
    failed = rows_of(folder / "requests.results.errors.jsonl")
    assert [row["error"]["code"] for row in failed] == ["http_400"] * 2


def test_refusals_are_counted_and_lose_nothing(llmock: LLMock) -> None:
    llmock.rate_limit(times=2, retry_after=0.01)
    write_requests(Path("requests.jsonl"), 4)  # without a limit it is careful after a refusal
    result = headway("run", "requests.jsonl", "--concurrency", "1")
    assert result.exit_code == 0
    assert "refused 2 rate" in said(result)


# -- what is refused before anything is sent -------------------------------------------------------


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
        (("-o", ""), "the output's name is empty. Fix: give the path of a file with -o"),
        (("-o", "."), "the output . is a folder. Fix: give a file with -o"),
        (
            ("-o", "x" * 300),
            f"cannot write {'x' * 300}: File name too long. Fix: give another file",
        ),
        (("-o", "/proc/out.jsonl"), "cannot write /proc/out.run: No such file or directory"),
        (("-o", "no/out.jsonl"), "the folder no does not exist. Fix: make it first: mkdir -p no"),
        (("--nonsense",), "No such option: --nonsense"),
        (("--limit", "0"), "Invalid value for '--limit'"),
        (
            ("--shard", "3/3"),
            "there is no shard 3/3. Fix: give i/N with i from 0 to N - 1, like 0/8",
        ),
        (("--shard", "1"), "'1' is no shard. Fix: give i/N with i from 0 to N - 1, like 0/8"),
        (("--max-cost", "nan"), "Invalid value for '--max-cost'"),
        (("--max-tokens", "0"), "Invalid value for '--max-tokens'"),
        (("--prices", "no.toml"), "no.toml: cannot be read: No such file or directory"),
        (("--param", "t"), "a --param is not KEY=VALUE. Fix: use one like temperature=0"),
        (("--param", "t=0"), "are for tables of prompts, and requests.jsonl is read as requests"),
        (("--endpoint", "chess"), "'chess'"),
        (("--model", "x"), "model"),
        (("--ambiguous", "maybe"), "Invalid value for '--ambiguous'"),
        (
            ("--provider", "nope"),
            "the provider 'nope' is not known. Fix: use one of together, openai",
        ),
        (
            ("--base-url", "here:80"),
            "--base-url 'here:80' is not a web address. Fix: use one like http",
        ),
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
        (b"PK\x03\x04", "headway: in.jsonl is a zip archive, not UTF-8 text."),
        (None, "headway: in.jsonl does not exist. Fix: check the path"),
    ],
)
def test_bad_input_is_2(data: bytes | None, message: str, folder: Path) -> None:
    if data is not None:
        (folder / "in.jsonl").write_bytes(data)
    result = headway("run", "in.jsonl")
    assert result.exit_code == 2
    assert message in said(result)


def test_names_that_are_no_input(folder: Path) -> None:
    (folder / "-").write_bytes(requests(1))
    result = headway("run", "")
    assert result.exit_code == 2
    assert "the input's name is empty. Fix: give the path of a file" in said(result)
    assert headway("run", "./-").exit_code == 0
    assert "/dev/zero is a device, not a file" in said(headway("run", "/dev/zero"))
    assert "/dev is a folder" in said(headway("run", "/dev"))


VARIABLES = {
    "together": "TOGETHER_API_KEY", "openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY",
    "deepseek": "DEEPSEEK_API_KEY", "fireworks": "FIREWORKS_API_KEY", "gemini": "GEMINI_API_KEY",
    "groq": "GROQ_API_KEY", "huggingface": "HF_TOKEN", "mistral": "MISTRAL_API_KEY",
    "openrouter": "OPENROUTER_API_KEY", "xai": "XAI_API_KEY",
}  # fmt: skip


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_missing_key_names_its_variable(
    provider: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLES[provider], raising=False)
    result = headway("run", "requests.jsonl", "--provider", provider)
    assert result.exit_code == 2
    assert f"headway: no API key. Fix: set it first: export {VARIABLES[provider]}=…" in said(result)
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]


# -- what ends a run -------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("where", "checked"),
    [
        ((), "the address in TOGETHER_BASE_URL, and the names of the models"),
        (("--base-url",), "the address in --base-url, and the names of the models"),
    ],
)
def test_404_for_every_line_names_the_address(
    where: tuple[str, ...], checked: str, llmock: LLMock
) -> None:
    where = (*where, llmock.url) if where else where
    llmock.fail(404, times=9)
    assert "not found" not in said(headway("run", "requests.jsonl", *where))
    llmock.fail(404, times=None)
    result = headway("run", "requests.jsonl", "--overwrite", *where)
    assert result.exit_code == 1
    assert said(result).endswith(
        f"headway: every line was answered with 404, not found. Check {checked}"
    )


@pytest.mark.parametrize("provider", ["openai", "groq"])
def test_404_at_a_known_address_is_the_model(provider: str) -> None:
    from headway.cli.command import endings

    report = SimpleNamespace(stopped=None, done=0, failed={"http_404": 10})
    says = endings.problem(report, False, provider=provider, base_url=None)
    assert says.endswith("not found. Check the names of the models")


def test_a_full_device_is_1() -> None:
    result = headway("run", "requests.jsonl", "-o", "/dev/full")
    assert result.exit_code == 1
    assert said(result).endswith(
        "headway: cannot go on: [Errno 28] No space left on device: '/dev/full'. Free some space, "
        "then run the same command again: rows written are kept"
    )


def test_a_full_disk_stops_and_resumes_once_there_is_room(llmock: LLMock, folder: Path) -> None:
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        write_requests(folder / "many.jsonl", 300)
        arguments = ("run", "many.jsonl", "-o", "disk/out.jsonl")
        result = headway(*arguments)
        assert result.exit_code == 1
        assert "No space left on device: 'disk/" in said(result)
        assert "Free some space, then run the same command again: rows written are k" in said(
            result
        )
        kept = ids_of(disk / "out.jsonl")
        assert 0 < len(kept) < 300
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        before = len(llmock.requests)
        result = headway(*arguments)
        assert result.exit_code == 0, said(result)
        assert f"before {len(kept)} lines had their row already" in said(result)
        assert len(ids_of(disk / "out.jsonl")) == 300
        assert len(llmock.requests) - before == 300 - len(kept)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_is_2(folder: Path) -> None:
    """As root everything can be written: but not where a file system is read-only."""
    closed = Path("/proc/sys") if not os.geteuid() else folder / "closed"
    if os.geteuid():
        closed.mkdir(0o500)
    result = headway("run", "requests.jsonl", "-o", str(closed / "out.jsonl"))
    assert result.exit_code == 2
    assert f"headway: cannot write {closed}/out." in said(result)
    assert said(result).endswith("Fix: give another file with -o")


def test_a_device_keeps_nothing(folder: Path) -> None:
    result = headway("run", "requests.jsonl", "-o", "/dev/null")
    assert result.exit_code == 0
    assert "rows /dev/null" in said(result)
    assert [path.name for path in folder.iterdir()] == ["requests.jsonl"]
    assert not list(Path("/dev").glob("null*run"))


# -- bounds ----------------------------------------------------------------------------------------


def test_a_bound_of_tokens_is_kept_over_sessions(llmock: LLMock, folder: Path) -> None:
    lines = (json.dumps(request_line(number, max_tokens=20)) for number in range(40))
    (folder / "requests.jsonl").write_text("\n".join(lines))
    arguments = ("run", "requests.jsonl", "--concurrency", "2", "--max-tokens")
    first = headway(*arguments, "300")
    assert first.exit_code == 1
    assert "headway: --max-tokens 300 is reached:" in said(first)
    assert said(first).endswith("Run the rest with a higher --max-tokens")
    done = len(ids_of(folder / "requests.results.jsonl"))
    assert 0 < done < 40
    again = headway(*arguments, "10")
    assert again.exit_code == 1
    assert len(llmock.requests) == done  # what was spent before counts
    assert headway(*arguments, "1000000").exit_code == 0
    assert len(ids_of(folder / "requests.results.jsonl")) == len(llmock.requests) == 40


def test_a_bound_of_money(llmock: LLMock, folder: Path) -> None:
    arguments = ("run", "requests.jsonl", "--max-cost")
    unknown = headway(*arguments, "20")
    assert unknown.exit_code == 1
    assert said(unknown).endswith(
        "headway: no price is known for the model 'm' (line 1), so --max-cost cannot be kept. "
        "Give one with --prices, or leave --max-cost away"
    )
    assert not llmock.requests
    (folder / "prices.toml").write_text("[m]\ninput = 1\noutput = 1000\n")
    prices = ("--prices", "prices.toml")
    few = headway(*arguments, "0.5", *prices)
    assert few.exit_code == 1
    assert "--max-cost 0.5 is reached: $0.00 are spent, and the next request may cost $1.0" in (
        said(few)
    )
    enough = headway(*arguments, "20", *prices)
    assert enough.exit_code == 0
    assert re.search(r"cost \$0\.\d+ ", said(enough))


# -- the rest --------------------------------------------------------------------------------------


def test_without_arguments_it_shows_its_help() -> None:
    assert "run" in headway().output
    assert headway("--version").output == f"headway {__version__}\n"
    text = headway("run", "--help").output
    for option in ("--output", "--rate", "--tokens", "--concurrency", "--overwrite", "--max-cost"):
        assert option in text


@pytest.mark.parametrize("package", ["typer", "rich.console", "msgspec", "filelock", "httpx"])
def test_a_missing_package_says_what_to_install(package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None; sys.argv = ['headway', 'run', 'in.jsonl']\n"
        "from headway.cli import main; main()"
    )
    child = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert child.returncode == 2
    assert "Fix: install it with: pip install 'headway[" in child.stderr


def test_closed_streams_are_told() -> None:
    for arguments, closed, message in (
        (
            ("run", "-"),
            0,
            "standard input is closed. Fix: give the path of a file, or pipe into it",
        ),
        (
            ("run", "requests.jsonl", "-o", "-"),
            1,
            "standard output is closed. Fix: give the path of",
        ),
    ):
        child = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}{"<>"[closed]}&-', "sh", *command(*arguments)],
            stderr=subprocess.PIPE,
        )
        assert child.returncode == 2
        assert f"headway: {message}" in child.stderr.decode()


def test_the_command_runs_in_a_process_of_its_own(folder: Path) -> None:
    result = run_process("run", "requests.jsonl")
    assert (result.returncode, result.stdout) == (0, b"")
    assert len(ids_of(folder / "requests.results.jsonl")) == 10

"""How a command ends: its exit code and its last words."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from headway.bulk.record.status import Progress, Stop
from headway.cli.command.endings import again, cannot_go_on, exit_code, problem, refused
from headway.kinds import Kind


def a_report(**changes: Any) -> Progress:
    counts = dict.fromkeys(
        ("before", "ambiguous", "in_flight", "sent", "tokens", "input_tokens", "output_tokens",
         "unpriced"), 0,
    )  # fmt: skip
    fields = {
        "input": "in", "output": Path("out"), "total": 9, "done": 5, "failed": {}, "refused": {},
        "cost": 0.0, "limit": None, "pace": 1.0, "concurrency": 1.0, "binds": "", "seconds": 1.0,
        "eta": None, "stopped": None,
    }  # fmt: skip
    return Progress(**{**counts, **fields, **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"failed": {"http_400": 1}}, 1),
        ({"stopped": Stop(None, "the bound")}, 1),
        *[({"stopped": Stop(kind, "why")}, 2 if kind.mistake else 1) for kind in Kind],
    ],
)
def test_the_code_of_a_run(changes: dict[str, Any], code: int) -> None:
    assert exit_code(a_report(**changes)) == code


def test_a_refused_key_is_bad_usage() -> None:
    assert exit_code(a_report(stopped=Stop(Kind.AUTH, "why"))) == 2


@pytest.mark.parametrize(
    ("changes", "to_stdout", "said"),
    [
        ({}, False, ""),
        ({"stopped": Stop(None, "the bound")}, False, "the bound"),
        ({"failed": {"http_500": 3}}, False, "3 failed: take them up with --retry-failed"),
        ({"failed": {"http_500": 3}}, True, ""),
        (
            {"failed": {"http_500": 3, "invalid_json": 2}}, False,
            "3 failed: take them up with --retry-failed. 2 could not be sent: put them, corrected, "
            "in a file of their own (see the errors file)",
        ),
        (
            {"failed": {"http_400": 2, "http_422": 1, "http_413": 1}}, False,
            "4 were refused for good, and would be again: put them, corrected, in a file of their "
            "own (see the errors file)",
        ),
        (
            {"failed": {"http_429": 1, "http_408": 1, "timeout": 1, "invalid_answer": 1,
                        "http_403": 5}}, False,
            "4 failed: take them up with --retry-failed. 5 were refused for good, and would be "
            "again: put them, corrected, in a file of their own (see the errors file)",
        ),
        (
            {"failed": {"http_404": 3}, "done": 0}, True,
            "every line was answered with 404, not found. Check the address in "
            "TOGETHER_BASE_URL, and the names of the models",
        ),
    ],
)  # fmt: skip
def test_what_a_run_leaves_to_do(changes: dict[str, Any], to_stdout: bool, said: str) -> None:
    assert problem(a_report(**changes), to_stdout, provider=None, base_url=None) == said


@pytest.mark.parametrize(
    ("provider", "base_url", "checked"),
    [("openai", None, "Check the names of the models"),
     ("together", None, "Check the address in TOGETHER_BASE_URL, and the names"),
     (None, "http://x/v1", "Check the address in --base-url, and the names")],
)  # fmt: skip
def test_where_nothing_was_found_the_address_is_checked(
    provider: str | None, base_url: str | None, checked: str
) -> None:
    report = a_report(done=0, failed={"http_404": 1})
    assert checked in problem(report, False, provider=provider, base_url=base_url)


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "Free some space"), (errno.EMFILE, "Raise the limit of open files"),
     (errno.ENOMEM, "Free some memory"), (errno.EIO, "Correct that")],
)  # fmt: skip
def test_what_this_machine_lacks(number: int, fix: str) -> None:
    error = OSError(number, "lacks")
    said = cannot_go_on(error, False)
    assert said.startswith(f"cannot go on: {error}. {fix}")
    assert said.endswith(", then run the same command again: rows written are kept")
    assert "kept" not in cannot_go_on(error, True)


def test_who_reads_no_more() -> None:
    gone = BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert cannot_go_on(gone, True) == "cannot go on: nobody reads the rows any more"
    assert cannot_go_on(gone, False) == (
        "cannot go on: nobody reads the progress any more. Run the same command again to go on"
    )
    assert again(True) == ""


def test_what_is_refused_is_said_and_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(ValueError("no")).exit_code == 2
    assert capsys.readouterr() == ("", "headway: no\n")

"""How a command ends: its exit code, and what it says last."""

import errno
from typing import TYPE_CHECKING

from headway.cli.command.streams import say
from headway.kinds import Kind

if TYPE_CHECKING:
    import typer

    from headway.bulk import Progress

__all__ = [
    "ALL_DONE", "BAD_USAGE", "CANNOT_WRITE", "SOME_FAILED", "again", "cannot_go_on", "exit_code",
    "problem", "refused",
]  # fmt: skip

ALL_DONE = 0
SOME_FAILED = CANNOT_WRITE = 1
BAD_USAGE = 2

_FIXES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or lower --concurrency",
    errno.ENFILE: "Close what else has files open on this machine, or lower --concurrency",
    **dict.fromkeys((errno.ENOMEM, errno.ENOBUFS), "Free some memory, or lower --concurrency"),
}

# Codes of lines that only their author can mend: the same lines would fail again.
_YOURS = {
    "duplicate_custom_id", "invalid_body", "invalid_csv", "invalid_custom_id", "invalid_json",
    "invalid_line", "invalid_max_tokens", "invalid_method", "line_too_long", "missing_body",
    "missing_column", "missing_custom_id", "missing_model", "never_fits", "not_utf8",
    "stream_not_supported", "unsupported_url", "wrong_fields",
}  # fmt: skip


def refused(error: object) -> "typer.Exit":
    """The end of a command that cannot do what it was asked, which is said."""
    import typer

    say(f"headway: {error}")
    return typer.Exit(BAD_USAGE)


def again(to_stdout: bool) -> str:
    """How to go on with a run, where its rows are kept."""
    return "" if to_stdout else ". Run the same command again to go on"


def cannot_go_on(error: OSError, to_stdout: bool) -> str:
    """What ended a run that the provider did not end."""
    if error.errno == errno.EPIPE:
        what = "rows" if to_stdout else "progress"
        return f"cannot go on: nobody reads the {what} any more{again(to_stdout)}"
    fix = _FIXES.get(error.errno or 0, "Correct that")
    kept = "" if to_stdout else ": rows written are kept"
    return f"cannot go on: {error}. {fix}, then run the same command again{kept}"


def problem(
    progress: "Progress", to_stdout: bool, *, provider: str | None, base_url: str | None
) -> str:
    """What a run that came to its end leaves to do, "" for nothing."""
    if progress.stopped is not None:
        return progress.stopped.reason
    if not progress.done and set(progress.failed) == {"http_404"}:
        check = "the names of the models"
        if base_url is not None:
            check = f"the address in --base-url, and {check}"
        elif provider in (None, "together"):
            check = f"the address in TOGETHER_BASE_URL, and {check}"
        return f"every line was answered with 404, not found. Check {check}"
    if not progress.failed or to_stdout:
        return ""
    fixable = sum(n for code, n in progress.failed.items() if code in _YOURS)
    for_good = sum(n for code, n in progress.failed.items() if _is_for_good(code))
    again = sum(progress.failed.values()) - fixable - for_good
    says = []
    if again:
        says.append(f"{again:,} failed: take them up with --retry-failed")
    if fixable:
        says.append(
            f"{fixable:,} could not be sent: put them, corrected, in a file of their own "
            "(see the errors file)"
        )
    if for_good:
        says.append(
            f"{for_good:,} were refused for good, and would be again: put them, corrected, in a "
            "file of their own (see the errors file)"
        )
    return ". ".join(says)


def _is_for_good(code: str) -> bool:
    """Whether the provider refused a line for what is in it: the same line would be again."""
    status = code.removeprefix("http_")
    if not status.isdecimal():
        return False
    from headway.hints import refusal_from_response  # which takes long, and few runs end with it

    found = refusal_from_response(int(status), {}, b"", wall_time=0.0)
    return found is not None and found.kind is Kind.PERMANENT


def exit_code(progress: "Progress") -> int:
    """That of a run that came to its end."""
    if (stop := progress.stopped) is not None:
        return BAD_USAGE if stop.kind is not None and stop.kind.mistake else SOME_FAILED
    return SOME_FAILED if progress.failed else ALL_DONE

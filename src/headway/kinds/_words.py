"""Numbers and limits as headway says them: in errors, logs, displays, plans and reports.

One writer for each, so that the same seconds read the same wherever they stand. Every function
takes any float or int: what is no finite float is ``"?"``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from headway.kinds import Binds

__all__ = ["HIDDEN", "a", "agreed", "binds", "count", "counted", "duration", "hidden",
           "money", "number", "percent", "plural", "printable", "rate", "redacted", "short",
           "shown", "size", "stated", "times", "unlike", "with_fix"]  # fmt: skip

HIDDEN = "***"
"""What stands in the place of a secret."""

_BINDS = frozenset(Binds)

_PERIODS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day"}


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond every float
        return False


def binds(name: str) -> str:
    """What holds back, a name in `Statistics.binds`, in words; other names as they are."""
    return Binds(name).words if name in _BINDS else name


def duration(seconds: float) -> str:
    """``"7 h 12 min"``, ``"40 s"``, ``"1.2 s"``, ``"35 ms"``: two units or three digits at most."""
    if not 0 <= seconds < 1e12:
        return "?"
    if seconds < 1e-9:
        return "0 s"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole >= 86400:
        whole = round(seconds / 3600) * 3600
    elif whole >= 3600:
        whole = round(seconds / 60) * 60
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{n:,} {unit}" for n, unit in parts if n)


def number(value: float) -> str:
    """Three significant digits, and all of those before the point: ``"8.53"``, ``"1,234"``."""
    if not _finite(value):
        return "?"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def rate(per_second: float, per: float = 1.0) -> str:
    """A measured rate, ``"8.53/s"``; counted over `per` seconds, ``"512/min"``."""
    counted = number(per_second * per) if _finite(per_second) else "?"
    return f"{counted}/{_period(per)}"


def stated(limit: float, per: float) -> str:
    """A limit as `Rate.parse` and ``--rate`` read it, exact: ``"600/min"``, ``"180k/min"``."""
    for prefix, factor, least in (("M", 1e6, 1e6), ("k", 1e3, 1e4)):
        if limit >= least and limit % (factor / 1e3) == 0:
            return f"{limit / factor:.15g}{prefix}/{_period(per)}"
    return f"{limit:.15g}/{_period(per)}"


def _period(per: float) -> str:
    if (name := _PERIODS.get(per)) is not None:
        return name
    for unit, seconds in (("d", 86_400.0), ("h", 3_600.0)):
        if per >= seconds and per % seconds == 0:
            return f"{per / seconds:.15g}{unit}"
    return f"{per:.15g}s"


def count(n: float) -> str:
    """A whole number, thousands apart: ``"12,345"``."""
    return f"{n:,.0f}" if _finite(n) else "?"


def plural(n: float, noun: str) -> str:
    """`noun`, a regular one, as it stands after `n`: ``"row"``, ``"rows"``."""
    return noun if n == 1 else f"{noun}s"


_OF_ONE = {"are": "is", "were": "was", "have": "has"}


def agreed(n: float, verb: str) -> str:
    """`verb`, given in the plural, as it stands after `n` of something: ``"is"``, ``"are"``."""
    return _OF_ONE.get(verb, f"{verb}s") if n == 1 else verb


def counted(n: float, noun: str, verb: str = "") -> str:
    """`n`, a whole number, of what `noun` says: ``"1 row"``, ``"12,345 rows were"``."""
    said = f"{count(n)} {plural(n, noun)}"
    return f"{said} {agreed(n, verb)}" if verb else said


def times(n: int) -> str:
    """``"once"``, ``"3 times"``."""
    return "once" if n == 1 else f"{count(n)} times"


def a(noun: str) -> str:
    """`noun`, which may be the name of a type, with its article: ``"an int"``, ``"a Retry"``."""
    return f"{'an' if noun[:1] in 'aeioAEIO' else 'a'} {noun}"


def short(n: float) -> str:
    """A large number in three digits: ``"1.25M"``, ``"45k"``, ``"0.5"``."""
    if not _finite(n):
        return "?"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= factor * 0.9995:
            return f"{n / factor:.3g}{unit}"
    return f"{n:.3g}"


def money(dollars: float) -> str:
    """``"$4.20"``, ``"$12,345"``, ``"$0.012"``: cents, and less than those where it is less."""
    if not _finite(dollars):
        return "?"
    if dollars >= 999.995:
        return f"${dollars:,.0f}"
    if dollars >= 0.0995 or dollars < 1e-9:
        return f"${dollars:.2f}"
    text = f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"
    return text.rstrip("0")


def size(n: float) -> str:
    """A number of bytes: ``"900 bytes"``, ``"1.5 MiB"``."""
    if not _finite(n):
        return "?"
    for factor, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if n >= factor:
            return f"{n / factor:.1f}".removesuffix(".0") + f" {unit}"
    return counted(n, "byte")


def percent(share: float) -> str:
    """A share from 0 to 1: ``"62%"``, ``"3.4%"``, ``"99.9%"``, ``"<0.1%"``."""
    if not _finite(share) or not _finite(share * 100):
        return "?"
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 <= share < 1:
        return f"{math.floor(share * 1000) / 10:g}%"
    return f"{round(share * 100, 1 if share < 0.1 else None):g}%"


def with_fix(what: str, fix: str) -> str:
    """What happened and why, with what to do about it: ``"<what>. Fix: <fix>"``; `what` for ""."""
    return f"{what}. Fix: {fix}" if fix else what


_SECRETS = (
    re.compile(r"(?<=://)()[^/\s@\"'<>]{1,4096}(?=@)"),
    re.compile(
        r"([?&](?:(?:[a-z]{1,20}[-_])?(?:api[-_]?)?key|(?:[a-z]{1,20}[-_])?token|auth|code"
        r"|(?:x-amz-)?sig(?:nature)?|[a-z_]{0,20}secret|password)=)[^&#\s\"'<>]+",
        re.I,
    ),
    re.compile(r"\b((?:bearer|basic) ) *[\w.~+/=-]{8,}", re.I),
    re.compile(
        r"\b()(?:(?:sk|pk|gsk|xai|hf|tgp|fw|pplx|nvapi|csk|r8)[-_][\w-]{16,}|AIza[\w-]{20,}"
        r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
    ),
)
"""What looks as a secret: in an address (userinfo, ``?key=``), after a scheme, or by its form. The
group is what may be shown.
"""


def _hide(secret: re.Match[str]) -> str:
    return f"{secret[1]}{HIDDEN}"


def redacted(text: str) -> str:
    """`text` with `HIDDEN` for what looks as a key: for all that quotes somebody else's words."""
    for pattern in _SECRETS:
        text = pattern.sub(_hide, text)  # a template would be an import, which fails at the end
    return text


def hidden(url: str) -> str:
    """`url` without its credentials and its parameters; of one that holds an ``@`` where none can
    be meant, no more than the scheme.
    """
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    host = authority.rpartition("@")[2]
    if "@" in tail or not host + tail:
        return f"{scheme}://…"
    return f"{scheme}://{host}{re.split('[?#]', tail, maxsplit=1)[0]}"


def printable(text: str) -> str:
    """`text` for a terminal, line by line: what is no printable character there (escape sequences,
    other controls, marks that turn the direction) is shown as its code.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else ascii(char)[1:-1] for char in text
    )


def unlike(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, with a number where it is one of `taken`: what is hidden looks alike."""
    said, number = wanted, 1
    while said in taken:
        number += 1
        said = f"{wanted} ({number})"
    return said


def shown(value: object) -> str:
    """`value` as an error text shows it: its repr, without secrets, cut where it is long. Never
    raises.
    """
    try:
        text = repr(value)
        text = redacted(text[:10_000])
    except Exception:  # a whole number of more than 4,300 digits, or somebody's own class
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."

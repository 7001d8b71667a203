"""What a provider says about its limits: refusals, waits and limits, read from what came back.

Pure functions over headers, bodies and exceptions, one small reader per dialect. Nothing here
looks at a clock: the wall clock (seconds since the epoch) is an argument. Nothing here raises on
what a server sent: what cannot be read is ignored, and said in `Refusal.odd`.

    classify(error, wall_time=...)                       an exception of any SDK   -> Refusal
    method_of(error)                                     the method of the request behind an error
    machine_fault(error)                                 what this machine lacks, behind an error
    refusal_from_response(status, headers, body, ...)    a response                -> Refusal | None
    wait_from(headers, body, wall_time=...)              how long to wait, in seconds
    limits_from(headers, body, wall_time=...)            what it says of each limit
    message_in(body)                                     the message of an error's body
    limits_in_message(message)                           limits in prose: "600 RPM (10 QPS)"

    _dialect.py     what a provider's headers leave open
    _model.py       Refusal, LimitHint
    _values.py      numbers, durations, dates -> seconds; the server's clock
    _names.py       names of headers -> the ones that the readers know
    _fields.py      structured fields (RFC 9651)
    _body_waits.py  fields of bodies that say when to try again
    _reply.py       headers and error bodies of any shape -> one plain shape
    _limits.py      headers -> LimitHint
    _waits.py       headers, body, message -> the wait
    _kinds.py       status, type, code, message -> Kind
    _carried.py     what an exception carries
    _exceptions.py  exceptions, and what they wrap -> Refusal
    _results.py     results that carry a response -> LimitHint
"""

from __future__ import annotations

from headway.hints._carried import method_of
from headway.hints._dialect import GENERIC, Dialect
from headway.hints._exceptions import classify, machine_fault
from headway.hints._kinds import refusal_from_response
from headway.hints._limits import limits_from, limits_in_message
from headway.hints._model import LimitHint, Refusal
from headway.hints._names import HANDED_ON
from headway.hints._reply import message_in
from headway.hints._results import carries_headers, limits_of_result
from headway.hints._values import LONGEST_WAIT
from headway.hints._waits import wait_from

__all__ = [
    "GENERIC",
    "HANDED_ON",
    "LONGEST_WAIT",
    "Dialect",
    "LimitHint",
    "Refusal",
    "carries_headers",
    "classify",
    "limits_from",
    "limits_in_message",
    "limits_of_result",
    "machine_fault",
    "message_in",
    "method_of",
    "refusal_from_response",
    "wait_from",
]

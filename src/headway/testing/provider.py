"""A provider that is a few objects in the test's own process: its limits, faults and answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from threading import RLock
from typing import Any, Literal, TypeAlias

from headway._runtime.calls import check_plain_function
from headway.errors import InvalidArgument
from headway.estimate import usage_in
from headway.kinds._words import shown
from headway.rates import ConcurrencyLike, Cost, Limits, RateLike, is_number
from headway.testing.account import Account, Name, check_limits
from headway.testing.answers import FakeAnswer, FakeRequest, Reply, ReplyLike, answer_to, tokens_in
from headway.testing.arrivals import Arrival, Visit
from headway.testing.asgi import application
from headway.testing.clock import Follower
from headway.testing.dialects import headers_of, refusal_answer, speech_named, status_answer
from headway.testing.faults import Fault, FaultLike, Faults
from headway.testing.seen import Seen
from headway.testing.transports import transport_of

__all__ = ["FakeProvider", "Latency"]

Latency: TypeAlias = (
    float | tuple[float, float] | Callable[[FakeRequest], float | tuple[float, float]]
)

_REFUSES = {
    401: "Incorrect API key provided.",
    402: "Insufficient credit: add funds to go on.",
    429: "Too many requests: slow down.",
    503: "The service is overloaded: try again later.",
    529: "Overloaded",
}


class FakeProvider(Seen):
    """A provider with limits, for tests: a transport of httpx and httpx2, and an ASGI app.

    The limits are stated as those of a `Scheduler`, or as one `Limits`. Each key that a request
    shows has them, or each model of each key (``lane="model"``). A request counts when it arrives,
    by `algorithm`: ``"sliding_log"``, ``"fixed_window"`` (windows begin with the first arrival),
    ``"sliding_counter"``, ``"token_bucket"`` or its twin ``"gcra"``, where `burst` requests fill
    the bucket (by default what one window allows). Its tokens are what its answer says it used.

    `dialect` is the provider in whose words limits are told, a name of `headway.providers` or
    ``"azure"``, ``"bedrock"``, ``"ietf"``, ``"none"``. `latency` is the seconds from arrival to the
    end of the answer (a stream's pieces come evenly): a number, two numbers for a range, or a
    function of the `FakeRequest`. `faults` is the share of requests that meet a 500, a mapping of
    faults to shares, or a list with one, or None, for each request; see `Fault`. `keys` are the
    keys that are known; others get a 401. `reply` is the answer, or a function of the `FakeRequest`
    that returns it: a text, a JSON value, bytes, or a `Reply`. A refusal names the seconds after
    which the request would fit; `retry_after` is other seconds to name, or False for none. What is
    drawn follows `seed`.

    Times are those of the event loop that asks, so a virtual clock works; where none runs, real
    ones. It may be asked from many threads.

    Raises `InvalidLimit` for limits under which nothing could ever be answered, and
    `InvalidArgument` for everything else that cannot be meant.
    """

    def __init__(
        self,
        requests: RateLike | Limits | None = None,
        *,
        tokens: RateLike | None = None,
        input_tokens: RateLike | None = None,
        output_tokens: RateLike | None = None,
        concurrency: ConcurrencyLike = None,
        algorithm: Name = "sliding_log",
        burst: int | None = None,
        dialect: str = "openai",
        lane: Literal["account", "model"] = "account",
        latency: Latency = 0.0,
        faults: float | Mapping[FaultLike, float] | Iterable[FaultLike | None] | None = None,
        keys: Iterable[str] | None = None,
        reply: ReplyLike | Callable[[FakeRequest], ReplyLike] | None = None,
        retry_after: bool | float = True,
        seed: int = 0,
    ) -> None:
        more = {
            "tokens": tokens,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "concurrency": concurrency,
        }
        limits = _limits(requests, more)
        check_limits(limits, algorithm, burst)
        _check_lane(lane)
        super().__init__(limits, lane)
        self._speech = speech_named(dialect)
        _check_latency(latency)
        _check_retry_after(retry_after)
        if callable(reply):
            check_plain_function(reply, "reply", "a def of the request that returns the answer")
        else:
            _check_reply(reply)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InvalidArgument(f"seed={shown(seed)} is not a whole number", fix="seed=7.")
        self._algorithm: Name = algorithm
        self._burst = burst
        self._latency = latency
        self._random = Random(seed)
        self._faults = Faults(faults, self._random)
        self._keys = _checked_keys(keys)
        self._reply = reply
        self._retry_after = retry_after
        self._clock = Follower()
        self._epoch: float | None = None  # the wall clock at the provider's 0
        self._lock = RLock()  # a body that is collected as garbage ends in whatever thread
        self._accounts: dict[tuple[str, str], Account] = {}
        self._in_flight = 0

    # Ways in ------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """The address that the provider of its dialect has: headway knows the dialect by it."""
        return self._speech.base_url

    def transport(self) -> Any:
        """A transport for clients of httpx and of httpx2, sync and async ones alike. A read timeout
        of the client's that is over raises the library's ``ReadTimeout``, as from a server.

        Raises `MissingExtra` where neither library is installed.
        """
        return transport_of(self)

    @property
    def app(self) -> Any:
        """It as an ASGI application: for ``httpx.ASGITransport``, uvicorn, or a mount."""
        return application(self)

    def fail_next(
        self,
        what: FaultLike = 503,
        *,
        times: int = 1,
        retry_after: float | None = None,
        message: str = "",
    ) -> None:
        """Let the next requests, so many of them, meet a fault: see `Fault`, whose words these are.

        Raises `InvalidArgument`.
        """
        fault = what if isinstance(what, Fault) else Fault(what, retry_after, message)
        with self._lock:
            self._faults.set_next(fault, times)

    # For those that carry requests here ---------------------------------------------------------

    def begin(self, asked: FakeRequest) -> Visit:
        """Decide what becomes of a request that arrives now. `end` it in any case."""
        reply = self._reply
        if callable(reply):
            reply = reply(asked)
            _check_reply(reply)
        with self._lock:
            takes = self._takes(asked)
            now = self._clock.now()
            if self._epoch is None:
                self._epoch = time.time() - now
            answer = answer_to(asked, reply)
            arrival = Arrival(
                now, asked.method, asked.path, asked.key, asked.model,
                _cost(asked, answer), asked.content,
            )  # fmt: skip
            self.arrivals.append(arrival)
            return self._decide(asked, arrival, answer, takes)

    def _decide(
        self, asked: FakeRequest, arrival: Arrival, answer: FakeAnswer, takes: float
    ) -> Visit:
        now = arrival.at
        fault = self._faults.draw()
        if fault is not None and isinstance(fault.what, int):
            arrival.fault = fault
            return Visit(arrival, self._failure(fault))
        if self._keys is not None and asked.key not in self._keys:
            return Visit(arrival, status_answer(self._speech, 401, _REFUSES[401]))
        account = self._account(asked, now)
        refusal = account.enter(now, arrival.cost)
        if refusal is not None:
            arrival.refused_by = refusal.what
            refused = refusal_answer(self._speech, refusal, self._retry_after)
            return Visit(arrival, self._with_limits(refused, account, now))
        self._in_flight += 1
        self.in_flight_peak = max(self.in_flight_peak, self._in_flight)
        arrival.fault = fault
        answer = self._with_limits(answer, account, now)
        return Visit(arrival, answer, takes, str(fault.what) if fault else "", account)

    def end(self, visit: Visit, status: int | None = None) -> None:
        """Note that a request has ended: with an answer of that `status`, or without one."""
        with self._lock:
            arrival = visit.arrival
            if arrival.ended is not None:
                return
            arrival.ended = self._clock.now()
            arrival.status = status
            if visit.account is not None:
                visit.account.leave()
                self._in_flight -= 1

    def _account(self, asked: FakeRequest, now: float) -> Account:
        lane = (asked.key, asked.model if self._lane == "model" else "")
        if lane not in self._accounts:
            self._accounts[lane] = Account(self.limits, self._algorithm, self._burst, now)
        return self._accounts[lane]

    def _failure(self, fault: Fault) -> FakeAnswer:
        status = int(fault.what)
        message = fault.message or _REFUSES.get(status, f"The fake provider fails: {status}.")
        return status_answer(self._speech, status, message, wait=fault.retry_after)

    def _with_limits(self, answer: FakeAnswer, account: Account, now: float) -> FakeAnswer:
        assert self._epoch is not None
        said = headers_of(self._speech, account.counted, now, self._epoch + now)
        return answer._replace(headers={**said, **answer.headers})

    def _takes(self, asked: FakeRequest) -> float:
        latency = self._latency
        if callable(latency):
            latency = latency(asked)
            _check_span(latency)
        return self._random.uniform(*latency) if isinstance(latency, tuple) else float(latency)


def _cost(asked: FakeRequest, answer: FakeAnswer) -> Cost:
    said = usage_in(b"".join(answer.pieces)) if asked.body else None
    found = None if said is None else said.cost
    if found is not None:
        return found
    return Cost(input=tokens_in(asked.body)) if asked.body else Cost()


def _limits(requests: RateLike | Limits | None, more: Mapping[str, Any]) -> Limits:
    if not isinstance(requests, Limits):
        return Limits(requests, **more)
    if given := [name for name, value in more.items() if value is not None]:
        raise InvalidArgument(
            f"{given[0]}= stands beside a Limits, which holds all limits",
            fix=f"Limits(..., {given[0]}={shown(more[given[0]])}).",
        )
    return requests


def _check_lane(lane: object) -> None:
    if lane not in ("account", "model"):
        raise InvalidArgument(
            f"lane={shown(lane)} has no limits of its own",
            fix='lane="account" for each key, or "model" for each model of each key.',
        )


def _check_reply(reply: object) -> None:
    if reply is not None and not isinstance(reply, str | bytes | Mapping | list | Reply):
        raise InvalidArgument(
            f"reply={shown(reply)} is no answer",
            fix="a text, a dict, a list, bytes, a Reply, or a def of the request that returns one.",
        )


def _check_latency(latency: object) -> None:
    if callable(latency):
        check_plain_function(latency, "latency", "a def of the request that returns seconds")
    else:
        _check_span(latency)


def _check_span(latency: Any) -> None:
    span: tuple[Any, ...] = latency if isinstance(latency, tuple) else (latency, latency)
    if len(span) != 2 or not (all(map(_is_time, span)) and span[0] <= span[1]):
        raise InvalidArgument(
            f"latency={shown(latency)} is no time that an answer can take",
            fix="latency=0.5 in seconds, (0.2, 1.5) for a range, or a function of the request.",
        )


def _is_time(value: object) -> bool:
    return is_number(value) and 0 <= value < math.inf


def _check_retry_after(value: object) -> None:
    if not (isinstance(value, bool) or _is_time(value)):
        raise InvalidArgument(
            f"retry_after={shown(value)} is no time to wait in seconds",
            fix="retry_after=2, True for the time that is right, or False for none.",
        )


def _checked_keys(keys: Iterable[str] | None) -> frozenset[str] | None:
    if keys is None:
        return None
    given = [keys] if isinstance(keys, str) else keys
    if not isinstance(given, Iterable) or not all(isinstance(key, str) for key in given):
        raise InvalidArgument(
            f"keys={shown(keys)} are no keys that a request can show", fix='keys=["a-key"].'
        )
    return frozenset(given)

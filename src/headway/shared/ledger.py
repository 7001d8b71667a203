"""The ledger of limits that many processes hold together: one pure function over a small state.

`step` takes the state (None where there is none yet), one worker's call and the raw time of the
store, and returns the state and the reply. It reads no clock and keeps nothing, so that every store
can run it: SQLite and Postgres run this function, Valkey and Redis a port to Lua of the same lines
(``ledger.lua``; a test compares them). So it is written in what both languages have: tables,
lists, numbers and texts, no None, and lists that are walked by index.

What a worker is granted is *starts* (runs of them: the moment of the first, how many, and one
spacing for all), the *tokens* for them, and *slots*. Everything is charged when it is granted, at
its latest possible use. A job of a key with limits of its own needs a start of two ledgers: those
are granted as a pair, for the same moment, and that of the whole is *booked* ahead of its pace.

Times are seconds of the ledger, which begin with it and never run backwards. `raw` is the store's
own clock, of which only the steps count: where it goes back, or jumps ahead of what the caller's
own clock measured, the ledger goes on.

Source. Starts are paced by GCRA (ITU-T I.371, virtual scheduling), granted in the order of
start-time fair queueing (Goyal, Vin and Cheng, 1996); slots are shared max-min.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["BEAT", "EXPIRES", "GRID", "LEAD", "seen", "step", "step_all"]

BEAT = 1.0
"""Seconds between two calls of a worker that holds anything, at most."""

EXPIRES = 5.0
"""Seconds after its last call from which on a worker holds nothing any more."""

LEAD = 0.2
"""Seconds for which starts are granted ahead: a fair share of them is a worker's segment."""

GRID = 120
"""Sub-slots of a window of tokens."""

_FAR = 3 * LEAD  # for which pairs are: up to twice LEAD of the whole may be granted already
_LEAST = 0.02  # seconds between two calls of a worker
_SOON = 0.25  # between two, where slots are short
_LATE = 0.01  # seconds: how late a timer may be
_COLD = 0.5  # seconds beyond a beat for which a new ledger hears of what is held
_ABSENT = 0.5  # seconds after its turn from which on a worker is not waited for
_TENURE = 2.0  # slot-seconds that whoever holds a contested slot may keep it
_JUMP = 5.0  # seconds: a step of the store's clock that is none of time
# Seconds by which a start of a key's comes before that of the whole, at least (a worker does not
# know the time of both ledgers alike) and at most (either may be late by little more).
_APART, _NEAR = 0.004, 0.015
_DUST = 0.000001
_TICK = 0.000000001  # seconds that are none: what is left of sums
_NEVER = 1e18

State = dict[str, Any]
Call = dict[str, Any]
Reply = dict[str, Any]


def step(
    state: State | None, call: Call, raw: float, whole: State | None = None
) -> tuple[State, Reply]:
    """Answer one call. The state is changed in place and returned; a repeated call, known by its
    number, gets the stored reply and changes nothing. `whole` is the ledger of the whole, which has
    answered the caller just now, where this is that of a key.
    """
    if state is None:
        state = _born(call, raw)
    heard = state["at"]
    now = _advance(state, call, raw)
    if now > heard + 2 * BEAT:
        state["grace"] = now + BEAT + _COLD  # nobody could reach it, maybe
    workers = state["workers"]
    worker = workers.get(call["id"])
    if worker is not None and call["n"] <= worker["n"]:
        if call["n"] == worker["n"] and call["sent"] == worker["sent"]:
            return state, worker["reply"]
        return state, {"n": call["n"], "error": "twin", "now": now}
    _expire(state, now)
    if call["set"] or (call["version"] == 0 and call["stated"] != "" and state["stated"] == ""):
        _restate(state, call, now)
    elif call["version"] == 0 and call["stated"] != "" and call["stated"] != state["stated"]:
        return state, {"n": call["n"], "error": "differs", "now": now, "stated": state["stated"]}
    if call["bye"]:
        _settle(state, call, now)
        workers.pop(call["id"], None)
        return state, {"n": call["n"], "now": now, "error": "bye"}
    worker = _enter(state, call, now)
    _settle(state, call, now)
    _learn(state, call, now)
    reply: Reply = {
        "n": call["n"], "now": now, "error": "", "epoch": state["epoch"],
        "version": state["version"], "stated": "", "expires": now + EXPIRES,
        "slack": _slack(state), "runs": [], "spacing": 0.0, "count": 0, "good": now,
        "slots_of": [], "amounts": [], "ask": 0.0, "binds": "", "until": 0.0, "beside": [],
    }  # fmt: skip
    if not _current(state, call):
        reply["stated"] = state["stated"]
    _share_slots(state, call["id"], worker, reply, now)
    _grant(state, call["id"], worker, call, reply, now, whole)
    _tell_learned(state, call, reply, now)
    live = 0
    use = 0.0
    weights = 0.0
    for name in sorted(workers):
        other = workers[name]
        if other["need"] > 0 or other["use"] > 0 or other["pairs"] > 0:
            live += 1
            weights += other["weight"]
        use += other["use"]
    reply["live"] = max(1, live)
    reply["part"] = worker["weight"] / max(weights, worker["weight"])
    reply["elsewhere"] = use - worker["use"]
    worker["reply"] = reply
    return state, reply


def step_all(
    states: list[State | None], calls: list[Call], raw: float
) -> tuple[list[State], list[Reply]]:
    """Answer the calls of one worker to several ledgers; the first is that of the whole."""
    found: list[State] = []
    replies: list[Reply] = []
    for index in range(len(calls)):
        whole = found[0] if index > 0 else None
        state, reply = step(states[index], calls[index], raw, whole)
        found.append(state)
        replies.append(reply)
    return found, replies


def seen(state: State, raw: float) -> State:
    """`state`, changed in place to what holds when the store's clock shows `raw`, for those who
    look: without the workers that are silent, and without what windows have left behind.
    """
    now = max(state["at"], raw + state["offset"])
    state["at"] = now
    _expire(state, now)
    for budget in state["budgets"]:
        _roll(budget, now)
    return state


# Time


def _advance(state: State, call: Call, raw: float) -> float:
    """The ledger's time, which `raw` moves: by no step that the caller's clock has not seen."""
    now: float = raw + state["offset"]
    at: float = state["at"]
    if now < at - 1.0:
        state["offset"] = at - raw
        now = at
    worker = state["workers"].get(call["id"])
    if worker is not None:
        expected = worker["at"] + max(0.0, call["sent"] - worker["sent"])
        if now > expected + _JUMP:
            now = max(at, expected)
            state["offset"] = now - raw
    if now < at:
        now = at
    state["at"] = now
    return now


def _born(call: Call, raw: float) -> State:
    """A ledger of which nothing is known: cold for as long as starts may be granted ahead."""
    state: State = {
        "epoch": call["fresh"], "at": 0.0, "offset": -raw, "version": 0, "stated": "",
        "rates": [], "tats": [], "budgets": [], "slots": 0, "gate": 0.0,
        "frozen": 0.0, "strayed": 0.0, "gen": 0, "chief": "", "numbers": [], "blob": "",
        "clock": 0.0, "slot_clock": 0.0,
        "reserved": "", "keeper": "", "grace": 0.0, "booked": [], "workers": {},
    }  # fmt: skip
    _restate(state, call, 0.0)
    _chill(state, 0.0, LEAD + _slack(state))
    return state


def _chill(state: State, now: float, seconds: float) -> None:
    """Grant nothing for so long: somebody may be using what this ledger does not know of."""
    state["frozen"] = max(state["frozen"], now + seconds)


def _expire(state: State, now: float) -> None:
    """Forget the workers that are silent, but for those that could not be heard."""
    workers = state["workers"]
    for name in sorted(workers):
        if max(workers[name]["expires"], state["grace"]) < now:
            del workers[name]
    if state["reserved"] != "" and state["keeper"] not in workers:
        state["reserved"] = ""


# Limits


def _slack(state: State) -> float:
    """How far a worker's idea of the ledger's time may be off, in seconds."""
    shortest = _NEVER
    for rate in state["rates"]:
        shortest = min(shortest, rate["span"])
    slack = min(0.2, max(0.02, 0.005 * shortest))
    for name in state["workers"]:
        slack = max(slack, min(state["workers"][name]["unsure"], shortest / 4, 2.0))
    return slack


def _restate(state: State, call: Call, now: float) -> None:
    """Put the caller's limits in force; what was charged to limits alike still counts."""
    tats = []
    for index in range(len(call["rates"])):
        found = -_NEVER if state["version"] == 0 else now  # what strays come before is its past
        for older in range(len(state["rates"])):
            if state["rates"][older]["name"] == call["rates"][index]["name"]:
                found = state["tats"][older]
            elif len(state["rates"]) == len(call["rates"]) and older == index:
                found = max(found, state["tats"][older])
        tats.append(found)
    budgets = []
    for stated in call["budgets"]:
        budget = {
            "name": stated["name"], "kind": stated["kind"], "limit": stated["limit"],
            "share": stated["share"], "width": stated["width"], "interval": stated["interval"],
            "ahead": stated["ahead"], "each": stated["each"], "renews": 0.0, "tat": now,
            "ring": [],
        }  # fmt: skip
        for older in state["budgets"]:
            if older["kind"] == stated["kind"] and older["each"] == stated["each"]:
                budget["tat"] = max(now, older["tat"])
                budget["renews"] = older["renews"]
                for entry in older["ring"]:
                    # The end of the old sub-slot, so that nothing leaves the window too early.
                    ends = (entry[0] + 1) * older["width"]
                    _add(budget, math.floor(ends / budget["width"]), entry[1])
                break
        budgets.append(budget)
    state["rates"], state["tats"], state["budgets"] = call["rates"], tats, budgets
    state["slots"] = call["slots"]
    state["stated"] = call["stated"]
    state["version"] = state["version"] + 1
    state["gen"] = state["gen"] + 1
    state["chief"] = ""
    state["numbers"] = []
    state["blob"] = ""
    state["reserved"] = ""


def _current(state: State, call: Call) -> bool:
    """Whether the caller knows the limits in force: versions begin anew with each ledger."""
    return bool(call["epoch"] == state["epoch"] and call["version"] == state["version"])


# Who calls


def _enter(state: State, call: Call, now: float) -> State:
    """The record of the caller, with what the call says of it."""
    workers = state["workers"]
    name = call["id"]
    before = call["was"] if call["was"] in workers else name
    known = before in workers or call["epoch"] != state["epoch"]
    if before != name:
        del workers[before]
    worker: State | None = workers.get(name)
    if worker is not None and call["n"] > worker["n"] + 1 and call["epoch"] == state["epoch"]:
        _chill(state, now, BEAT + _COLD)  # a replica has taken over that had not heard of all
    if worker is None:
        worker = {
            "clock": state["clock"], "slot_clock": state["slot_clock"], "ask": now, "at": now,
            "need": 0, "use": 0, "want": 0, "held": 0, "priority": 0.0, "weight": 1.0,
            "target": 0, "pairs": 0, "lacked": -_NEVER, "reply": {},
        }  # fmt: skip
        workers[name] = worker
    elif worker["use"] > 0 or worker["held"] > 0:
        spent = worker["held"] * (now - worker["at"]) / worker["weight"]
        worker["slot_clock"] = worker["slot_clock"] + spent
    if call["epoch"] != "" and call["epoch"] != state["epoch"]:
        # It was emptied, or made anew: whoever holds anything says so within a beat of its birth.
        state["frozen"] = max(state["frozen"], BEAT + _COLD)
        for declared in call["declared"]:
            if declared[0] < len(state["budgets"]):
                budget = state["budgets"][declared[0]]
                _add(budget, math.floor((now - declared[1]) / budget["width"]), declared[2])
    if worker["need"] == 0 and call["need"] > 0 and not _lacks(worker, now):
        worker["clock"] = max(worker["clock"], state["clock"])  # an idle one banks no credit
        worker["ask"] = now
    elif call["need"] > 0 and call["priority"] > worker["priority"]:
        worker["ask"] = now
    if worker["want"] <= worker["use"] and call["want"] > call["use"]:
        worker["slot_clock"] = max(worker["slot_clock"], state["slot_clock"])
    worker["n"], worker["sent"], worker["at"] = call["n"], call["sent"], now
    worker["expires"] = now + EXPIRES
    worker["need"], worker["priority"] = call["need"], call["priority"]
    worker["pairs"] = call["pairs"]
    worker["weight"], worker["unsure"] = call["weight"], call["unsure"]
    worker["use"], worker["want"] = call["use"], max(call["want"], call["use"])
    worker["held"] = max(call["held"], call["use"]) if known else call["use"]
    return worker


def _settle(state: State, call: Call, now: float) -> None:
    """Give back what was reserved and not used where it was charged; charge what was used more."""
    since = now - _LATE
    if call["strays"] > 0:
        # It went on without the ledger. It kept a part of the pace, and what nobody else used of it
        # meanwhile pays. Its newest start may have come just now: nothing is granted for as long as
        # that takes. Where the ledger heard nobody, others went on too, and say so soon. What has
        # left the window is owed to nobody.
        since = min(since, now - call["silent"])
        if now < state["grace"]:
            state["frozen"] = max(state["frozen"], state["grace"] - BEAT)
        slack = _slack(state)
        state["strayed"] = max(state["strayed"], now) + _interval(state, slack)
        state["frozen"] = max(state["frozen"], state["strayed"])
        for index in range(len(state["tats"])):
            own = _interval_of(state, index, slack)
            tat = max(state["tats"][index], since) + call["strays"] * own
            most = now + own * state["rates"][index]["units"]
            state["tats"][index] = max(state["tats"][index], min(tat, most))
    if not _current(state, call):
        return
    for refund in call["refunds"]:
        budget = state["budgets"][refund[0]]
        oldest = math.floor(now / budget["width"]) - GRID
        for entry in budget["ring"]:
            if entry[0] == refund[1] and entry[0] >= oldest:
                entry[1] = max(0.0, entry[1] - refund[2])
        budget["tat"] = max(now - budget["ahead"], budget["tat"] - refund[2] * budget["interval"])
    for over in call["overs"]:
        budget = state["budgets"][over[0]]
        _add(budget, math.floor(now / budget["width"]), over[1])
        budget["tat"] = max(budget["tat"], since) + over[1] * budget["interval"]


def _learn(state: State, call: Call, now: float) -> None:
    """Take over a gate, and what the control of a caller has found, if it knows the newest."""
    if call["opens"]:
        state["gate"] = 0.0
        state["gen"] = state["gen"] + 1
        state["chief"], state["numbers"], state["blob"] = "", [], ""
        return
    if call["gate"] > state["gate"]:
        state["gate"] = call["gate"]
    if len(call["numbers"]) == 0:
        return
    chief = state["chief"]
    if call["cut"]:
        if call["gen"] == state["gen"]:
            state["gen"] = state["gen"] + 1
            state["chief"], state["numbers"] = call["id"], call["numbers"]
            state["blob"] = call["blob"]
    elif chief == call["id"] and call["gen"] == state["gen"]:
        state["numbers"] = call["numbers"]
        state["blob"] = call["blob"]


def _tell_learned(state: State, call: Call, reply: Reply, now: float) -> None:
    chief = state["chief"]
    if chief != "" and chief != call["id"]:
        other = state["workers"].get(chief)
        if other is None or (other["need"] == 0 and other["at"] < now - 2 * BEAT):
            # Nobody probes any more: the caller goes on, with what was learned.
            state["chief"] = call["id"]
            state["gen"] = state["gen"] + 1
    reply["gen"] = state["gen"]
    reply["chief"] = 1 if state["chief"] == call["id"] else 0
    reply["numbers"] = state["numbers"]
    reply["blob"] = ""
    if call["gen"] != state["gen"]:
        reply["blob"] = state["blob"]
    reply["gate"] = state["gate"] if state["gate"] > now else 0.0


# Slots


def _capacity(state: State) -> float:
    """How many may be in flight in all: what is stated, or what was found; 0 for no limit."""
    capacity: float = state["slots"]
    if len(state["numbers"]) > 1 and state["numbers"][1] > 0:
        found = max(1, math.floor(state["numbers"][1]))
        capacity = float(found) if capacity == 0 else min(capacity, float(found))
    return capacity


def _share_slots(state: State, name: str, worker: State, reply: Reply, now: float) -> None:
    """Say how many slots the caller should have, and add what is free of them. The ledger only
    adds: a worker gives up what it holds by itself, and says so.
    """
    capacity = _capacity(state)
    reply["short"] = 0
    if capacity == 0:
        reply["held"], reply["target"] = -1, -1
        return
    workers = state["workers"]
    taken = 0
    for each in workers:
        taken += workers[each]["held"]
    target = _targets(state, capacity, now)[name]
    worker["target"] = target
    free = capacity - taken
    if state["frozen"] > now:
        free = 0
    more = min(min(worker["want"], target) - worker["held"], free)
    if more > 0:
        worker["held"] = worker["held"] + more
        state["slot_clock"] = max(state["slot_clock"], worker["slot_clock"])
    reply["held"], reply["target"] = worker["held"], target
    contested = False
    for each in workers:
        other = workers[each]
        if each != name and (other["held"] > 0 or other["want"] > other["held"]):
            contested = True
    short = False
    for each in workers:
        if workers[each]["want"] > workers[each]["held"]:
            short = True
    if (contested and short) or (state["frozen"] > now and short):
        reply["short"] = 1


def _targets(state: State, capacity: float, now: float) -> dict[str, float]:
    """The slots that each worker should have: the highest waiting priority first, equal ones by
    weight and no more than they want, what is left over by turns.
    """
    workers = state["workers"]
    targets: dict[str, float] = {}
    left = capacity
    groups: list[float] = []
    for name in sorted(workers):
        worker = workers[name]
        targets[name] = 0
        if worker["want"] <= worker["use"]:
            targets[name] = min(worker["use"], left)  # it waits for nothing
            left -= targets[name]
        elif worker["priority"] not in groups:
            groups.append(worker["priority"])
    for priority in sorted(groups, reverse=True):
        active = []
        for name in sorted(workers):
            worker = workers[name]
            if worker["want"] > worker["use"] and worker["priority"] == priority:
                active.append(name)
        while left > 0 and len(active) > 0:
            weights = 0.0
            for name in active:
                weights += workers[name]["weight"]
            given = 0.0
            rest = []
            share = left / weights
            for name in active:
                want = workers[name]["want"] - targets[name]
                part = math.floor(share * workers[name]["weight"] + _DUST)
                part = min(want, part)
                targets[name] = targets[name] + part
                given += part
                if part < want:
                    rest.append(name)
            left -= given
            active = rest
            if given == 0:
                _by_turns(workers, targets, active, left, now)
                left = 0
    return targets


def _by_turns(
    workers: State, targets: dict[str, float], active: list[str], left: float, now: float
) -> None:
    """One slot more for `left` of the `active` workers: for those that had the least of them until
    now, and whoever holds one keeps it for its tenure.
    """
    ranks = []
    for name in active:
        worker = workers[name]
        had = worker["slot_clock"] + worker["held"] * (now - worker["at"]) / worker["weight"]
        if worker["held"] > targets[name]:
            had -= _TENURE / worker["weight"]
        ranks.append([had, name])
    ranks.sort()
    for index in range(len(ranks)):
        if index < left:
            targets[ranks[index][1]] = targets[ranks[index][1]] + 1


# Starts and tokens


def _interval(state: State, slack: float) -> float:
    """Seconds between two starts, by the slowest of the rates."""
    longest = 0.0
    for index in range(len(state["rates"])):
        longest = max(longest, _interval_of(state, index, slack))
    return longest


def _interval_of(state: State, index: int, slack: float) -> float:
    rate = state["rates"][index]
    return float((rate["clearance"] + slack) / rate["units"] / _factor(state, 0))


def _factor(state: State, index: int) -> float:
    """What control has left of a limit; 1 where it was never cut."""
    if index < len(state["numbers"]) and state["numbers"][index] > 0:
        return float(state["numbers"][index])
    return 1.0


def _waiting(worker: State, now: float) -> bool:
    """Whether a worker takes its turn when it comes: one that misses it is not waited for."""
    return bool(worker["need"] > 0 and now <= worker["ask"] + _ABSENT)


def _goes_before(first: State, first_name: str, second: State, second_name: str) -> bool:
    if first["priority"] != second["priority"]:
        return bool(first["priority"] > second["priority"])
    if first["clock"] != second["clock"]:
        return bool(first["clock"] < second["clock"])
    return first_name < second_name


def _lacks(worker: State, now: float) -> bool:
    """Whether the paces gave a worker less than it asked for, just now."""
    return bool(now <= worker["lacked"] + _ABSENT)


def _grant(
    state: State, name: str, worker: State, call: Call, reply: Reply, now: float,
    whole: State | None,
) -> None:  # fmt: skip
    """Grant the caller's next starts and the tokens for them, or say when to ask."""
    slack = _slack(state)
    _roll_all(state, call, reply, now)
    _forget_booked(state, slack, now)
    if call["need"] == 0:
        if state["reserved"] == name:
            state["reserved"] = ""
        if whole is not None and whole["reserved"] == name:
            whole["reserved"] = ""
        return
    if _held_back(state, worker, call, reply, now):
        return
    spacing = _interval(state, slack)
    opens, binds = _opens(state, slack)
    rank, waiting, weights, least = _place(state, name, worker, now)
    segment = LEAD * worker["weight"] / weights
    each = max(_turn(state, call, segment, spacing), LEAD / waiting)
    paired = whole is not None and call["beside"] in whole["workers"]
    lead = _FAR if paired else LEAD
    turn = opens - lead + rank * LEAD / waiting
    if now < turn:
        ask = max(turn, min(opens - lead + rank * each, now + BEAT))
        _deny(worker, reply, now, binds, ask, opens)
        worker["lacked"] = now
        return
    starts = call["need"]
    if spacing > 0:
        starts = min(starts, max(1, math.floor(segment / spacing + _DUST)))
    ahead = 2 * waiting if worker["clock"] > least + LEAD / 8 else 0
    place = [segment, weights, rank * LEAD / waiting, ahead]
    starts = _with_tokens(state, name, worker, call, reply, starts, place, now)
    if starts == 0:
        worker["lacked"] = now
        return
    base = max(opens, max(now - _LATE, state["frozen"]))
    runs = _runs(state, base, spacing, starts, segment)
    if whole is not None and paired:
        runs = _pair(whole, worker, call, reply, [runs[0][0], spacing, starts], now)
        if len(runs) == 0:
            return
        starts = len(runs)
    state["reserved"] = ""
    last = _hand_out(state, worker, call["costs"], reply, runs, now)
    for index in range(len(state["rates"])):
        own = _interval_of(state, index, slack)
        ends = last + own + state["rates"][index]["burst"] * own
        state["tats"][index] = max(state["tats"][index], ends)
    opens, binds = _opens(state, slack)
    ask = opens - lead + (waiting - 1) * each
    worker["ask"] = max(now + _LEAST, min(ask, now + BEAT))
    reply["ask"] = worker["ask"]
    worker["lacked"] = -_NEVER
    if call["need"] > reply["count"]:
        reply["binds"], reply["until"] = binds, opens
        worker["lacked"] = now


def _hand_out(
    state: State, worker: State, costs: list[Any], reply: Reply, runs: list[list[float]], now: float
) -> float:
    """Give the worker `runs` of starts, and charge their tokens; the moment of the last of them."""
    slack = _slack(state)
    spacing = _interval(state, slack)
    starts = 0.0
    last = now
    for run in runs:
        starts += run[1]
        last = run[0] + (run[1] - 1) * spacing
    reply["runs"], reply["spacing"], reply["count"] = runs, spacing, starts
    reply["good"] = max(now, last) + slack + _LATE
    if spacing == 0:
        reply["good"] = max(now, last) + LEAD
    worth = _charge(state, costs, reply, starts, now)
    state["clock"] = max(state["clock"], worker["clock"])
    worker["clock"] = worker["clock"] + max(worth, starts * spacing) / worker["weight"]
    return last


def _runs(
    state: State, base: float, spacing: float, starts: float, segment: float
) -> list[list[float]]:
    """So many starts from `base` on, as runs of them that step over what is booked; no more than go
    into a segment from there.
    """
    if spacing == 0:
        return [[base, starts]]
    runs: list[list[float]] = []
    left = starts
    at = base
    for booked in [*state["booked"], _NEVER]:
        if left > 0 and at + spacing <= booked + _TICK:
            count = min(left, math.floor((booked - at) / spacing + _DUST))
            if len(runs) > 0:
                count = min(count, math.floor((base + segment - at) / spacing + _DUST))
                if count <= 0:
                    break
            runs.append([at, count])
            left -= count
            at += count * spacing
        if booked + spacing > at + _TICK:
            at = booked + spacing
    return runs


# Pairs: a start of a key's, and one of the whole's for the same moment


def _pair(
    whole: State, worker: State, call: Call, reply: Reply, plan: list[float], now: float
) -> list[list[float]]:
    """Book starts of the whole for those that its key's ledger would grant: `plan` says from when,
    their spacing, how many. The key's as runs of one; none where the caller is told to wait.
    """
    moment, spacing, starts = plan[0], plan[1], plan[2]
    name = call["beside"]
    there = whole["workers"][name]
    at = whole["at"]
    shift = at - now
    slack = _slack(whole)
    _forget_booked(whole, slack, at)
    if there["need"] == 0 and not _lacks(there, at):
        there["clock"] = max(there["clock"], whole["clock"])  # an idle one banks no credit
    opens = _opens(whole, slack)[0]
    first = max(max(opens, at), max(whole["gate"], whole["frozen"]))
    first = first + max(0.0, _lag(whole, name, there, call, at) - LEAD)
    ready, starts = _room_beside(whole, name, there, call, starts, at)
    ready = max(ready, first - _FAR)
    if ready > at:
        there["lacked"] = at
        _deny(worker, reply, now, "elsewhere", min(ready - shift, now + BEAT), ready - shift)
        return []
    mine: list[list[float]] = []
    theirs: list[list[float]] = []
    own = _interval(whole, slack)
    while len(mine) < starts:
        booked = _free_at(whole, max(moment + shift + _APART, first), opens, slack)
        if booked > moment + shift + max(own, LEAD / 4):
            there["lacked"] = at
        if booked > at + _FAR + LEAD:
            break
        moment = max(moment, booked - shift - _NEAR)
        mine.append([moment, 1])
        theirs.append([booked, 1])
        if own > 0:
            whole["booked"].append(booked)
            whole["booked"].sort()
        moment += spacing
    if len(mine) == 0:
        ask = max(now + LEAD / 2, first - shift - _FAR)
        _deny(worker, reply, now, "elsewhere", min(ask, now + BEAT), first - shift)
        return mine
    beside: Reply = {"slack": slack, "slots_of": [], "amounts": []}
    beside["version"], beside["epoch"] = whole["version"], whole["epoch"]
    _hand_out(whole, there, call["costs_beside"], beside, theirs, at)
    reply["beside"] = [beside]
    whole["reserved"] = ""
    return mine


def _lag(whole: State, name: str, there: State, call: Call, at: float) -> float:
    """For how many seconds the pace of the whole is that of others, who lack starts and have had
    less than the caller; for ever while more urgent ones do.
    """
    lag = 0.0
    for other_name in sorted(whole["workers"]):
        other = whole["workers"][other_name]
        if other_name != name and _lacks(other, at):
            if other["priority"] > call["priority"]:
                return _NEVER
            lag += max(0.0, there["clock"] - other["clock"]) * other["weight"]
    return lag


def _room_beside(
    whole: State, name: str, there: State, call: Call, starts: float, at: float
) -> tuple[float, float]:
    """When the whole has a slot and tokens for the first of so many starts, and for how many."""
    kept = _kept_until(whole, call["id"], call["priority"], at)
    if len(call["costs_beside"]) != len(whole["budgets"]):
        return at + _SOON, 0  # its limits were stated anew
    if _capacity(whole) > 0 and there["held"] == 0:
        return at + _SOON, 0
    if kept > 0:
        return max(at + LEAD / 2, min(kept, at + BEAT)), 0
    for index in range(len(whole["budgets"])):
        budget = whole["budgets"][index]
        _roll(budget, at)
        head, mean = _costs(call["costs_beside"], budget, index)
        ready = _room_at(budget, head)
        if ready > at:
            if budget["kind"] != "quota":
                whole["reserved"], whole["keeper"] = call["id"], name
            return ready, 0
        starts = min(starts, _fit(whole, budget, index, head, mean, LEAD))
    return at, starts


def _free_at(whole: State, moment: float, opens: float, slack: float) -> float:
    """From `moment` on, where a start can be booked: a multiple of the spacing beyond where the
    pace opens, for what lies between would be lost, and apart from what is booked.
    """
    spacing = _interval(whole, slack)
    if spacing == 0:
        return moment
    if opens > whole["at"]:
        moment = opens + math.ceil((moment - opens) / spacing - _DUST) * spacing
    for booked in whole["booked"]:
        if booked - spacing + _TICK < moment and moment < booked + spacing - _TICK:
            moment = booked + spacing
    return moment


def _forget_booked(state: State, slack: float, now: float) -> None:
    """Drop what is booked and lies behind."""
    spacing = _interval(state, slack)
    passed = max(_paced(state, slack)[0], now - _LATE)
    kept = []
    for booked in state["booked"]:
        if booked + spacing > passed + _TICK:
            kept.append(booked)  # noqa: PERF401 - as Lua has it
    state["booked"] = kept


def _turn(state: State, call: Call, segment: float, spacing: float) -> float:
    """For how long the paces are taken by a grant such as the caller's, in seconds."""
    each = segment
    if spacing > 0:
        each = max(1, math.floor(segment / spacing + _DUST)) * spacing
    for index in range(len(state["budgets"])):
        # Half of what it reserves: what is given back lets the next ones go sooner.
        budget = state["budgets"][index]
        paced = _costs(call["costs"], budget, index)[1] * budget["interval"]
        each = max(each, paced / _factor(state, index + 2) / 2)
    return each


def _held_back(state: State, worker: State, call: Call, reply: Reply, now: float) -> bool:
    """Whether something else than paces and tokens keeps the caller from any start: it is told."""
    known = call["version"] == 0 and call["stated"] == state["stated"]
    if not _current(state, call) and not known:
        # It asked by limits that hold no more: it asks again by those that do.
        reply["ask"] = now + _LEAST
        return True
    if state["gate"] > now:
        _deny(worker, reply, now, "gate", state["gate"], state["gate"])
        return True
    if _capacity(state) > 0 and worker["held"] == 0:
        _deny(worker, reply, now, "concurrency", now + _SOON, now + _SOON)
        return True
    if state["frozen"] > now:
        _deny(worker, reply, now, "gate", state["frozen"], state["frozen"])
        return True
    return False


def _place(state: State, name: str, worker: State, now: float) -> tuple[int, int, float, float]:
    """How many go before the caller, how many wait with it, the sum of their weights, and the least
    clock of those that could go as well.
    """
    rank, waiting, weights, least = 0, 1, worker["weight"], worker["clock"]
    slots = _capacity(state)
    for other_name in sorted(state["workers"]):
        other = state["workers"][other_name]
        if other_name != name and _waiting(other, now):
            waiting += 1
            weights += other["weight"]
            if _goes_before(other, other_name, worker, name):
                rank += 1
            if other["priority"] == worker["priority"] and (
                slots == 0 or other["held"] > other["use"]
            ):
                least = min(least, other["clock"])
    return rank, waiting, weights, least


def _with_tokens(
    state: State, name: str, worker: State, call: Call, reply: Reply,
    starts: int, place: list[float], now: float,
) -> int:  # fmt: skip
    """How many of `starts` there are tokens for; 0 where the caller is told to wait. What the head
    of a queue waits for is reserved for it, or large requests would starve. `place` is the caller's
    segment, the sum of the weights, how long after the first it comes, and for how many there has
    to be room, for it has had more than others.
    """
    budgets = state["budgets"]
    segment, weights, behind = place[0], place[1], place[2]
    kept = _kept_until(state, name, worker["priority"], now)
    if kept > 0:
        # Behind the one that waits for room, which knows when there is some.
        ask = max(now + LEAD / 2, min(kept + behind, now + BEAT))
        _deny(worker, reply, now, "tokens", ask, kept)
        return 0
    for index in range(len(budgets)):
        budget = budgets[index]
        head, mean = _costs(call["costs"], budget, index)
        if place[3] > 0 and _room_at(budget, place[3] * head) > now:
            # What is given back is whose who comes first: it is left to those who had less.
            _deny(worker, reply, now, budget["kind"], now + LEAD / 2, now + LEAD / 2)
            return 0
        ready = _room_at(budget, head)
        if ready > now:
            if budget["kind"] != "quota":
                state["reserved"], state["keeper"] = name, name
            _deny(worker, reply, now, budget["kind"], min(ready, now + BEAT), ready)
            return 0
        # What the pace has not used lately may be caught up with: a fair part of it.
        saved = max(0.0, min(budget["ahead"], now - budget["tat"] + budget["ahead"]))
        part = segment + saved * worker["weight"] / weights
        starts = min(starts, _fit(state, budget, index, head, mean, part))
    return starts


def _kept_until(state: State, name: str, priority: float, now: float) -> float:
    """When there may be room for the head of a queue, for which that is kept from `name`, an asker
    of that priority; 0 where it may take what there is.
    """
    if state["reserved"] == "" or state["reserved"] == name:
        return 0.0
    keeper = state["workers"].get(state["keeper"])
    first = keeper is not None and keeper["priority"] >= priority
    if keeper is not None and first and (_waiting(keeper, now) or _lacks(keeper, now)):
        return float(max(now, keeper["ask"]))
    state["reserved"] = ""
    return 0.0


def _charge(state: State, costs: list[Any], reply: Reply, starts: float, now: float) -> float:
    """Charge the tokens of so many starts at their latest possible use; what they are worth, in
    seconds of the pace that they cost most of.
    """
    worth = 0.0
    for index in range(len(state["budgets"])):
        budget = state["budgets"][index]
        head, mean = _costs(costs, budget, index)
        amount = head + (starts - 1) * mean
        slot = math.floor(reply["good"] / budget["width"])
        _add(budget, slot, amount)
        paced = amount * budget["interval"] / _factor(state, index + 2)
        budget["tat"] = max(budget["tat"], now - _LATE) + paced
        worth = max(worth, paced)
        reply["slots_of"].append(slot)
        reply["amounts"].append(amount)
    return worth


def _opens(state: State, slack: float) -> tuple[float, str]:
    """The moment from which the next start may go, beside what is booked, and what binds then."""
    opens, binds = _paced(state, slack)
    spacing = _interval(state, slack)
    for booked in state["booked"]:
        if booked - spacing + _TICK < opens and opens < booked + spacing - _TICK:
            opens, binds = booked + spacing, "requests"
    return opens, binds


def _paced(state: State, slack: float) -> tuple[float, str]:
    """The moment from which the paces let the next start go, and what binds then."""
    opens, binds = -_NEVER, ""
    for index in range(len(state["rates"])):
        tolerance = state["rates"][index]["burst"] * _interval_of(state, index, slack)
        if state["tats"][index] - tolerance > opens:
            opens, binds = state["tats"][index] - tolerance, "requests"
    for budget in state["budgets"]:
        if budget["interval"] > 0 and budget["tat"] - budget["ahead"] > opens:
            opens, binds = budget["tat"] - budget["ahead"], budget["kind"]
    return opens, binds


def _deny(worker: State, reply: Reply, now: float, binds: str, ask: float, until: float) -> None:
    worker["ask"] = max(now + _LEAST, ask)
    reply["ask"], reply["binds"], reply["until"] = worker["ask"], binds, until


def _costs(costs: list[Any], budget: State, index: int) -> tuple[float, float]:
    """What the first start takes of a budget, and what the others take each."""
    if budget["each"] == 1:
        return 1.0, 1.0
    head, mean = costs[index][0], costs[index][1]
    if head > budget["share"]:
        head = min(head, budget["limit"])
    return head, mean


def _room_at(budget: State, cost: float) -> float:
    """When the window of a budget has room for `cost`. One larger than its share waits until it is
    empty.
    """
    at: float = -_NEVER
    total = 0.0
    for entry in budget["ring"]:
        total += entry[1]
    room = max(0.0, budget["share"] - cost)
    if cost > 0 and total > room + _DUST:
        for entry in budget["ring"]:
            total -= entry[1]
            at = (entry[0] + GRID + 1.001) * budget["width"]
            if total <= room + _DUST:
                break
        if budget["renews"] > 0:
            at = budget["renews"]
    return at


def _fit(state: State, budget: State, index: int, head: float, mean: float, segment: float) -> int:
    """How many starts a budget has tokens for: within a segment of its pace, and its window."""
    if mean <= 0:
        return 1000000
    total = 0.0
    for entry in budget["ring"]:
        total += entry[1]
    room = budget["share"] - total - head
    most = math.floor(room / mean + _DUST)
    if budget["interval"] > 0 and budget["each"] == 0:
        paced = budget["interval"] / _factor(state, index + 2)
        most = min(most, math.floor((segment / paced - head) / mean + 0.5))
    return 1 + max(0, int(most))


def _roll_all(state: State, call: Call, reply: Reply, now: float) -> None:
    """Drop what has left the windows; tell what is used of quotas, by the age of its sub-slots."""
    reply["quotas"] = []
    for index in range(len(state["budgets"])):
        budget = state["budgets"][index]
        if _current(state, call):
            for renewal in call["renews"]:
                # The last of the moments that workers name by clocks of their own: none of them may
                # be ahead of the server's. Who has passed it names the next one.
                until = renewal[1] - budget["width"] * GRID / 2
                if renewal[0] == index and (budget["renews"] == 0 or until < budget["renews"]):
                    budget["renews"] = max(budget["renews"], renewal[1])
        _roll(budget, now)
        if budget["kind"] == "quota":
            used = []
            for entry in budget["ring"]:
                used.append([(entry[0] + 1) * budget["width"] - now, entry[1]])  # noqa: PERF401 - as Lua has it
            reply["quotas"].append(used)


def _roll(budget: State, now: float) -> None:
    """Drop what has left the window, or all of it where a quota begins anew."""
    if budget["renews"] > 0:
        if now >= budget["renews"]:
            budget["ring"] = []
            budget["renews"] = 0.0
        return
    oldest = math.floor(now / budget["width"]) - GRID
    kept = []
    for entry in budget["ring"]:
        if entry[0] >= oldest and entry[1] > 0:
            kept.append(entry)  # noqa: PERF401 - in what Lua has
    budget["ring"] = kept


def _add(budget: State, slot: float, amount: float) -> None:
    """Charge `amount` to the sub-slot `slot`; the oldest stand first."""
    ring = budget["ring"]
    for entry in ring:
        if entry[0] == slot:
            entry[1] = entry[1] + amount
            return
    ring.append([slot, amount])
    ring.sort()
